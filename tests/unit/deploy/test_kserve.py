"""The KServe runtime: fields of KServe's API, containers valid as a pod's, and the protocol it promises."""

from __future__ import annotations

from typing import Any

import kubernetes_validate
import pytest

from service.settings import PREFIX, Settings
from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import DEPLOY, rendered

MANIFESTS = rendered(DEPLOY / "kserve")
RUNTIMES = [m for m in MANIFESTS if m["kind"] == "ServingRuntime"]
#: Names of KServe 0.21's Python SDK, of the parts used here.
RUNTIME_FIELDS = {"annotations", "supportedModelFormats", "protocolVersions", "multiModel", "containers", "volumes"}
PREDICTOR_FIELDS = {
    "minReplicas",
    "maxReplicas",
    "timeout",
    "serviceAccountName",
    "automountServiceAccountToken",
    "enableServiceLinks",
    "terminationGracePeriodSeconds",
    "model",
}
MODEL_FIELDS = {"modelFormat", "protocolVersion", "runtime"}


def _pod(runtime: Manifest) -> dict[str, Any]:
    spec = {"containers": runtime["spec"]["containers"], "volumes": runtime["spec"]["volumes"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda m: m["metadata"]["name"])
def test_a_runtimes_containers_are_a_valid_pods(runtime: Manifest) -> None:
    kubernetes_validate.validate(_pod(runtime), "1.37", strict=True)
    assert set(runtime["spec"]) == RUNTIME_FIELDS
    (container,) = runtime["spec"]["containers"]
    assert container["name"] == "kserve-container"
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    assert {v["name"] for v in container["env"]} <= known


def test_one_runtime_for_each_protocol_on_its_port() -> None:
    ports = {r["spec"]["protocolVersions"][0]: r["spec"]["containers"][0]["ports"][0] for r in RUNTIMES}
    defaults = Settings()
    assert ports == {
        "v2": {"name": "http1", "containerPort": defaults.http_port, "protocol": "TCP"},
        "grpc-v2": {"name": "h2c", "containerPort": defaults.grpc_port, "protocol": "TCP"},
    }


def test_the_service_asks_for_a_runtime_that_is_there() -> None:
    (service,) = (m for m in MANIFESTS if m["kind"] == "InferenceService")
    predictor = service["spec"]["predictor"]
    assert set(predictor) == PREDICTOR_FIELDS
    assert set(predictor["model"]) == MODEL_FIELDS
    (runtime,) = (r for r in RUNTIMES if r["metadata"]["name"] == predictor["model"]["runtime"])
    assert predictor["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert predictor["model"]["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
    assert predictor["timeout"] > Settings().max_deadline_ms / 1000
