"""Names the weights that a setting means: a file, a directory of versions, or an HTTPS address with its digest."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from service.core.types import VERSION_NAME

_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class RemoteWeights:
    """A file behind `url`, whose bytes have the digest `sha256` (64 hex digits)."""

    url: str
    sha256: str

    def __str__(self) -> str:
        """Write it as it is set, but for a query, which may hold a signature that opens the address."""
        return f"{self.url.partition('?')[0]}#sha256={self.sha256}"


def parse(text: str) -> Path | RemoteWeights | None:
    """Read the setting; None where it is empty. Raises ValueError: nothing is there, or no digest is given."""
    if "://" in text:
        return _remote(text)
    return existing(text, or_directory=True)


def existing(text: str, *, or_directory: bool = False) -> Path | None:
    """Return the path of a file that is there; None where `text` is empty. Raises ValueError: it is not there."""
    if not text:
        return None
    path = Path(text)
    try:
        is_there = path.is_file() or (or_directory and path.is_dir())
    except OSError:  # a name too long, a folder that may not be read
        is_there = False
    if not is_there:
        raise ValueError("no such file or directory" if or_directory else "no such file")
    return path


def version_names(text: str) -> tuple[str, ...]:
    """Read names of versions separated by commas. Raises ValueError for what can be none, or is given twice."""
    names = tuple(word.strip() for word in text.split(",") if word.strip())
    if not all(VERSION_NAME.fullmatch(name) for name in names) or len(set(names)) != len(names):
        raise ValueError("must be different names of letters, digits, dots, dashes and underscores")
    return names


def _remote(text: str) -> RemoteWeights:
    url, _, fragment = text.partition("#")
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname:
        raise ValueError("must be a file, a directory or https://HOST/PATH#sha256=DIGEST")
    if parts.username or parts.password:
        raise ValueError("an address with a password is not taken: sign the URL, or mount the file")
    digest = _DIGEST.fullmatch(fragment.lower())
    if digest is None:
        raise ValueError("an address needs the digest of its file: end it with #sha256= and 64 hex digits")
    return RemoteWeights(url, digest[1])
