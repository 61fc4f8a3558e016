"""The Dockerfile: clean to its linters, complete, and its entry point runs the real commands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from service.settings import PREFIX, Settings
from tests.tools import require
from tests.unit.deploy.manifests import DEPLOY, OVERLAYS, ROOT, overlay

DOCKERFILE = (ROOT / "Dockerfile").read_text()
FINAL = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
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
    assert re.search(r"^USER (\d+):\d+$", FINAL, re.MULTILINE)
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
