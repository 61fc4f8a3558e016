"""The Kubernetes manifests: valid in every supported version, secure, and in step with the code."""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from deploy.generate import IN_A_POD
from service.settings import PREFIX, Settings
from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import COMPONENTS, OVERLAYS, one, overlay, rendered, with_components

#: The first has policy/v1 unhealthyPodEvictionPolicy; the last is the newest known.
VERSIONS = ("1.27", "1.29", "1.31", "1.33", "1.35", "1.37")
CUSTOM = ("gateway.networking.k8s.io/", "keda.sh/", "monitoring.coreos.com/", "serving.kserve.io/")

DEFAULTS = Settings()
IN_CLUSTER = Settings.from_env({PREFIX + name.upper(): value for name, value in IN_A_POD.items()})
#: Overlays whose front ends hand on to workers.
OVER_REDIS = ("redis-scale-out", "staging")
PARTS = [(name, part) for name in OVERLAYS for part in ("server", "worker") if part == "server" or name in OVER_REDIS]


def _workloads(name: str) -> Iterator[Manifest]:
    yield from (m for m in overlay(name) if m["kind"] in ("Deployment", "StatefulSet"))


def _container(name: str, part: str) -> Any:
    spec = one(overlay(name), "Deployment", f"dmvfn-{part}")["spec"]["template"]["spec"]
    return spec["containers"][0]


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    return selector.items() <= labels.items()


@functools.cache
def _check(manifest: str, version: str) -> None:
    """Validate a manifest, as JSON: several overlays have the same, and each time all schemas of a version are read."""
    kubernetes_validate.validate(json.loads(manifest), version, strict=True)  # raises; also where it knows no schema


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OVERLAYS)
def test_every_builtin_kind_is_valid_strictly(name: str, version: str) -> None:
    checked = 0
    for manifest in overlay(name):
        if not manifest["apiVersion"].startswith(CUSTOM):
            _check(json.dumps(manifest, sort_keys=True), version)
            checked += 1
    assert checked >= 10


def test_every_component_is_valid_strictly(tmp_path: Path) -> None:
    """Also those that no overlay uses."""
    first = ("worker", "redis", "gateway", "monitoring")
    folder = with_components(tmp_path, *first, *(name for name in COMPONENTS if name not in first))
    for manifest in rendered(folder):
        if not manifest["apiVersion"].startswith((*CUSTOM, "external-secrets.io/")):
            for version in (VERSIONS[0], VERSIONS[-1]):
                _check(json.dumps(manifest, sort_keys=True), version)


def test_the_validator_would_notice() -> None:
    manifest = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError, match="portz"):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_selector_finds_the_pods_it_means(name: str) -> None:
    """Services, disruption budgets, network policies and spread constraints are silent when they match nothing."""
    pods = [workload["spec"]["template"]["metadata"]["labels"] for workload in _workloads(name)]
    wanted = []
    for manifest in overlay(name):
        spec = manifest.get("spec", {})
        if manifest["kind"] == "Service":
            wanted.append(spec["selector"])
        elif manifest["kind"] in ("PodDisruptionBudget", "Deployment", "StatefulSet", "PodMonitor"):
            wanted.append(spec["selector"]["matchLabels"])
        elif manifest["kind"] == "NetworkPolicy":
            wanted.append(spec["podSelector"]["matchLabels"])
    for workload in _workloads(name):
        for spread in workload["spec"]["template"]["spec"].get("topologySpreadConstraints", []):
            wanted.append(spread["labelSelector"]["matchLabels"])
    assert len(wanted) >= 6
    assert [selector for selector in wanted if not any(_selects(selector, labels) for labels in pods)] == []


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_is_denied_what_no_policy_allows(name: str) -> None:
    deny = one(overlay(name), "NetworkPolicy", "dmvfn-default-deny")["spec"]
    assert "ingress" not in deny
    assert "egress" not in deny
    for workload in _workloads(name):
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert _selects(deny["podSelector"]["matchLabels"], labels)


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_pod_meets_the_restricted_standard(name: str) -> None:
    """What the namespace's label makes the API server enforce, and a bit more."""
    for workload in _workloads(name):
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["capabilities"] == {"drop": ["ALL"]}
            assert rights["allowPrivilegeEscalation"] is False
            assert rights["readOnlyRootFilesystem"] is True
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["limits"])
            assert not container["image"].endswith(":latest")
            assert ":" in container["image"]
    for namespace in (m for m in overlay(name) if m["kind"] == "Namespace"):
        assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_ports_and_probes_are_those_of_the_settings(name: str, part: str) -> None:
    container = _container(name, part)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    expected = {"http": IN_CLUSTER.http_port, "grpc": IN_CLUSTER.grpc_port}
    assert ports == (expected if part == "server" else {"http": IN_CLUSTER.http_port})
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert probes == {
        "startup": {"path": "/healthz/live", "port": "http"},
        "readiness": {"path": "/healthz/ready", "port": "http"},
        "liveness": {"path": "/healthz/live", "port": "http"},
    }


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_pod_is_given_the_time_its_drain_takes(name: str, part: str) -> None:
    pod = one(overlay(name), "Deployment", f"dmvfn-{part}")["spec"]["template"]["spec"]
    stop = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
    drain = int(stop[1]) + IN_CLUSTER.drain_delay_s + IN_CLUSTER.shutdown_grace_s
    assert pod["terminationGracePeriodSeconds"] >= drain + 5


