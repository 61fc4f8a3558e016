"""The Dockerfile: clean to its linters, complete, and its entry point runs the real commands."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.tools import missing, require
from tests.unit.deploy.manifests import DEPLOY, OVERLAYS, ROOT, overlay

DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE[DOCKERFILE.index("\nFROM ${PYTHON_IMAGE} AS base") :]
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
    assert [stage.split("\n")[0] for stage in stages] == ["${PYTHON_IMAGE} AS base", "base AS front-end", "base"]
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


@pytest.mark.parametrize("command", ["serve", "health", "train"])
def test_the_entry_point_knows_the_command(command: str) -> None:
    run = _run(ENTRY, command, "--help", path=f"{TOOLS}:{os.environ['PATH']}")
    assert run.returncode == 0, run.stderr
    assert "usage:" in run.stdout.lower()


def test_the_entry_point_runs_anything_else_as_it_is() -> None:
    assert _run(ENTRY, "echo", "as it is").stdout == "as it is\n"


#: One prediction, as the first request makes it, with nothing else on the path than a copy of the packages and ours.
PREDICTS = """
import sys, torch
from service.engine.predictor import Predictor
from service.settings import Settings
(run, *_) = Predictor.of(Settings(threads=1)).warm_up(((64, 96),))
print(torch.__file__, run.seconds > 0)
"""


def test_the_service_predicts_without_what_the_image_leaves_out(tmp_path: Path) -> None:
    """The packages linked into another folder, made slim there, and a prediction with them."""
    source = next(Path(path) for path in sys.path if (Path(path) / "torch" / "lib").is_dir())
    packages, slimmed = tmp_path / "packages", ("torch", "numba", "sympy", "networkx", "mpmath")
    packages.mkdir()
    try:
        for entry in source.iterdir():
            if entry.name in slimmed:
                shutil.copytree(entry, packages / entry.name, copy_function=os.link)
            else:
                (packages / entry.name).symlink_to(entry)
    except OSError:
        missing("a temporary folder on the disk of the packages, to link files")
    before = _megabytes(packages, slimmed)
    assert _run(DEPLOY / "image" / "slim", packages).returncode == 0
    after = _megabytes(packages, slimmed)
    print(f"{before:.0f} -> {after:.0f} MB in {', '.join(slimmed)}")
    assert before - after > 100
    assert (packages / "torch" / "bin" / "torch_shm_manager").exists()
    environment = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [str(Path(sys.executable).resolve()), "-S", "-c", PREDICTS]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == [str(packages / "torch" / "__init__.py"), "True"]


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


def _megabytes(folder: Path, names: tuple[str, ...]) -> float:
    files = (path for name in names for path in (folder / name).rglob("*") if path.is_file())
    return sum(path.stat().st_size for path in files) / 1e6


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
