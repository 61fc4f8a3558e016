"""The Dockerfile: clean to its linters, complete, and its entry point runs the real commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from model.__main__ import VERBS as MODEL_VERBS
from service.__main__ import VERBS
from service.settings import PREFIX, Settings
from tests.tools import missing, require
from tests.unit.deploy import slimmed
from tests.unit.deploy.manifests import DEPLOY, OVERLAYS, ROOT, overlay

DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE[DOCKERFILE.index("\nFROM scratch AS base") :]
ENTRY = DEPLOY / "image" / "dmvfn"
TOOLS = Path(sys.executable).parent


def _run(*command: str | Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = dict(os.environ) | ({"PATH": path} if path else {})
    return subprocess.run(
        list(map(str, command)), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def test_hadolint_has_no_objection() -> None:
    run = _run(TOOLS / "hadolint", "Dockerfile")
    assert run.returncode == 0, run.stdout


def _trivy(path: Path) -> subprocess.CompletedProcess[str]:
    quiet = ["--skip-check-update", "--skip-version-check", "--disable-telemetry", "-q", "--exit-code", "1"]
    return _run(TOOLS / "trivy", "config", *quiet, "--ignorefile", DEPLOY / "trivy.ignore", path)


def test_trivy_finds_no_fault_in_the_dockerfile() -> None:
    run = _trivy(ROOT / "Dockerfile")
    assert run.returncode == 0, run.stdout


@pytest.mark.parametrize("name", OVERLAYS)
def test_trivy_finds_no_fault_in_the_manifests(name: str, tmp_path: Path) -> None:
    """As rendered: bases and patches alone are incomplete."""
    (tmp_path / "all.yaml").write_text(yaml.safe_dump_all(overlay(name)))
    run = _trivy(tmp_path)
    assert run.returncode == 0, run.stdout


def test_the_last_stage_runs_as_nobody_and_installs_nothing() -> None:
    stages = FINAL.split("\nFROM ")[1:]
    assert [stage.split("\n")[0] for stage in stages] == ["scratch AS base", "base AS front-end", "base"]
    assert all(re.search(r"^USER (\d+):\d+$", stage, re.MULTILINE) for stage in stages)
    assert not re.search(r"(apt-get|pip install|npm |curl |wget )", FINAL)
    assert "HEALTHCHECK" in FINAL
    assert re.search(r"^ARG PYTHON_IMAGE=\S+:\d+\.\d+\.\d+-slim-\w+$", DOCKERFILE, re.MULTILINE), (
        "the base is not pinned"
    )


def test_what_it_copies_exists_and_is_let_through() -> None:
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    ]
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    assert len(sources) >= 7
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(source == name or source.startswith(f"{name}/") for name in allowed), source


def test_every_setting_it_makes_is_a_setting() -> None:
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    named = set(re.findall(rf"\b({PREFIX}[A-Z_]+)=", DOCKERFILE))
    assert named
    assert named <= known


def test_the_entry_point_knows_every_verb() -> None:
    named = re.findall(r"^  ([a-z|-]+)\) exec python -m (\w+)", ENTRY.read_text(), re.MULTILINE)
    verbs = {module: set(names.split("|")) for names, module in named}
    assert verbs == {"service": set(VERBS), "model": set(MODEL_VERBS)}


@pytest.mark.parametrize("command", ["serve", "health", "train"])
def test_the_entry_point_knows_the_command(command: str) -> None:
    run = _run(ENTRY, command, "--help", path=f"{TOOLS}:{os.environ['PATH']}")
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout.lower()


def test_the_entry_point_helps_whoever_asks_it() -> None:
    run = _run(ENTRY, "--help", path=f"{TOOLS}:{os.environ['PATH']}")
    assert (run.returncode, "verbs:" in run.stdout) == (0, True), run.stderr


def test_the_entry_point_runs_anything_else_as_it_is() -> None:
    assert _run(ENTRY, "echo", "as it is").stdout == "as it is\n"


#: One prediction, as the first request makes it, with nothing else on the path than a copy of the packages and ours.
PREDICTS = """
import sys, torch
from service.engine.predictor import Predictor
from service.settings import Settings
runs = list(Predictor.of(Settings(threads=1)).warm_up(((64, 96),)))
print(torch.__file__, runs[0].seconds > 0, *sorted({run.bucket.method for run in runs}))
"""
#: Each function of OpenCV that our code names; some of its libraries are empty in the image.
OPENCV = """
import cv2, numpy as np
cv2.setNumThreads(1)
assert cv2.getNumThreads() == 1
noise = np.random.default_rng(0).integers(0, 255, (96, 160, 3), np.uint8)
a = cv2.resize(noise, (320, 192), interpolation=cv2.INTER_CUBIC)
b = cv2.resize(cv2.resize(a, (160, 96), interpolation=cv2.INTER_AREA), (320, 192), interpolation=cv2.INTER_LINEAR)
grey = [cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) for picture in (a, b)]
presets = cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, cv2.DISOPTICAL_FLOW_PRESET_FAST, cv2.DISOPTICAL_FLOW_PRESET_MEDIUM
for preset in presets:
    flow = cv2.DISOpticalFlow_create(preset).calc(*grey, None)
