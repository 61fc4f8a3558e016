from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest
from PIL import Image

from tests.system.e2e.process import ROOT, SAMPLES, tiny_weights
from tests.tools import require
from tests.unit.client.serving import Serving, serving
from tests.unit.docs.blocks import RUNNABLE, Block, blocks, run
from tests.unit.serving.video.clips import moving, write_mp4

FILES = [ROOT / "README.md", ROOT / "client" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [block for path in FILES for block in blocks(path)]
#: Blocks that no test can run, by their first line, and why.
LOADS = """\
curl -sS -X POST localhost:8000/v2/repository/models/dmvfn/load -d '{"parameters": {"version": "v2", "share": "5%"}}'"""
NOT_RUN = {
    "make serve    # installs into .venv, starts the service with our weights: HTTP on 8000, gRPC on 8001": (
        "starts what the others talk to, and runs this test; tests/system/e2e starts the service as a process"
    ),
    "make evaluate CLIPS=folder/of/clips": "takes hours; tests/unit/model/evaluation runs it on small clips",
    "pip install ./client              # from the repository; REST. './client[grpc]' adds gRPC and live streams": (
        "asks a package index; tests/unit/client/test_package.py builds and imports the wheel"
    ),
    LOADS: "wants a directory with two versions; tests/unit/serving/test_versions.py loads and unloads by HTTP",
}
#: What the answers to `docs/api.md` that are told as errors begin with.
ERRORS = "curl -sS -F previous=@samples/frame00.png localhost:8000/v1/predict   # current is missing"


def _name(block: Block) -> str:
    return f"{block.file}:{block.line}"


@pytest.fixture(scope="module")
def running() -> Iterator[Serving]:
    with serving() as found:
        yield found


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One for each file, with samples, examples and a clip: later blocks may use what earlier ones wrote."""
    pytest.importorskip("av", reason="PyAV is not installed")
    samples = _small_samples(tmp_path_factory.mktemp("samples"))
    found = {}
    for path in FILES:
        folder = tmp_path_factory.mktemp(path.stem)
        (folder / "samples").symlink_to(samples)
        (folder / "client").symlink_to(ROOT / "client")
        write_mp4(folder / "clip.mp4", moving(10), [100 * k for k in range(10)], Fraction(1, 1000), sound=True)
        found[str(path.relative_to(ROOT))] = folder
    return found


def _small_samples(folder: Path) -> Path:
    """Fill `folder` with the samples at half their size: to predict from them takes a quarter of the time."""
    for path in sorted(SAMPLES.glob("*.png")):
        with Image.open(path) as image:
            image.reduce(2).save(folder / path.name)
    return folder


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language in RUNNABLE], ids=_name)
def test_every_code_block_runs(block: Block, running: Serving, folders: dict[str, Path], tmp_path: Path) -> None:
    if block.first in NOT_RUN:
        assert len(NOT_RUN[block.first]) > 20  # a reason, not an excuse
        return
    if block.language != "python":
        require("curl")
    environment = {"DMVFN_WEIGHTS": str(tiny_weights(tmp_path)), "DMVFN_THREADS": "1", "DMVFN_WARMUP_SIZES": "32x48"}
    folder = folders[block.file]
    before = set(folder.iterdir())
    told = run(block, folder, running.url.removeprefix("http://"), running.grpc, environment)
    assert ('"type": "/problems/' in told) == (block.first == ERRORS), told
    for path in set(folder.iterdir()) - before:
        for file in path.rglob("[!.]*") if path.is_dir() else [path]:
            _whole(file)


def test_what_is_not_run_is_still_there() -> None:
    assert set(NOT_RUN) <= {block.first for block in BLOCKS}


def test_what_has_no_language_is_a_picture_not_a_command() -> None:
    commands = re.compile(r"^\s*(\$|curl|make|docker|kubectl|python|pip|\.venv|import |from )", re.MULTILINE)
    plain = [block for block in BLOCKS if block.language not in RUNNABLE]
    assert [_name(block) for block in plain if commands.search(block.code)] == []


def test_every_endpoint_is_in_the_interface_document(running: Serving) -> None:
    import httpx

    text = (ROOT / "docs" / "api.md").read_text()
    paths = httpx.get(f"{running.url}/openapi.json").json()["paths"]
    assert [path for path in paths if path not in text and not path.startswith("/v2/models/{model}/versions")] == []


def test_the_table_of_errors_is_the_services() -> None:
    from service.rest.transport.errors import STATUS

    text = (ROOT / "docs" / "api.md").read_text().split("## Errors")[1]
    for code, status in STATUS.items():
        assert any(f"`{code}`" in line for line in text.splitlines() if line.startswith(f"| {status} |")), code


def _whole(path: Path) -> None:
    """A block's file is what its name says, not a problem document under a picture's name."""
    data = path.read_bytes()
    magic = {".png": b"\x89PNG", ".webp": b"RIFF", ".y4m": b"YUV4MPEG2"}.get(path.suffix, b"")
    assert data.startswith(magic), data[:300]
    if path.suffix == ".mp4":
        assert data[4:8] == b"ftyp", data[:300]
    if path.suffix == ".json":
        assert "frames" in json.loads(data), data[:300]