@pytest.mark.parametrize("name", OVERLAYS)
def test_every_setting_has_its_place_and_no_other_is_named(name: str) -> None:
    public = {PREFIX + f.name.upper() for f in dataclasses.fields(Settings) if not f.metadata["secret"]}
    everything = {PREFIX + f.name.upper() for f in dataclasses.fields(Settings)}
    config = one(overlay(name), "ConfigMap", "dmvfn-settings")
    assert set(config["data"]) == public
    assert Settings.from_env(config["data"]).replace(log_level=DEFAULTS.log_level) == IN_CLUSTER
    for workload in _workloads(name):
        for container in workload["spec"]["template"]["spec"]["containers"]:
            set_here = {variable["name"] for variable in container.get("env", [])}
            assert {v.removesuffix("_FILE") for v in set_here if v.startswith(PREFIX)} <= everything


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_values_given_to_containers_can_be_used(name: str, part: str) -> None:
    """As the pod will read them: the ConfigMap, then the container's own, with a Secret's URL where one is needed."""
    container = _container(name, part)
    environment = dict(one(overlay(name), "ConfigMap", "dmvfn-settings")["data"])
    environment |= {v["name"]: v["value"] for v in container["env"] if "value" in v and not v["name"].endswith("_FILE")}
    environment["DMVFN_REDIS_URL"] = "redis://dmvfn:secret@dmvfn-redis:6379/0"
    settings = Settings.from_env(environment)
    predicts = part == "worker" or name not in OVER_REDIS
    assert settings.engine == ("local" if predicts else "redis")
    assert settings.device == ("cuda" if predicts and name != "cpu" else "auto")
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (settings.device == "cuda")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_queue_fits_the_memory(name: str) -> None:
    """Waiting frames may take at most a quarter of a predicting server's memory; the network needs the rest."""
    limit = _container(name, "server")["resources"]["limits"]["memory"]
    found = re.fullmatch(r"(\d+)Gi", limit)
    assert found
    assert IN_CLUSTER.max_queue_bytes <= int(found[1]) * 2**30 / 4


@pytest.mark.parametrize("name", OVERLAYS)
def test_services_and_routes_lead_to_open_ports(name: str) -> None:
    services = {m["metadata"]["name"]: m["spec"] for m in overlay(name) if m["kind"] == "Service"}
    open_ports = {
        p["name"] for w in _workloads(name) for c in w["spec"]["template"]["spec"]["containers"] for p in c["ports"]
    }
    for spec in services.values():
        assert {port["targetPort"] for port in spec["ports"]} <= open_ports
    assert services["dmvfn-grpc"]["clusterIP"] == "None"
    for route in (m for m in overlay(name) if m["kind"] in ("HTTPRoute", "GRPCRoute")):
        for rule in route["spec"]["rules"]:
            for backend in rule["backendRefs"]:
                assert backend["port"] in {port["port"] for port in services[backend["name"]]["ports"]}


def test_scaling_looks_at_the_queue_that_the_settings_name() -> None:
    scaled = one(overlay("redis-scale-out"), "ScaledObject", "dmvfn-worker")["spec"]
    assert scaled["scaleTargetRef"]["name"] == "dmvfn-worker"
    # Nothing asks Redis: a trigger sees one stream, and each caller's work lies in that of its slot, for each size.
    assert [trigger["type"] for trigger in scaled["triggers"]] == ["prometheus"]
    assert scaled["fallback"]["replicas"] > scaled["minReplicaCount"]
    # A misspelt key would be ignored by KEDA, and the schema of ScaledObject knows none.
    (prometheus,) = (trigger["metadata"] for trigger in scaled["triggers"])
    assert set(prometheus) == {"serverAddress", "query", "threshold", "ignoreNullValues"}
