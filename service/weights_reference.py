"""Names the weights that a setting means: a file, a directory of versions, or an address with its digest.

An address is HTTPS, an object of a bucket (`s3://`), or an artifact in a registry of images (`oci://`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from service.core.types import VERSION_NAME

_DIGEST = re.compile(r"sha256=([0-9a-f]{64})")
#: As every tool writes it: HOST[:PORT]/REPOSITORY[:TAG]@sha256:DIGEST. The digest is that of the manifest.
_ARTIFACT = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(:[0-9]{1,5})?)/"
    r"(?P<repository>[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*)"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?@sha256:(?P<digest>[0-9a-f]{64})"
)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


@dataclass(frozen=True, slots=True)
class RemoteWeights:
    """A file behind `url`, whose bytes have the digest `sha256` (64 hex digits)."""

    url: str
    sha256: str

    def __str__(self) -> str:
        """Write it as it is set, but for a query, which may hold a signature that opens the address."""
        return f"{self.url.partition('?')[0]}#sha256={self.sha256}"


@dataclass(frozen=True, slots=True)
class ArtifactWeights:
    """A file in the artifact `repository` of the registry `host`, whose manifest has the digest `sha256`."""

    host: str
    repository: str
    sha256: str

    def __str__(self) -> str:
        """Write it as it is set, but for a tag, which a digest makes idle."""
        return f"oci://{self.host}/{self.repository}@sha256:{self.sha256}"


def parse(text: str) -> Path | RemoteWeights | ArtifactWeights | None:
    """Read the setting; None where it is empty. Raises ValueError: nothing is there, or no digest is given."""
    if text.startswith("oci://"):
        return _artifact(text)
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


def _artifact(text: str) -> ArtifactWeights:
    match = _ARTIFACT.fullmatch(text)
    if match is None:
        raise ValueError("must be oci://HOST/REPOSITORY@sha256: and the 64 hex digits of its manifest's digest")
    return ArtifactWeights(match["host"], match["repository"], match["digest"])


def _remote(text: str) -> RemoteWeights:
    url, _, fragment = text.partition("#")
    parts = urlsplit(url)
    is_object = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc) and parts.path.strip("/") and not parts.query
    if not is_object and (parts.scheme != "https" or not parts.hostname):
        raise ValueError("must be a file, a directory, https://HOST/PATH or s3://BUCKET/KEY and #sha256=, or oci://...")
    if parts.username or parts.password:
        raise ValueError("an address with a password is not taken: sign the URL, or mount the file")
    digest = _DIGEST.fullmatch(fragment.lower())
    if digest is None:
        raise ValueError("an address needs the digest of its file: end it with #sha256= and 64 hex digits")
    return RemoteWeights(url, digest[1])
