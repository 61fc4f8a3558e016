"""What a platform team looks at first: who owns numbers, names, secrets and labels; several installs in one cluster."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from service.settings import PREFIX, Settings
from tests.tools import require
from tests.unit.deploy.kustomize import CLUSTER_SCOPED, Manifest
from tests.unit.deploy.manifests import (
    COMPONENTS,
    DEPLOY,
    OVERLAYS,
    ROOT,
    by_kubectl,
    one,
    overlay,
    rendered,
    with_components,
)

WORKLOADS = ("Deployment", "StatefulSet")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def _workloads(manifests: tuple[Manifest, ...]) -> list[Manifest]:
    return [m for m in manifests if m["kind"] in WORKLOADS]


def _pod(manifest: Manifest) -> dict[str, Any]:
    spec: dict[str, Any] = manifest["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_is_scaled_has_no_number_of_its_own_and_all_else_has(name: str) -> None:
    """A `replicas` beside an autoscaler sets its pods back at every apply."""
    scaled = {
        m["spec"]["scaleTargetRef"]["name"]
        for m in overlay(name)
        if m["kind"] in ("HorizontalPodAutoscaler", "ScaledObject")
    }
    assert scaled
    for workload in _workloads(overlay(name)):
        assert ("replicas" in workload["spec"]) == (workload["metadata"]["name"] not in scaled)


def test_a_second_install_names_nothing_of_the_first() -> None:
    """Queries, addresses, rules: the namespace stands where `namespace:` puts it, and nowhere else."""
    text = json.dumps(overlay("staging"))
    assert '"namespace": "dmvfn"' not in text
    assert 'namespace=\\"dmvfn\\"' not in text
    assert "NAMESPACE" not in text
    assert not re.search(r"\.dmvfn\b", text)
    query = one(overlay("staging"), "ScaledObject", "dmvfn-worker")["spec"]["triggers"][0]["metadata"]["query"]
    assert 'namespace="dmvfn-staging"' in query
    assert {m["metadata"]["namespace"] for m in overlay("staging")} == {"dmvfn-staging"}


def test_the_first_installs_query_names_its_own() -> None:
    query = one(overlay("redis-scale-out"), "ScaledObject", "dmvfn-worker")["spec"]["triggers"][0]["metadata"]["query"]
    assert 'namespace="dmvfn"' in query


def test_only_one_component_leaves_the_namespace(tmp_path_factory: pytest.TempPathFactory) -> None:
    first = ("worker", "redis", "gateway", "monitoring")
    others = (*first, *(part for part in COMPONENTS if part not in (*first, "cluster")))
    manifests = rendered(with_components(tmp_path_factory.mktemp("inside"), *others))
    assert [m["kind"] for m in manifests if m["kind"] in CLUSTER_SCOPED] == []
    assert not any("priorityClassName" in _pod(workload) for workload in _workloads(manifests))


@pytest.mark.parametrize("name", ["cpu", "gpu", "redis-scale-out"])
def test_with_it_every_pod_has_the_priority(name: str) -> None:
    priority = one(overlay(name), "PriorityClass", "dmvfn-serving")["metadata"]["name"]
    assert {_pod(workload)["priorityClassName"] for workload in _workloads(overlay(name))} == {priority}
    assert one(overlay(name), "Namespace", "dmvfn")


@pytest.mark.parametrize("name", OVERLAYS)
def test_labels_are_true(name: str) -> None:
    for manifest in overlay(name):
        assert manifest["metadata"]["labels"]["app.kubernetes.io/part-of"] == "dmvfn"
    for workload in _workloads(overlay(name)):
        (container,) = _pod(workload)["containers"]
        versions = {
            place["labels"]["app.kubernetes.io/version"]
            for place in (workload["metadata"], workload["spec"]["template"]["metadata"])
        }
        if workload["kind"] == "StatefulSet":
            assert versions == {container["image"].split(":")[1].split("-")[0]}
        else:
            assert versions == {VERSION}
            assert re.search(rf":{re.escape(VERSION)}-|@sha256:[0-9a-f]{{64}}$", container["image"])


def test_the_images_label_is_the_packages_version() -> None:
    assert re.findall(r"^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE) == [VERSION]


def test_the_pull_secret_is_a_component() -> None:
    assert one(overlay("staging"), "ServiceAccount", "dmvfn")["imagePullSecrets"] == [{"name": "dmvfn-registry"}]
    assert "imagePullSecrets" not in one(overlay("cpu"), "ServiceAccount", "dmvfn")


def test_what_the_usual_prometheus_stack_selects_by_is_there() -> None:
    for kind in ("PodMonitor", "PrometheusRule"):
        labels = one(overlay("redis-scale-out"), kind, "dmvfn")["metadata"]["labels"]
        assert labels["release"] == "kube-prometheus-stack"
    dashboard = one(overlay("redis-scale-out"), "ConfigMap", "dmvfn-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["data"] == {"dmvfn.json": (DEPLOY / "grafana" / "dashboards" / "dmvfn.json").read_text()}
    # `kubectl apply` keeps a copy in an annotation of at most 256 KiB.
    assert len(json.dumps(dashboard)) < 200_000


def test_rules_and_dashboard_are_once_in_a_cluster() -> None:
    """Twice loaded, every alert would ring twice: they keep namespaces apart by themselves."""
    kinds = [m["kind"] for m in overlay("staging")]
    assert "PodMonitor" in kinds
    assert "PrometheusRule" not in kinds


def _secret_keys(container: dict[str, Any], pod: dict[str, Any]) -> set[str] | None:
    """Keys of dmvfn-secrets that a container gets; None: all of them."""
    if any(source.get("secretRef", {}).get("name") == "dmvfn-secrets" for source in container["envFrom"]):
        return None
    references = (v["valueFrom"]["secretKeyRef"] for v in container["env"] if "secretKeyRef" in v.get("valueFrom", {}))
    keys = {reference["key"] for reference in references}
    for volume in pod["volumes"]:
        if volume.get("secret", {}).get("secretName") == "dmvfn-secrets":
            keys |= {item["key"] for item in volume["secret"].get("items", [])}
    return keys


@pytest.mark.parametrize("name", ["redis-scale-out", "staging"])
def test_workers_get_only_what_reaches_redis(name: str) -> None:
    pod = _pod(one(overlay(name), "Deployment", "dmvfn-worker"))
    wanted = {"DMVFN_REDIS_URL", "DMVFN_REDIS_USERNAME", "DMVFN_REDIS_PASSWORD"}
    if name != "staging":  # with files, whose Secret must have each key that is named
        wanted.add("DMVFN_REDIS_SENTINEL_PASSWORD")
    assert _secret_keys(pod["containers"][0], pod) == wanted


def test_secrets_as_files_leave_none_in_the_environment() -> None:
    secret = {PREFIX + name.upper() for name, f in Settings.__dataclass_fields__.items() if f.metadata["secret"]}
    for part in ("server", "worker"):
        pod = _pod(one(overlay("staging"), "Deployment", f"dmvfn-{part}"))
        (container,) = pod["containers"]
        assert container["envFrom"] == [source for source in container["envFrom"] if "configMapRef" in source]
        names = {variable["name"] for variable in container["env"]}
        assert not names & secret
        files = {v["name"]: v["value"] for v in container["env"] if v["name"].endswith("_FILE")}
        assert set(files) <= {f"{name}_FILE" for name in secret}
        (mount,) = (m["mountPath"] for m in container["volumeMounts"] if m["name"] == "secrets")
        assert all(path == f"{mount}/{name.removesuffix('_FILE')}" for name, path in files.items())


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_changed_secret_rolls_what_reads_it(name: str) -> None:
    for workload in _workloads(overlay(name)):
        names = workload["metadata"]["annotations"]["secret.reloader.stakater.com/reload"].split(",")
        assert names
        assert all(f'"{secret}"' in json.dumps(_pod(workload)) for secret in names)


def test_on_openshift_no_user_is_fixed(tmp_path_factory: pytest.TempPathFactory) -> None:
    manifests = rendered(with_components(tmp_path_factory.mktemp("openshift"), "worker", "redis", "openshift"))
    for workload in _workloads(manifests):
        assert set(_pod(workload)["securityContext"]) == {"runAsNonRoot", "seccompProfile"}


def test_a_gpu_is_asked_for_and_no_label_of_a_node() -> None:
    """The label comes with GPU feature discovery; with the device plugin alone pods would wait for ever."""
    pod = _pod(one(overlay("gpu"), "Deployment", "dmvfn-server"))
    assert "nodeSelector" not in pod
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"


def test_the_documents_list_every_component_and_no_other() -> None:
    text = (ROOT / "docs" / "deploy.md").read_text()
    table = text[text.index("| component |") : text.index("- A setting of your own")]
    assert sorted(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == COMPONENTS


@pytest.mark.parametrize("name", ["gpu", "redis-scale-out"])
def test_the_documented_patch_asks_for_a_slice_instead_of_a_gpu(name: str, tmp_path: Path) -> None:
    """The documents' own words, over an overlay of ours, by the real kustomize."""
    (patch,) = re.findall(r"```yaml\n(patches:.+?)```", (ROOT / "docs" / "deploy.md").read_text(), re.DOTALL)
    (tmp_path / "deploy").symlink_to(DEPLOY)
    resources = f"resources: [deploy/kubernetes/overlays/{name}]\n"
    (tmp_path / "kustomization.yaml").write_text(resources + patch)
    manifests = by_kubectl(tmp_path, require("kubectl"))
    predicting = [m for m in manifests if m["metadata"].get("labels", {}).get("dmvfn-predicts") == "true"]
    assert len(predicting) == 1
    (container,) = _pod(predicting[0])["containers"]
    for amounts in container["resources"].values():
        assert amounts["nvidia.com/mig-2g.20gb"] == "1"
        assert "nvidia.com/gpu" not in amounts
    assert _pod(predicting[0])["runtimeClassName"] == "nvidia"
    kubernetes_validate.validate(predicting[0], "1.37", strict=True)