flow = cv2.calcOpticalFlowFarneback(*grey, None, 0.5, 5, 15, 3, 7, 1.5, 0)
assert cv2.add(flow, flow).shape == (192, 320, 2)
smooth = cv2.GaussianBlur(a, (0, 0), 2)
assert round(float(cv2.getGaussianKernel(7, 1.0, cv2.CV_32F).sum()), 6) == 1
mean = cv2.addWeighted(a, 0.5, smooth, 0.5, 0, dtype=cv2.CV_8U)
blended = cv2.blendLinear(a, smooth, *np.full((2, 192, 320), 0.5, np.float32))
assert cv2.absdiff(mean, blended).max() <= 1
assert cv2.convertScaleAbs(flow).dtype == np.uint8
still = cv2.inRange(cv2.scaleAdd(flow, -1.0, flow), (-0.5, -0.5), (0.5, 0.5))
assert cv2.erode(still, np.ones((3, 3), np.uint8)).min() == 255
spot = np.zeros((96, 160), np.uint8)
spot[20, 30] = 1
assert round(cv2.norm(spot[:, 1:], spot[:, :-1], cv2.NORM_L2SQR), 6) == 2
count, _, boxes, _ = cv2.connectedComponentsWithStats(cv2.dilate(spot, np.ones((5, 5), np.uint8)), connectivity=8)
assert (count, *boxes[1]) == (2, 28, 18, 5, 5, 25)
wide = cv2.copyMakeBorder(cv2.cvtColor(a, cv2.COLOR_RGB2RGBA), 0, 1, 0, 2, cv2.BORDER_REPLICATE)
assert wide.shape == (193, 322, 4)
y, x = np.mgrid[0:192, 0:320].astype(np.float32)
maps = cv2.convertMaps(x, y, cv2.CV_16SC2)
assert np.array_equal(cv2.remap(a, *maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), a)
assert cv2.cvtColor(a, cv2.COLOR_RGB2RGBA).shape == (192, 320, 4)
assert cv2.copyMakeBorder(a, 0, 1, 0, 2, cv2.BORDER_REPLICATE).shape == (193, 322, 3)
changed = cv2.dilate((grey[0] > 250).astype(np.uint8), np.ones((3, 3), np.uint8))
assert cv2.connectedComponentsWithStats(changed, connectivity=8)[0] > 1
grid = cv2.transform(cv2.absdiff(a, b), np.full((1, 3), 0.3, np.float32))
matrix, _ = cv2.Rodrigues(np.array([0.1, 0.2, 0.3]))
assert np.allclose(cv2.Rodrigues(matrix)[0].T, (0.1, 0.2, 0.3))
_, file = cv2.imencode(".jpg", cv2.pyrDown(a), [cv2.IMWRITE_JPEG_QUALITY, 90])
assert cv2.imdecode(file, cv2.IMREAD_COLOR).shape == (96, 160, 3)
"""
#: What an image has of the packages that its scripts make smaller; the others are linked as they are.
SMALLER = (
    *("torch", "numba", "llvmlite", "sympy", "networkx", "mpmath", "numpy", "numpy.libs"),
    *("cv2", "opencv_python_headless.libs", "av", "av.libs", "PIL", "pillow.libs"),
)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The packages as the image has them."""
    folder = tmp_path_factory.mktemp("packages")
    for entry in slimmed.INSTALLED.iterdir():
        if entry.name not in SMALLER:
            (folder / entry.name).symlink_to(entry)
    slimmed.link(SMALLER, folder)
    before = slimmed.megabytes(folder)
    slimmed.slim(folder)
    slimmed.shrink_libraries(folder)
    after = slimmed.megabytes(folder)
    print(f"{before:.0f} -> {after:.0f} MB in {', '.join(SMALLER)}")
    assert before - after > 300
    yield folder
    shutil.rmtree(folder)


