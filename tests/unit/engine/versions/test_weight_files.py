"""Weights are a file, a directory of versions, or an address with a digest; what is wrong is named."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import ssl
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from model import checkpoint
from model.checkpoint import CheckpointError, Metadata
from service.core.errors import NotFound
from service.engine.predictor import Predictor
from service.engine.versions.download import fetch
from service.engine.versions.source import CheckpointSource
from service.engine.versions.weight_files import WeightFiles
from service.object_store import s3_store
from service.settings import Settings, SettingsError
from service.weights_reference import ArtifactWeights, RemoteWeights, parse
from tests.unit.deploy.test_tls import Authority
from tests.unit.distributed.broker.test_blob_store import s3_settings
from tests.unit.engine.tiny import network

BYTES = b"not weights, but bytes" * 1000
DIGEST = hashlib.sha256(BYTES).hexdigest()


def save(folder: Path, *names: str) -> None:
    for seed, name in enumerate(names):
        checkpoint.save(network(seed), folder / name, Metadata(version="its own word"))


def test_a_directory_s_files_are_its_versions_and_the_newest_is_the_last_as_people_count(tmp_path: Path) -> None:
    save(tmp_path, "v9.safetensors", "v10.safetensors", ".v11.safetensors")
    (tmp_path / "notes.txt").write_text("no version")
    (tmp_path / "bad name.safetensors").write_text("no version")
    files = WeightFiles(Settings(weights=tmp_path))
    assert (files.is_named, files.names(), files.newest()) == (True, ["v9", "v10"], "v10")
    read = files.read("v9")
    assert (read.version, checkpoint.metadata(read.network).version) == ("v9", "v9")
    assert read.sha256 == hashlib.sha256((tmp_path / "v9.safetensors").read_bytes()).hexdigest()
    with pytest.raises(NotFound, match="there is no version 'v8'; there is v9, v10"):
        files.read("v8")


def test_the_service_starts_with_the_newest_or_with_what_it_is_told(tmp_path: Path) -> None:
    save(tmp_path, "v1.safetensors", "v2.safetensors")
    settings = Settings(weights=tmp_path, device="cpu", threads=1)
    assert Predictor.of(settings).info.version == "v2"
    assert Predictor.of(settings.replace(versions=("v1", "v2"))).info.version == "v1"
    with pytest.raises(CheckpointError, match="DMVFN_VERSIONS: there is no version 'v3'"):
        Predictor.of(settings.replace(versions=("v3",)))


def test_an_empty_directory_has_nothing_to_start_with(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no version there"):
        Predictor.of(Settings(weights=tmp_path, device="cpu", threads=1))


def test_versions_need_a_directory(tmp_path: Path) -> None:
    save(tmp_path, "v1.safetensors")
    settings = Settings(weights=tmp_path / "v1.safetensors", versions=("v1",), device="cpu", threads=1)
    with pytest.raises(CheckpointError, match="DMVFN_VERSIONS needs a directory"):
        Predictor.of(settings)


def test_a_file_keeps_the_version_that_it_says_itself(tmp_path: Path) -> None:
    save(tmp_path, "v1.safetensors")
    source = CheckpointSource(Settings(weights=tmp_path / "v1.safetensors"))
    assert (source.is_named, source.names(), source.prepare().name) == (False, [], "its own word")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("/nowhere/at/all", "no such file or directory"),
        ("https://host/w.safetensors", "needs the digest"),
        ("https://host/w.safetensors#sha256=12", "needs the digest"),
        (f"http://host/w.safetensors#sha256={DIGEST}", "must be a file, a directory, https"),
        (f"ftp://host/w.safetensors#sha256={DIGEST}", "must be a file, a directory, https"),
        (f"s3://bucket/#sha256={DIGEST}", "must be a file, a directory, https"),
        ("s3://bucket/w.safetensors", "needs the digest"),
        (f"oci://host/Team/dmvfn@sha256:{DIGEST}", "must be oci://"),
        ("oci://host/team/dmvfn:v2", "the 64 hex digits of its manifest's digest"),
        (f"https://user:word@host/w.safetensors#sha256={DIGEST}", "password is not taken"),
    ],
)
def test_what_names_no_weights_stops_the_start(text: str, why: str) -> None:
    with pytest.raises(SettingsError, match=why):
        Settings.from_env({"DMVFN_WEIGHTS": text})


def test_an_address_is_shown_without_what_signs_it() -> None:
    weights = parse(f"https://host/w.safetensors?signature=secret#sha256={DIGEST.upper()}")
    assert weights == RemoteWeights("https://host/w.safetensors?signature=secret", DIGEST)
    assert str(weights) == f"https://host/w.safetensors#sha256={DIGEST}"


def test_a_bucket_s_object_and_a_registry_s_artifact_are_addresses() -> None:
    digest = f"@sha256:{DIGEST}"
    assert parse(f"s3://models/dmvfn/v2.safetensors#sha256={DIGEST}") == RemoteWeights(
        "s3://models/dmvfn/v2.safetensors", DIGEST
    )
    for text in (f"oci://r.example.com:5000/team/dmvfn:v2{digest}", f"oci://r.example.com:5000/team/dmvfn{digest}"):
        weights = parse(text)
        assert weights == ArtifactWeights("r.example.com:5000", "team/dmvfn", DIGEST)
        assert str(weights) == f"oci://r.example.com:5000/team/dmvfn{digest}"


class _Files(http.server.BaseHTTPRequestHandler):
    """Serves BYTES at /w.safetensors and counts; /away leaves HTTPS."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "http://127.0.0.1:9/w.safetensors")
            self.end_headers()
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BYTES)))
        self.end_headers()
        self.wfile.write(BYTES)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def https_server(folder: Path, handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    """An HTTPS server on this machine for the length of the block; its authority is `folder`'s ca.crt."""
    certificate, key = Authority(folder).issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    thread = threading.Thread(target=web.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{web.server_address[1]}"
    web.shutdown()
    thread.join()
    web.server_close()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server of files, whose authority the system seems to know."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.crt"))
    _Files.asked = []
    with https_server(tmp_path, _Files) as url:
        yield url


