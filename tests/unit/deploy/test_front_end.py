"""The front end's image: only the packages of requirements/front-end.in, and it answers through Redis."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.system.e2e.process import SAMPLES, Service, environment, service, until_ready
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


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with links to these packages and to no other."""
    folder = tmp_path_factory.mktemp("packages")
    lines = (ROOT / "requirements" / "front-end.in").read_text().splitlines()
    names: set[str] = set()
    for line in lines:
        if line and not line.startswith("#"):
            _with_needs(Requirement(line), names)
    for name in names:
        distribution = metadata.distribution(name)
        for part in {Path(file).parts[0] for file in distribution.files or [] if Path(file).parts[0] != ".."}:
            target = Path(str(distribution.locate_file(part)))
            if target.exists() and part not in ("__pycache__", "bin") and not (folder / part).exists():
                (folder / part).symlink_to(target)
    return folder


def test_nothing_that_predicts_is_among_them(packages: Path) -> None:
    names = {path.name for path in packages.iterdir()}
    assert not names & HEAVY
    assert {"fastapi", "grpc", "redis", "PIL", "av"} <= names


@pytest.fixture(scope="module")
def front(packages: Path) -> Iterator[Service]:
    """A front end that sees these packages only, a whole worker, and Redis between them."""
    redis = Server(binary())
    redis.start()
    try:
        with service("work", wait=False, forked=True, REDIS_URL=redis.url), tempfile.TemporaryDirectory() as name:
            env = environment(Path(name), ENGINE="redis", REDIS_URL=redis.url) | {"PYTHONPATH": f"{packages}:{ROOT}"}
            log = Path(name) / "log"
            with log.open("wb") as file:
                command = [str(Path(sys.executable).resolve()), "-S", "-m", "service", "serve"]
                process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=file, stderr=file)
            try:
                running = Service(process, f"http://127.0.0.1:{env['DMVFN_HTTP_PORT']}", "", log)
                until_ready(running)
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


def test_a_verb_that_needs_the_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "python").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "python").chmod(0o755)
    command = [str(ROOT / "deploy" / "image" / "dmvfn"), "work"]
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    run = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 2
    assert "front end" in run.stderr
