"""Our rendering of kustomize is kustomize's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import require
from tests.unit.deploy.kustomize import Manifest, merge, render
from tests.unit.deploy.manifests import DEPLOY, FOLDERS, by_kubectl

COMPONENTS = sorted(path.parent.name for path in (DEPLOY / "kubernetes" / "components").glob("*/kustomization.yaml"))


def _sorted(manifests: list[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_gives_what_kubectl_gives(folder: Path) -> None:
    assert _sorted(render(folder)) == _sorted(by_kubectl(folder, require("kubectl")))


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_can_be_added_to_the_base(component: str, tmp_path: Path) -> None:
    """Also those that no overlay uses, such as the Ingress."""
    base, wanted = DEPLOY / "kubernetes" / "base", DEPLOY / "kubernetes" / "components" / component
    linked = tmp_path / "kubernetes"
    linked.symlink_to(DEPLOY / "kubernetes")
    (tmp_path / "kustomization.yaml").write_text(
        f"resources: [kubernetes/base]\ncomponents: [kubernetes/components/{component}]\n"
    )
    assert len(render(tmp_path)) >= len(render(base))
    assert (wanted / "kustomization.yaml").read_text().startswith("# ")


def test_what_it_does_not_know_it_refuses(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("replicas: []\n")
    with pytest.raises(NotImplementedError, match="replicas"):
        render(tmp_path)


def test_named_things_merge_by_name_and_the_rest_is_replaced() -> None:
    old = {"env": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}], "args": ["x"], "kept": 1}
    new = {"env": [{"name": "b", "value": "3"}, {"name": "c", "value": "4"}], "args": ["y", "z"]}
    assert merge(old, new) == {
        "env": [{"name": "c", "value": "4"}, {"name": "a", "value": "1"}, {"name": "b", "value": "3"}],
        "args": ["y", "z"],
        "kept": 1,
    }
