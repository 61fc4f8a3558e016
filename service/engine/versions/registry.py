"""Reads artifacts of registries (OCI's Distribution, which Docker's registries speak): manifests and files by digest.

Knows nothing of weights but the endings of their names. A registry that asks for a login is given that of Docker's
`config.json`, by a token where it wants one, as Docker itself does; credential helpers are not run.
"""

from __future__ import annotations

import base64
import json
import re
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from service.engine.versions.https_client import opened, pieces_of
from service.weights_reference import ArtifactWeights

#: Most bytes of a manifest, as registries themselves bound it, and of an answer with a token.
MOST_MANIFEST_BYTES = 4 * 2**20
TITLE = "org.opencontainers.image.title"
MANIFESTS = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, slots=True)
class ArtifactFile:
    """A file of an artifact: the digest of its bytes (64 hex digits), and its name, "" where it has none."""

    sha256: str
    name: str


def weights_of(manifest: bytes, endings: tuple[str, ...]) -> ArtifactFile:
    """Return the one file of a manifest that ends so; without names, its only one. Raises ValueError: there is none."""
    document = json.loads(manifest)
    layers = document.get("layers") if isinstance(document, dict) else None
    if not isinstance(layers, list):
        raise ValueError("the digest is that of no manifest; of an index give the digest of one of its manifests")
    files = [file for file in map(_file, layers) if file is not None]
    named = [file for file in files if file.name.endswith(endings)] or [file for file in files if not file.name]
    if len(named) != 1:
        raise ValueError(f"must hold one file that ends in {', '.join(endings)}; it holds {len(named)}")
    return named[0]


def _file(layer: Any) -> ArtifactFile | None:
    digest = re.fullmatch(r"sha256:([0-9a-f]{64})", str(layer.get("digest")) if isinstance(layer, dict) else "")
    if digest is None:
        return None
    annotations = layer.get("annotations")
    name = annotations.get(TITLE) if isinstance(annotations, dict) else None
    return ArtifactFile(digest[1], name if isinstance(name, str) else "")


class Registry:
    """Asks one repository for manifests and files. Methods raise OSError, HTTPException or ValueError, and block."""

    def __init__(self, artifact: ArtifactWeights, logins: Path | None = None) -> None:
        """Take the login from `logins`, Docker's `config.json`; None: ask without one."""
        self._base = f"https://{artifact.host}/v2/{artifact.repository}"
        self._login = _login(logins, artifact.host) if logins is not None else ""
        self._authorization = ""

    def manifest(self, sha256: str) -> Iterator[bytes]:
        """Yield a manifest's bytes."""
        return self._read(f"{self._base}/manifests/sha256:{sha256}", {"Accept": MANIFESTS})

    def file(self, sha256: str) -> Iterator[bytes]:
        """Yield a file's bytes."""
        return self._read(f"{self._base}/blobs/sha256:{sha256}", {})

    def _read(self, url: str, headers: dict[str, str]) -> Iterator[bytes]:
        try:
            answer = opened(url, headers | self._headers())
        except urllib.error.HTTPError as error:
            if error.code != 401 or self._authorization:
                raise
            self._authorization = self._authorized(error.headers.get("WWW-Authenticate", ""))
            answer = opened(url, headers | self._headers())
        yield from pieces_of(answer)

    def _headers(self) -> dict[str, str]:
        return {"Authorization": self._authorization} if self._authorization else {}

    def _authorized(self, challenge: str) -> str:
        """Answer a registry's question who asks; return the header's value. Raises OSError: there is no such login."""
        scheme, _, rest = challenge.partition(" ")
        fields = dict(re.findall(r'(\w+)="([^"]*)"', rest))
        if scheme.lower() == "basic" and self._login:
            return f"Basic {self._login}"
        if scheme.lower() != "bearer" or "realm" not in fields:
            raise OSError("the registry wants a login: DMVFN_REGISTRY_LOGINS names a file that has it")
        query = urlencode({name: fields[name] for name in ("service", "scope") if name in fields})
        login = {"Authorization": f"Basic {self._login}"} if self._login else {}
        url = fields["realm"] + ("&" if "?" in fields["realm"] else "?") + query
        with opened(url, login) as reply:
            answer = json.loads(reply.read(MOST_MANIFEST_BYTES))
        token = answer.get("token") or answer.get("access_token") if isinstance(answer, dict) else None
        if not isinstance(token, str):
            raise OSError("the registry gave no token")
        return f"Bearer {token}"


def _login(path: Path, host: str) -> str:
    """Return user and password for `host` as Docker's file has them, base64 of `user:password`; "" for none.

    Raises ValueError, which holds nothing of its content, for a file that is none of Docker's.
    """
    try:
        logins = json.loads(path.read_text(encoding="utf-8-sig")).get("auths", {})
        login = logins.get(host) or logins.get(f"https://{host}") or {}
        if auth := login.get("auth"):
            base64.b64decode(auth, validate=True)
            return str(auth)
        if "username" in login:
            return base64.b64encode(f"{login['username']}:{login['password']}".encode()).decode()
    except (OSError, ValueError, AttributeError, TypeError, KeyError):
        raise ValueError("DMVFN_REGISTRY_LOGINS: cannot be read as Docker's config.json") from None
    return ""
