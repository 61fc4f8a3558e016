"""Downloads weights whose digest is known, once: into a directory where the digest is the name.

What is there under its digest was whole and right when it was renamed, and is checked again before it is used.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from model.checkpoint import CheckpointError
from service.engine.versions.https_client import read_https
from service.engine.versions.registry import MOST_MANIFEST_BYTES, Registry, weights_of
from service.engine.versions.s3_weights import read_object
from service.settings import Settings
from service.weights_reference import ArtifactWeights, RemoteWeights

log = logging.getLogger(__name__)

#: The most bytes that weights may have.
MOST_BYTES = 2**32
#: Endings of files that are weights.
SUFFIXES = (".safetensors", ".pkl", ".pth")


class OtherDigest(Exception):
    """What is there is not what was named."""


def fetch(weights: RemoteWeights | ArtifactWeights, settings: Settings) -> Path:
    """Return the path of the weights in `settings.weights_cache`; downloaded where they are not there yet.

    Raises CheckpointError: the address does not answer, its file has another digest, or the cache cannot be written.
    """
    try:
        folder = settings.weights_cache or Path.home() / ".cache" / "dmvfn"
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(weights, ArtifactWeights):
            return _artifact(weights, folder, settings)
        suffix = Path(urlsplit(weights.url).path).suffix or SUFFIXES[0]
        read = partial(read_object, settings=settings) if weights.url.startswith("s3://") else read_https
        return _kept(folder / f"{weights.sha256}{suffix}", partial(read, weights.url), weights)
    except (OtherDigest, ImportError) as error:
        raise CheckpointError(f"{weights}: {error}") from error
    except (OSError, RuntimeError, ValueError, HTTPException) as error:  # RuntimeError: there is no home directory
        raise CheckpointError(
            f"{weights}: cannot be downloaded ({error}); DMVFN_WEIGHTS_CACHE names where it is kept"
        ) from error


def _artifact(weights: ArtifactWeights, folder: Path, settings: Settings) -> Path:
    """Keep the manifest, too: a start whose files are all there asks no registry."""
    registry = Registry(weights, settings.registry_logins)
    path = folder / f"{weights.sha256}.json"
    manifest = _kept(path, partial(registry.manifest, weights.sha256), weights, MOST_MANIFEST_BYTES)
    file = weights_of(manifest.read_bytes(), SUFFIXES)
    suffix = Path(file.name).suffix or SUFFIXES[0]
    return _kept(folder / f"{file.sha256}{suffix}", partial(registry.file, file.sha256), weights)


def _kept(path: Path, read: Callable[[], Iterator[bytes]], weights: object, most: int = MOST_BYTES) -> Path:
    """Return `path`, whose name begins with its content's digest; read anew where it is not there or damaged.

    Raises OtherDigest, for more bytes than `most`, too, and what `read` raises.
    """
    sha256 = path.name.partition(".")[0]
    if path.is_file() and _digest(path) == sha256:
        return path
    log.info("downloading weights from %s", weights)
    # Beside its place, for a rename to be atomic; hidden and with a name of its own, for several may do this at once.
    # Not by tempfile, whose files are their user's alone: other users of a shared volume read these, too.
    part = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        digest, size = hashlib.sha256(), 0
        with part.open("xb") as file:
            for piece in read():
                size += len(piece)
                if size > most:
                    raise OtherDigest(f"more than {most} bytes")
                digest.update(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise OtherDigest(f"what is there has another digest, {digest.hexdigest()}")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