def _run_with(packages: Path, program: str) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(Path(sys.executable).resolve()), "-S", "-c", program]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert run.returncode == 0, f"{run.returncode}: {run.stderr}"
    return run.stdout.split()


def test_the_service_predicts_without_what_the_image_leaves_out(packages: Path) -> None:
    assert _run_with(packages, PREDICTS) == [str(packages / "torch" / "__init__.py"), "True", "dmvfn", "flow"]
    assert (packages / "torch" / "bin" / "torch_shm_manager").exists()
    assert not any((packages / "opencv_python_headless.libs").glob("libcrypto*"))  # only an emptied library needed it


def test_whatever_we_call_of_opencv_works_without_what_the_image_leaves_out(packages: Path) -> None:
    _run_with(packages, OPENCV)
    sources = [file.read_text() for room in ("service", "model") for file in (ROOT / room).rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"\bcv2\.(\w+)", source)}
    assert named - set(re.findall(r"\bcv2\.(\w+)", OPENCV)) == set()


def test_a_library_that_cannot_be_stripped_stays_as_it_was(packages: Path) -> None:
    """As numpy's, which a wheel's maker changed so that `strip` writes what the system does not load."""
    (library,) = (packages / "numpy.libs").glob("libscipy_openblas*")
    assert library.samefile(slimmed.INSTALLED / "numpy.libs" / library.name)