def kept_in(cache: Path) -> Settings:
    return Settings(weights_cache=cache)


def test_an_address_is_downloaded_once_and_kept_under_its_digest(server: str, tmp_path: Path) -> None:
    weights, cache = RemoteWeights(f"{server}/w.safetensors?who=me", DIGEST), tmp_path / "cache"
    path = fetch(weights, kept_in(cache))
    assert (path, path.read_bytes()) == (cache / f"{DIGEST}.safetensors", BYTES)
    assert fetch(weights, kept_in(cache)) == path
    assert len(_Files.asked) == 1
    path.write_bytes(b"damaged")
    assert fetch(weights, kept_in(cache)).read_bytes() == BYTES
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_what_is_downloaded_may_be_read_by_whom_the_umask_lets(server: str, tmp_path: Path) -> None:
    """Another user of a shared volume could not read what the first had downloaded for itself alone."""
    plain = tmp_path / "plain"
    plain.touch()
    path = fetch(RemoteWeights(f"{server}/w.safetensors", DIGEST), kept_in(tmp_path / "cache"))
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_other_bytes_than_the_digest_says_are_refused_and_not_kept(server: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has another digest"):
        fetch(RemoteWeights(f"{server}/w.safetensors", "0" * 64), kept_in(tmp_path / "cache"))
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_redirect_away_from_https_is_not_followed(server: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="away from HTTPS"):
        fetch(RemoteWeights(f"{server}/away", DIGEST), kept_in(tmp_path / "cache"))


def test_an_address_that_nobody_answers_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="cannot be downloaded"):
        fetch(RemoteWeights("https://127.0.0.1:1/w.safetensors", DIGEST), kept_in(tmp_path))


def test_a_bucket_without_its_package_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(
        CheckpointError, match=r"s3://bucket/w.safetensors#sha256=\w+: s3://... needs the package obstore"
    ):
        fetch(RemoteWeights("s3://bucket/w.safetensors", DIGEST), kept_in(tmp_path))


@pytest.mark.slow
def test_a_bucket_s_object_is_downloaded_once_and_refused_by_its_digest(tmp_path: Path) -> None:
    """By `make object-store`, from a real S3 server."""
    import obstore

    settings = s3_settings().replace(weights_cache=tmp_path)
    obstore.put(s3_store("clips", settings), "models/w.safetensors", BYTES)
    weights = parse(f"s3://clips/models/w.safetensors#sha256={DIGEST}")
    assert isinstance(weights, RemoteWeights)
    path = fetch(weights, settings)
    assert (path.name, path.read_bytes()) == (f"{DIGEST}.safetensors", BYTES)
    obstore.delete(s3_store("clips", settings), "models/w.safetensors")
    assert fetch(weights, settings) == path
    with pytest.raises(CheckpointError, match="there is no such object"):
        fetch(RemoteWeights("s3://clips/models/w.safetensors", "0" * 64), settings)
    obstore.put(s3_store("clips", settings), "models/w.safetensors", b"others")
    with pytest.raises(CheckpointError, match="has another digest"):
        fetch(RemoteWeights("s3://clips/models/w.safetensors", "0" * 64), settings)
    away = settings.replace(object_store_endpoint=f"http://{urlsplit(settings.object_store_endpoint).hostname}:1")
    with pytest.raises(CheckpointError, match="the object store fails"):
        fetch(RemoteWeights("s3://clips/models/w.safetensors", "0" * 64), away)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]
