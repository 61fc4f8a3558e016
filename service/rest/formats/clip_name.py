"""The name that a clip's result is kept under, from the name that its file was sent with."""

from __future__ import annotations

import re
from urllib.parse import unquote

from python_multipart.multipart import parse_options_header

#: Characters of a name at most; file systems take 255 bytes.
MOST = 60
DEFAULT = "clip"
_UNSAFE = re.compile(r"[^\w.\- ]+")


def stem(disposition: str) -> str:
    """Return the file's name of a Content-Disposition, without its folders and ending; "clip" where it tells none."""
    _, parameters = parse_options_header(disposition)
    extended = parameters.get(b"filename*", b"").decode("latin-1")
    name = unquote(extended.partition("''")[2]) or parameters.get(b"filename", b"").decode(errors="replace")
    name = re.split(r"[/\\]", name)[-1]
    base = name.rpartition(".")[0] or name
    return _UNSAFE.sub("_", base).strip(" ._")[:MOST].strip(" ._") or DEFAULT