def test_any_user_may_run_it(tmp_path: Path) -> None:
    """As OpenShift runs it: a user that no file knows, in group 0, and no name or home to be asked for."""
    nobody = [require("unshare"), "--user", "--map-user=1000680000", "--map-group=0"]
    if subprocess.run([*nobody, "true"], capture_output=True, check=False).returncode:
        missing("the right to make a user namespace")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "import os, pwd; assert os.getuid() not in {user.pw_uid for user in pwd.getpwall()}" + PREDICTS
    run = subprocess.run(
        [*nobody, sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split()[1] == "True"


def test_an_image_that_cannot_draw_says_so_before_it_evaluates(tmp_path: Path) -> None:
    # A Python that has torch and no matplotlib.
    (tmp_path / "python").write_text('#!/bin/sh\ncase "$2" in *matplotlib*) exit 1 ;; esac\n')
    (tmp_path / "python").chmod(0o755)
    run = _run(ENTRY, "evaluate", "--help", path=f"{tmp_path}:{os.environ['PATH']}")
    assert (run.returncode, run.stdout) == (2, "")
    assert "TRAINING=1" in run.stderr


#: Loads Triton's module for the driver, whose library it is given in place of one.
LOADS = "from triton.backends.nvidia.driver import CudaUtils; print(CudaUtils().launch)"


def test_triton_needs_no_compiler_once_its_module_is_compiled(tmp_path: Path) -> None:
    """As in the image: compiled without a GPU's driver, loaded without a compiler."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "mktemp", "find", "grep", "rm", "chmod", "gcc", "as", "ld"):
        (tools / tool).symlink_to(require(tool))
    environment = {"PATH": str(tools), "PYTHON": sys.executable, "TRITON_CACHE_DIR": str(tmp_path / "cache")}
    command = [DEPLOY / "image" / "triton-driver", tmp_path / "cache"]
    made = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert made.returncode == 0, made.stderr
    module = Path(made.stdout.strip())
    # Any library that has the driver's functions will do to see it load.
    wanted = subprocess.run(["nm", "-D", "--undefined-only", module], capture_output=True, text=True, check=True).stdout
    functions = "".join(f"int {name}(void) {{ return 1; }}\n" for name in re.findall(r"\b(cu[A-Z]\w+)", wanted))
    assert "cuModuleLoadData" in functions
    options = ["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-x", "c", "-"]
    subprocess.run(
        [require("gcc"), *options, "-o", str(tmp_path / "libcuda.so.1")], input=functions, text=True, check=True
    )
    (tools / "gcc").unlink()
    environment |= {"LD_LIBRARY_PATH": str(tmp_path), "TRITON_LIBCUDA_PATH": str(tmp_path)}
    load = [sys.executable, "-c", LOADS]
    loaded = subprocess.run(load, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert loaded.returncode == 0, loaded.stderr
    assert "launch" in loaded.stdout


V3 = "fpu sse2 avx avx2 bmi1 bmi2 f16c fma abm movbe"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("cpuinfo", "level"),
    [
        (f"model name\t: any\nflags\t\t: {V4} more\nflags\t\t: {V4}\n", "x86-64-v4"),
        (f"flags\t\t: {V3}\n", "x86-64-v3"),
        (f"flags\t\t: {V4.replace(' avx512dq', '')}\n", "x86-64-v3"),
        (f"flags\t\t: {V3.replace(' fma', '')}\n", ""),
        ("flags\t\t: fpu sse2\n", ""),
        ("Features\t: fp asimd\n", ""),
    ],
)
def test_the_image_has_loops_for_what_the_processor_can_do(cpuinfo: str, level: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(cpuinfo)
    run = _run(DEPLOY / "image" / "processor-level", tmp_path / "cpuinfo")
    assert (run.returncode, run.stdout.strip()) == (0, level)


def test_the_build_compiles_loops_for_every_level_and_the_entry_point_chooses_one(tmp_path: Path) -> None:
    """With a python that only says what it was told: to compile them takes 40 s of a processor."""
    says = tmp_path / "python"
    says.write_text('#!/bin/sh\necho "${NUMBA_CPU_NAME-own}:${NUMBA_CPU_FEATURES-own}:$NUMBA_CACHE_DIR:$PWD"\n')
    says.chmod(0o755)
    (tmp_path / "uname").write_text("#!/bin/sh\necho x86_64\n")
    (tmp_path / "uname").chmod(0o755)
    command: list[str | Path] = ["env", f"PYTHON={says}", DEPLOY / "image" / "compile-loops", "/somewhere"]
    built = _run(*command, path=f"{tmp_path}:{os.environ['PATH']}").stdout.split()
    # Not where the sources lie, too: Python would take those, and numba knows a loop by its source's folder.
    assert built == ["x86-64-v3::/somewhere:/", "x86-64-v4::/somewhere:/"]
    levels = set(re.findall(r"x86-64-v\d", (DEPLOY / "image" / "processor-level").read_text()))
    assert {line.split(":")[0] for line in built} == levels
    assert 'NUMBA_CPU_NAME="$level" NUMBA_CPU_FEATURES=' in ENTRY.read_text()
