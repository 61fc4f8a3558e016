"""The name that a clip's result is kept under, from the name that its file was sent with."""

from __future__ import annotations

import re
from urllib.parse import unquote

from service.rest.formats.multipart import header_parameters

#: Characters of a name at most; file systems take 255 bytes.
MOST = 60
DEFAULT = "clip"
_EXTENDED = re.compile(r"filename\*\s*=\s*UTF-8''([^;\s]+)", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.\- ]+")


def stem(disposition: str) -> str:
    """Return the file's name of a Content-Disposition, without its folders and ending; "clip" where it tells none."""
    _, parameters = header_parameters(disposition, "Content-Disposition")
    match = _EXTENDED.search(disposition)
    name = unquote(match[1]) if match else parameters.get(b"filename", b"").decode(errors="replace")
    name = re.split(r"[/\\]", name)[-1]
    base = name.rpartition(".")[0] or name
    return _UNSAFE.sub("_", base).strip(" ._")[:MOST].strip(" ._") or DEFAULT
