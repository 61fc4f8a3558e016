"""Weights in a registry of images, by a small one that asks for logins as real ones do; what is wrong is named.

A real one (Debian's package docker-registry) is asked where `REGISTRY_PROGRAM` names it.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from model.checkpoint import CheckpointError
from service.engine.versions.download import fetch
from service.engine.versions.registry import MOST_MANIFEST_BYTES, TITLE, weights_of
from service.settings import Settings
from service.weights_reference import ArtifactWeights
from tests.system.e2e.process import free_port
from tests.unit.deploy.test_tls import Authority
from tests.unit.engine.versions.test_weight_files import BYTES, DIGEST, https_server

LOGIN = base64.b64encode(b"team:p@ss:word").decode()
ENDINGS = (".safetensors", ".pkl")


def manifest(*layers: tuple[str, str]) -> bytes:
    """A manifest of files: digest and title, "" for none."""
    listed = [
        {
            "mediaType": "application/octet-stream",
            "digest": f"sha256:{digest}",
            "size": len(BYTES),
            **({"annotations": {TITLE: title}} if title else {}),
        }
        for digest, title in layers
    ]
    config = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": f"sha256:{digest_of(b'{}')}", "size": 2}
    kind = "application/vnd.oci.image.manifest.v1+json"
    return json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": listed}).encode()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class _Registry(http.server.BaseHTTPRequestHandler):
    """Has `manifests` and BYTES in team/dmvfn; wants a token, which its login opens, and keeps files elsewhere."""

    manifests: dict[str, bytes]
    login: str
    asked: list[tuple[str, str]]
    scheme = "Bearer"

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        authorization = self.headers.get("Authorization", "")
        self.asked.append((url.path, authorization.partition(" ")[0]))
        name = url.path.rpartition(":")[2]
        if url.path == "/token":
            allowed = parse_qs(url.query) == {"service": ["registry"], "scope": ["repository:team/dmvfn:pull"]}
            allowed = allowed and authorization == (f"Basic {self.login}" if self.login else "")
            self._answer(200 if allowed else 401, b'{"token": "of-the-day"}')
        elif url.path.startswith("/elsewhere/"):
            self._answer(400 if authorization else 200, BYTES)  # as signed addresses refuse a second way in
        elif authorization != ("Bearer of-the-day" if self.scheme == "Bearer" else f"Basic {self.login}"):
            self._answer(401, b"", self._challenge())
        elif url.path.startswith("/v2/team/dmvfn/manifests/") and name in self.manifests:
            self._answer(200, self.manifests[name])
        elif url.path == f"/v2/team/dmvfn/blobs/sha256:{DIGEST}":
            self._answer(307, b"", ("Location", f"https://{self.headers['Host']}/elsewhere/{DIGEST}"))
        else:
            self._answer(404, b"")

    def _challenge(self) -> tuple[str, str]:
        realm = f'realm="https://{self.headers["Host"]}/token"'
        scope = 'service="registry",scope="repository:team/dmvfn:pull"'
        return "WWW-Authenticate", f"Bearer {realm},{scope}" if self.scheme == "Bearer" else 'Basic realm="any"'

    def _answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in (*headers, ("Content-Length", str(len(body)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The registry's host and port."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    _Registry.manifests, _Registry.login, _Registry.asked, _Registry.scheme = {}, "", [], "Bearer"
    with https_server(tmp_path, _Registry) as url:
        yield url.removeprefix("https://")


def pushed(host: str, document: bytes) -> ArtifactWeights:
    digest = digest_of(document)
    _Registry.manifests[digest] = document
    return ArtifactWeights(host, "team/dmvfn", digest)


def settings_of(folder: Path, host: str = "", **login: str) -> Settings:
    """A cache in `folder`, and Docker's file of logins where there is one."""
    if not login:
        return Settings(weights_cache=folder / "cache")
    (folder / "config.json").write_text(json.dumps({"auths": {host: login}}))
    return Settings(weights_cache=folder / "cache", registry_logins=folder / "config.json")


def test_an_artifact_is_downloaded_once_by_a_token_that_goes_nowhere_else(registry: str, tmp_path: Path) -> None:
    weights = pushed(registry, manifest(("1" * 64, "README.md"), (DIGEST, "v2.safetensors")))
    settings = settings_of(tmp_path)
    path = fetch(weights, settings)
    assert (path.name, path.read_bytes()) == (f"{DIGEST}.safetensors", BYTES)
    assert [scheme for place, scheme in _Registry.asked if place.startswith("/elsewhere")] == [""]
    count = len(_Registry.asked)
    assert (fetch(weights, settings), len(_Registry.asked)) == (path, count), "what is kept needs no registry"
    path.write_bytes(b"damaged")
    assert fetch(weights, settings).read_bytes() == BYTES


