"""Resources of Gateway API, KEDA and two operators, against their schemas and, for names, their types."""

from __future__ import annotations

import copy
import fcntl
import functools
import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.tools import missing, require
from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import OVERLAYS, ROOT, overlay, rendered, with_components

HERE = Path(__file__).parent / "schemas"
#: apiVersion/kind -> module and type.
TYPES = {
    "gateway.networking.k8s.io/v1/HTTPRoute": ("gateway-api/gateway.networking.k8s.io/v1", "IHTTPRoute"),
    "gateway.networking.k8s.io/v1/GRPCRoute": ("gateway-api/gateway.networking.k8s.io/v1", "IGRPCRoute"),
    "external-secrets.io/v1/ExternalSecret": ("external-secrets/external-secrets.io/v1", "IExternalSecret"),
    "keda.sh/v1alpha1/ScaledObject": ("keda/keda.sh/v1alpha1", "IScaledObject"),
    "monitoring.coreos.com/v1/PodMonitor": ("prometheus-operator/monitoring.coreos.com/v1", "IPodMonitor"),
    "monitoring.coreos.com/v1/PrometheusRule": ("prometheus-operator/monitoring.coreos.com/v1", "IPrometheusRule"),
}


@pytest.fixture(scope="module")
def schemas() -> Path:
    """A folder with the schema packages, installed once for each version of package.json."""
    require("node")
    npm = require("npm")
    wanted = (HERE / "package.json").read_bytes()
    folder = ROOT / ".cache" / "deploy-schemas" / hashlib.sha256(wanted).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    # Of the processes that run tests at once, one installs and the others wait for it.
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "installed").exists():
            shutil.copy(HERE / "package.json", folder)
            command = [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--no-package-lock"]
            run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=180, check=False)
            if run.returncode:
                missing(f"npm install of the schemas ({run.stderr.strip()[-200:]})")
            (folder / "installed").touch()
        program = folder / "validate.mjs"
        if not program.exists() or program.read_bytes() != (HERE / program.name).read_bytes():
            shutil.copy(HERE / program.name, program)
    return folder


def _key(manifest: Manifest) -> str:
    return f"{manifest['apiVersion']}/{manifest['kind']}"


@functools.cache
def _every_component() -> tuple[Manifest, ...]:
    """What no overlay uses as well."""
    names = ("worker", "redis", "keda", "monitoring", "gateway", "gateway-sessions", "tls", "external-secrets")
    with tempfile.TemporaryDirectory() as folder:
        return rendered(with_components(Path(folder), *names))


@functools.cache
def _custom() -> list[Manifest]:
    """Each once, though several overlays have it."""
    everything = [*(m for name in OVERLAYS for m in overlay(name)), *_every_component()]
    by_text = {json.dumps(m, sort_keys=True): m for m in everything if "." in m["apiVersion"]}
    return [
        m for m in by_text.values() if not m["apiVersion"].split("/")[0].endswith((".k8s.io",)) or "gateway" in _key(m)
    ]


@pytest.fixture(scope="module")
def schema_errors(schemas: Path) -> list[str | None]:
    """What the schemas say of each manifest, and last of one with a value that is none."""
    monitor = next(m for m in copy.deepcopy(_custom()) if m["kind"] == "PodMonitor")
    monitor["spec"]["podMetricsEndpoints"][0]["interval"] = "5 seconds"
    run = subprocess.run(
        ["node", str(schemas / "validate.mjs")],
        input=json.dumps([*_custom(), monitor]),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [answer["error"] and f"{answer['name']}: {answer['error']}" for answer in json.loads(run.stdout)]


@pytest.fixture(scope="module")
def type_errors(schemas: Path) -> tuple[str, str]:
    """What the TypeScript compiler says of the manifests, and of the same with a name too many in each.

    Schemas let unknown names pass. One run for both: it is the types that take long to read.
    """
    spoilt = copy.deepcopy(_custom())
    for manifest in spoilt:
        manifest["spec"]["misspelt"] = 1
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--moduleResolution", "nodenext"]
    # Beside node_modules, where its imports are looked for, in a folder that no other process has.
    with tempfile.TemporaryDirectory(dir=schemas) as folder:
        files = {name: Path(folder) / f"{name}.ts" for name in ("shipped", "spoilt")}
        files["shipped"].write_text(_typed(_custom()))
        files["spoilt"].write_text(_typed(spoilt))
        run = subprocess.run(
            [str(schemas / "node_modules" / ".bin" / "tsc"), *options, *map(str, files.values())],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    lines = run.stdout.splitlines()
    of_spoilt = [line for line in lines if line.startswith("spoilt.ts")]
    return "\n".join(line for line in lines if line not in of_spoilt and not line.startswith(" ")), "\n".join(of_spoilt)


def _typed(manifests: list[Manifest]) -> str:
    """The manifests as typed literals of TypeScript."""
    lines = []
    for i, manifest in enumerate(manifests):
        module, kind = TYPES[_key(manifest)]
        literal: dict[str, Any] = dict(manifest)
        lines.append(f'import type {{ {kind} as T{i} }} from "@kubernetes-models/{module}";')
        lines.append(f"export const r{i}: T{i} = {json.dumps(literal)};")
    return "\n".join(lines)


def test_every_kind_used_has_a_schema() -> None:
    assert {_key(manifest) for manifest in _custom()} == set(TYPES)


def test_values_hold_against_the_schemas(schema_errors: list[str | None]) -> None:
    assert schema_errors[:-1] == [None] * len(_custom())


def test_names_are_those_of_the_types(type_errors: tuple[str, str]) -> None:
    assert type_errors[0] == ""


def test_both_checks_would_notice(schema_errors: list[str | None], type_errors: tuple[str, str]) -> None:
    assert type_errors[1].count("misspelt") == len(_custom())
    assert "PodMonitor" in (schema_errors[-1] or "")
