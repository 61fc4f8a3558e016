"""The rendered manifests, by overlay, for every test of this folder."""

from __future__ import annotations

import functools
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.unit.deploy.kustomize import Manifest, render

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
OVERLAYS = ("cpu", "gpu", "redis-scale-out", "staging")
#: Every part that an overlay may add.
COMPONENTS = sorted(path.parent.name for path in (DEPLOY / "kubernetes" / "components").glob("*/kustomization.yaml"))
#: Every folder that a person may hand to `kubectl apply -k`.
FOLDERS = (*(DEPLOY / "kubernetes" / "overlays" / name for name in OVERLAYS), DEPLOY / "kserve")


def by_kubectl(folder: Path, kubectl: str) -> list[Manifest]:
    """What the real kustomize makes of it."""
    run = subprocess.run([kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    return [document for document in yaml.safe_load_all(run.stdout) if document]


def with_components(folder: Path, *names: str) -> Path:
    """Write an overlay of the base and these components into `folder`, an empty one; return it."""
    (folder / "deploy").symlink_to(DEPLOY)
    lines = [f"  - deploy/kubernetes/components/{name}" for name in names]
    text = "\n".join(["resources: [deploy/kubernetes/base]", "components:", *lines, ""])
    (folder / "kustomization.yaml").write_text(text)
    return folder


@functools.cache
def rendered(folder: Path) -> tuple[Manifest, ...]:
    """By kubectl where it is, else by ours."""
    kubectl = shutil.which("kubectl")
    return tuple(by_kubectl(folder, kubectl) if kubectl else render(folder))


def overlay(name: str) -> tuple[Manifest, ...]:
    """An overlay's manifests."""
    return rendered(DEPLOY / "kubernetes" / "overlays" / name)


def one(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    """The only manifest of that kind whose name is, or before its hash was, `name`."""
    found = [
        m
        for m in manifests
        if m["kind"] == kind and (m["metadata"]["name"] == name or m["metadata"]["name"].rpartition("-")[0] == name)
    ]
    assert len(found) == 1, f"{kind} {name}: {len(found)}"
    return found[0]