@pytest.mark.parametrize("scheme", ["Bearer", "Basic"])
@pytest.mark.parametrize("login", [{"auth": LOGIN}, {"username": "team", "password": "p@ss:word"}])
def test_a_registry_s_login_is_docker_s(registry: str, tmp_path: Path, scheme: str, login: dict[str, str]) -> None:
    _Registry.login, _Registry.scheme = LOGIN, scheme
    weights = pushed(registry, manifest((DIGEST, "")))
    assert fetch(weights, settings_of(tmp_path, registry, **login)).read_bytes() == BYTES


def test_without_its_login_a_registry_is_closed_and_the_message_holds_none(registry: str, tmp_path: Path) -> None:
    _Registry.login = LOGIN
    weights = pushed(registry, manifest((DIGEST, "v2.safetensors")))
    wrong = base64.b64encode(b"team:wrong-word").decode()
    for settings in (
        settings_of(tmp_path),
        settings_of(tmp_path, registry, auth=wrong),
        settings_of(tmp_path, "x", auth=LOGIN),
    ):
        with pytest.raises(CheckpointError, match=r"cannot be downloaded .*401") as caught:
            fetch(weights, settings)
        assert not any(word in str(caught.value) for word in (LOGIN, wrong, "word:"))
    _Registry.scheme = "Basic"
    with pytest.raises(CheckpointError, match="DMVFN_REGISTRY_LOGINS names a file"):
        fetch(weights, settings_of(tmp_path))


@pytest.mark.parametrize(
    "text",
    ["no json: a-secret", '["a-secret"]', '{"auths": {"h": "a-secret"}}', '{"auths": {"h": {"auth": "~a-secret~"}}}'],
)
def test_a_file_of_logins_that_is_none_is_named_and_not_shown(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_text(text)
    settings = Settings(weights_cache=tmp_path, registry_logins=tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="DMVFN_REGISTRY_LOGINS: cannot be read as Docker's") as caught:
        fetch(ArtifactWeights("h", "team/dmvfn", DIGEST), settings)
    assert "a-secret" not in str(caught.value)


def test_other_bytes_than_a_digest_says_are_refused_and_not_kept(registry: str, tmp_path: Path) -> None:
    weights = pushed(registry, manifest((DIGEST, "v2.safetensors")))
    _Registry.manifests[weights.sha256] += b" "
    with pytest.raises(CheckpointError, match="has another digest"):
        fetch(weights, settings_of(tmp_path))
    _Registry.manifests[weights.sha256] = b"0" * (MOST_MANIFEST_BYTES + 1)
    with pytest.raises(CheckpointError, match="more than 4194304 bytes"):
        fetch(weights, settings_of(tmp_path))
    with pytest.raises(CheckpointError, match="404"):
        fetch(pushed(registry, manifest(("2" * 64, "v2.safetensors"))), settings_of(tmp_path))
    assert not list((tmp_path / "cache").glob("*.safetensors"))


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (manifest(), "it holds 0"),
        (manifest((DIGEST, "v1.safetensors"), ("1" * 64, "v2.safetensors")), "it holds 2"),
        (manifest((DIGEST, "notes.txt")), "it holds 0"),
        (b'{"manifests": []}', "of an index give the digest of one of its manifests"),
        (b"[]", "that of no manifest"),
    ],
)
def test_an_artifact_without_one_file_of_weights_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        weights_of(document, ENDINGS)


def send(method: str, url: str, data: bytes | None = None, kind: str = "application/octet-stream") -> Any:
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    return urllib.request.urlopen(request, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif("REGISTRY_PROGRAM" not in os.environ, reason="REGISTRY_PROGRAM names no registry")
def test_a_real_registry_s_artifact_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    certificate, key = Authority(tmp_path).issue("registry", ExtendedKeyUsageOID.SERVER_AUTH)
    host = f"127.0.0.1:{free_port()}"
    (tmp_path / "registry.yml").write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {tmp_path}/kept}}}}\n"
        f"http: {{addr: '{host}', tls: {{certificate: {certificate}, key: {key}}}}}\n"
    )
    program = subprocess.Popen([os.environ["REGISTRY_PROGRAM"], "serve", str(tmp_path / "registry.yml")])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                send("GET", f"https://{host}/v2/")
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        for data in (b"{}", BYTES):
            place = send("POST", f"https://{host}/v2/team/dmvfn/blobs/uploads/", b"").headers["Location"]
            send("PUT", f"{place}&digest=sha256:{digest_of(data)}", data)
        document = manifest((DIGEST, "v2.safetensors"))
        kind = "application/vnd.oci.image.manifest.v1+json"
        send("PUT", f"https://{host}/v2/team/dmvfn/manifests/v2", document, kind)
        weights = ArtifactWeights(host, "team/dmvfn", digest_of(document))
        assert fetch(weights, settings_of(tmp_path)).read_bytes() == BYTES
    finally:
        program.terminate()
        program.wait()
