"""Our rendering of kustomize is kustomize's."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tools import require
from tests.unit.deploy.kustomize import Manifest, merge, render
from tests.unit.deploy.manifests import COMPONENTS, DEPLOY, FOLDERS, by_kubectl, with_components

#: Components that change what another one brings.
NEEDS = {"gateway-sessions": ("gateway",)}


def _sorted(manifests: list[Manifest]) -> list[Manifest]:
    return sorted(manifests, key=lambda m: (m["kind"], m["metadata"]["name"]))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_it_gives_what_kubectl_gives(folder: Path) -> None:
    assert _sorted(render(folder)) == _sorted(by_kubectl(folder, require("kubectl")))


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_component_can_be_added_to_the_base(component: str, tmp_path: Path) -> None:
    """Also those that no overlay uses, such as the Ingress."""
    base, folder = DEPLOY / "kubernetes" / "base", DEPLOY / "kubernetes" / "components" / component
    assert len(render(with_components(tmp_path, *NEEDS.get(component, ()), component))) >= len(render(base))
    assert (folder / "kustomization.yaml").read_text().startswith("# ")


def test_every_component_is_rendered_as_kubectl_does(tmp_path: Path) -> None:
    """All of them at once, in an order that lets each find what it changes."""
    first = ("worker", "redis", "gateway", "monitoring")
    folder = with_components(tmp_path, *first, *(name for name in COMPONENTS if name not in first))
    assert _sorted(render(folder)) == _sorted(by_kubectl(folder, require("kubectl")))


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


def test_null_and_delete_take_things_out() -> None:
    old = {"user": 1, "group": 2, "env": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}]}
    new = {"user": None, "env": [{"name": "a", "$patch": "delete"}]}
    assert merge(old, new) == {"group": 2, "env": [{"name": "b", "value": "2"}]}
