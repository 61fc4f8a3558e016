"""Downloads weights whose digest is known, once: into a directory where the digest is the name.

What is there under its digest was whole and right when it was renamed, and is checked again before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from model.checkpoint import CheckpointError
from service.weights_reference import RemoteWeights

log = logging.getLogger(__name__)

#: Bytes that are read at once, and the most that weights may have.
PIECE, MOST_BYTES = 2**20, 2**32
#: Seconds without a byte after which a download is given up.
SILENCE_S = 30.0


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to HTTPS addresses only."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        """Return the request to follow, or raise HTTPError."""
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.HTTPError(newurl, code, "a redirect away from HTTPS is not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def fetch(weights: RemoteWeights, cache: Path | None = None) -> Path:
    """Return the path of the weights in `cache` (None: ~/.cache/dmvfn); downloaded where they are not there yet.

    Raises CheckpointError: the address does not answer, its file has another digest, or the cache cannot be written.
    """
    try:
        folder = cache or Path.home() / ".cache" / "dmvfn"
        path = folder / f"{weights.sha256}{Path(urlsplit(weights.url).path).suffix or '.safetensors'}"
        if path.is_file() and _digest(path) == weights.sha256:
            return path
        folder.mkdir(parents=True, exist_ok=True)
        _download(weights, path)
    except (OSError, RuntimeError, HTTPException) as error:  # RuntimeError: there is no home directory
        raise CheckpointError(
            f"{weights}: cannot be downloaded ({error}); DMVFN_WEIGHTS_CACHE names where it is kept"
        ) from error
    return path


def _download(weights: RemoteWeights, path: Path) -> None:
    opener = urllib.request.build_opener(_HttpsOnly)
    log.info("downloading weights from %s", weights)
    # Beside its place, for a rename to be atomic; hidden and with a name of its own, for several may do this at once.
    descriptor, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=path.parent)
    try:
        digest, size = hashlib.sha256(), 0
        with os.fdopen(descriptor, "wb") as file, opener.open(weights.url, timeout=SILENCE_S) as answer:
            while piece := answer.read(PIECE):
                size += len(piece)
                if size > MOST_BYTES:
                    raise CheckpointError(f"{weights}: more than {MOST_BYTES} bytes")
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != weights.sha256:
            raise CheckpointError(f"{weights}: what is there has another digest, {digest.hexdigest()}")
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
