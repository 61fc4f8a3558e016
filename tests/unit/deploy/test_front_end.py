"""The front end's image: only the packages of requirements/front-end.in, and it answers through Redis."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import av
import httpx
import numpy as np
import pytest
from av.video.stream import VideoStream
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.system.e2e.process import SAMPLES, Service, environment, service, until_ready
from tests.unit.deploy import slimmed
from tests.unit.deploy.manifests import ROOT
from tests.unit.distributed.servers import Server, binary

#: What makes the other image large.
HEAVY = {"torch", "numba", "llvmlite", "cv2", "sympy", "networkx", "safetensors"}


def _with_needs(requirement: Requirement, names: set[str]) -> None:
    """Add a package and whatever it needs to `names`."""
    name = canonicalize_name(requirement.name)
    extras = {"", *requirement.extras}
    if name in names and not requirement.extras:
        return
    names.add(name)
    for line in metadata.requires(name) or []:
        need = Requirement(line)
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in extras):
            _with_needs(need, names)


def _distributions() -> set[str]:
    """Name what the front end's image has installed."""
    lines = (ROOT / "requirements" / "front-end.in").read_text().splitlines()
    names: set[str] = set()
    for line in lines:
        if line and not line.startswith("#"):
            _with_needs(Requirement(line), names)
    return names


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with these packages and no other, as small as the image makes them."""
    folder = tmp_path_factory.mktemp("packages")
    parts: set[str] = set()
    for name in _distributions():
        files = metadata.distribution(name).files or []
        parts |= {Path(file).parts[0] for file in files if Path(file).parts[0] not in ("..", "__pycache__", "bin")}
    slimmed.link({part for part in parts if (slimmed.INSTALLED / part).exists()}, folder)
    slimmed.slim(folder)
    for library in (folder / "PIL").glob("_imagingft.*"):
        library.unlink()
    slimmed.shrink_libraries(folder)
    yield folder
    shutil.rmtree(folder)


def test_nothing_that_predicts_is_among_them(packages: Path) -> None:
    names = {path.name for path in packages.iterdir()}
    assert not names & HEAVY
    assert {"fastapi", "grpc", "redis", "PIL", "av"} <= names


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image has of this repository."""
    folder = tmp_path_factory.mktemp("ours")
    stage = re.split(r"^FROM ", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    (build,) = [text for text in stage if text.startswith("venv AS build-front-end")]
    for source in re.findall(r"^COPY ((?:proto|model|service)\S*) ", build, re.MULTILINE):
        (folder / source).parent.mkdir(exist_ok=True)
        (folder / source).symlink_to(ROOT / source)
    return folder


@pytest.fixture(scope="module")
def front(packages: Path, ours: Path) -> Iterator[Service]:
    """A front end that sees these packages only, a whole worker, and Redis between them."""
    redis = Server(binary())
    redis.start()
    try:
        with service("work", wait=False, forked=True, REDIS_URL=redis.url), tempfile.TemporaryDirectory() as name:
            env = environment(Path(name), ENGINE="redis", REDIS_URL=redis.url) | {
                "PYTHONPATH": f"{packages}:{ours}",
                "PYTHONPROFILEIMPORTTIME": "1",
            }
            log = Path(name) / "log"
            with log.open("wb") as file:
                command = [str(Path(sys.executable).resolve()), "-S", "-m", "service", "serve"]
                process = subprocess.Popen(command, cwd=ours, env=env, stdout=file, stderr=file)
            try:
                running = Service(process, f"http://127.0.0.1:{env['DMVFN_HTTP_PORT']}", "", log)
                until_ready(running, 600)
                yield running
            finally:
                process.kill()
                process.wait()
    finally:
        redis.remove()


def test_it_answers_as_any_front_end_does(front: Service) -> None:
    pair = {name: (SAMPLES / f"frame0{i}.png").read_bytes() for i, name in enumerate(("previous", "current"))}
    answer = httpx.post(f"{front.http}/v1/predict?deadline_ms=600000", files=pair, timeout=600)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert re.search(r'^dmvfn_build_info\{.*torch="none".*\} 1', httpx.get(f"{front.http}/metrics").text, re.MULTILINE)


def test_it_makes_a_clip(front: Service) -> None:
    clip = io.BytesIO()
    with av.open(clip, "w", "mp4") as container:
        video = container.add_stream("libx264", rate=10)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for brightness in (50, 60, 70, 80):
            picture = np.full((48, 64, 3), brightness, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(video.encode(None))
    answer = httpx.post(f"{front.http}/v1/video?ahead=1", content=clip.getvalue(), timeout=600)
    assert answer.status_code == 200, answer.text
    with av.open(io.BytesIO(answer.content), "r") as predicted:
        assert len(list(predicted.decode(video=0))) == 4


#: Installed for what this front end is not asked for (traces, and errors of gRPC with details), or since uvicorn and
#: anyio name it among what they need.
UNUSED = {
    *("opentelemetry-exporter-otlp-proto-grpc", "opentelemetry-exporter-otlp-proto-common"),
    *("opentelemetry-exporter-otlp-common", "opentelemetry-proto", "grpcio-status", "h11", "idna"),
}


def _modules_of(name: str) -> set[str]:
    """Name the modules that a distribution brings."""
    files = [Path(file) for file in metadata.distribution(name).files or [] if Path(file).suffix in (".py", ".so")]
    return {".".join([*file.parent.parts, file.name.split(".")[0]]).removesuffix(".__init__") for file in files}


def test_it_has_no_package_that_it_does_not_load(front: Service) -> None:
    test_it_makes_a_clip(front)
    log = front.log.read_text()
    loaded = {line.rsplit("|", 1)[-1].strip() for line in log.splitlines() if line.startswith("import time:")}
    assert {name for name in _distributions() if not _modules_of(name) & loaded} == UNUSED


def test_a_verb_that_needs_the_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    command = [str(ROOT / "deploy" / "image" / "dmvfn"), "work"]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "front end" in run.stderr
