"""Applies what deploy/kubernetes renders to a real API server: `KUBE_APISERVER=PROGRAM make api-server-check`.

The server has no nodes and no controllers: it validates, defaults, admits and stores. Kinds of other vendors are taken
without a look inside (tests/unit/deploy/test_custom_resources.py looks), unless CRDS names a folder with their
CustomResourceDefinitions.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.system.api_server.control_plane import ApiServer, api_server
from tests.system.chaos.releases import tree
from tests.tools import require
from tests.unit.deploy.kustomize import CLUSTER_SCOPED, WORKLOADS, Manifest
from tests.unit.deploy.manifests import (
    COMPONENTS,
    DEPLOY,
    OVERLAYS,
    ROOT,
    by_kubectl,
    overlay,
    rendered,
    with_components,
)

#: Components that go into no overlay of ours, each with those that it needs.
ALONE = {
    "external-secrets": ("worker", "external-secrets"),
    "gateway-sessions": ("gateway", "gateway-sessions"),
    "ingress": ("ingress",),
    "openshift": ("worker", "redis", "openshift"),
    "worker-egress": ("worker", "worker-egress"),
    "tls": ("worker", "monitoring", "ingress", "tls"),
}
#: Plurals of the kinds that other vendors define.
PLURALS = {
    "ExternalSecret": "externalsecrets",
    "GRPCRoute": "grpcroutes",
    "HTTPRoute": "httproutes",
    "InferenceService": "inferenceservices",
    "PodMonitor": "podmonitors",
    "PrometheusRule": "prometheusrules",
    "ScaledObject": "scaledobjects",
    "ServingRuntime": "servingruntimes",
    "TriggerAuthentication": "triggerauthentications",
}
#: Other vendors' kinds that only the release before has.
KINDS_BEFORE = {("keda.sh/v1alpha1", "TriggerAuthentication")}
#: What an installation may be upgraded from: a commit or a tag.
BEFORE = os.environ.get("UPGRADE_FROM", "6db3b52")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A server that knows the vendors' kinds."""
    program = os.environ.get("KUBE_APISERVER", "")
    if not program:
        pytest.skip("NOT CHECKED: KUBE_APISERVER names no kube-apiserver (scripts/build-api-server makes an old one)")
    with api_server(
        program,
        os.environ.get("KUBE_ETCD") or require("etcd"),
        require("kubectl"),
        tmp_path_factory.mktemp("api-server"),
    ) as running:
        print(f"\nKubernetes {running.version}", *(f"{old} for {new}" for new, old in running.translations().items()))
        folder = os.environ.get("CRDS", "")
        if folder:
            running.kubectl("create", "-f", folder)
        else:
            running.apply([_open_definition(*kind) for kind in sorted(_vendors_kinds())])
        running.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        yield running


def _vendors_kinds() -> set[tuple[str, str]]:
    """Return (apiVersion, kind) of whatever is no kind of Kubernetes itself."""
    manifests = [m for name in OVERLAYS for m in overlay(name)]
    manifests += [m for names in ALONE.values() for m in _with(*names)]
    manifests += rendered(DEPLOY / "kserve")
    return KINDS_BEFORE | {(m["apiVersion"], m["kind"]) for m in manifests if m["kind"] in PLURALS}


@functools.cache
def _with(*names: str) -> tuple[Manifest, ...]:
    """Render the base with these components and the labels that every overlay gives, in the default namespace."""
    labels = yaml.safe_load((DEPLOY / "kubernetes" / "overlays" / "cpu" / "kustomization.yaml").read_text())["labels"]
    with tempfile.TemporaryDirectory() as folder:
        file = with_components(Path(folder), *names) / "kustomization.yaml"
        file.write_text(file.read_text() + yaml.safe_dump({"labels": labels}))
        return rendered(file.parent)


def _open_definition(api_version: str, kind: str) -> Manifest:
    """Define a kind whose fields nobody looks at."""
    group, version = api_version.split("/")
    anything = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    metadata: dict[str, Any] = {"name": f"{PLURALS[kind]}.{group}"}
    if group.endswith(".k8s.io"):
        metadata["annotations"] = {"api-approved.kubernetes.io": "unapproved, a stand-in"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"kind": kind, "listKind": f"{kind}List", "plural": PLURALS[kind], "singular": kind.lower()},
            "versions": [{"name": version, "served": True, "storage": True, "schema": anything}],
        },
    }


def _namespace(name: str) -> str:
    """Return the namespace of an overlay's manifests."""
    (namespace,) = {m["metadata"]["namespace"] for m in overlay(name) if m["kind"] not in CLUSTER_SCOPED}
    return str(namespace)


def _secrets(*words: str, text: str = "") -> str:
    """Run scripts/deploy-secrets; return what it prints."""
    command = [sys.executable, str(ROOT / "scripts" / "deploy-secrets"), *words]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=60, check=True).stdout


def _install(server: ApiServer, name: str) -> dict[str, str]:
    """Do what docs/deploy.md says for an overlay; return what became of each object."""
    namespace = _namespace(name)
    if server.try_kubectl("get", "namespace", namespace).returncode:
        server.kubectl("create", "namespace", namespace, "--save-config")
    secrets = _secrets("--namespace", namespace, "--client", "web", "--client", "batch")
    server.kubectl("apply", "-f", "-", text=secrets)
    server.apply(overlay(name), "--dry-run=server")
    return server.apply(overlay(name))


def _remove(server: ApiServer, manifests: Sequence[Manifest]) -> None:
    """Delete what was applied; the namespaces stay, since only a controller ends one."""
    inside = [m for m in manifests if m["kind"] != "Namespace"]
    server.kubectl("delete", "--ignore-not-found", "--wait=false", "-f", "-", text=server.text_of(inside))


def _versions(server: ApiServer, manifests: Sequence[Manifest]) -> list[str]:
    """Return the version that the server has of each object: another one after every change."""
    items = yaml.safe_load(server.kubectl("get", "-o", "yaml", "-f", "-", text=server.text_of(manifests)))["items"]
    return [f"{i['kind']}/{i['metadata']['name']} {i['metadata']['resourceVersion']}" for i in items]


def _changed(outcomes: dict[str, str]) -> list[str]:
    """List what an apply wrote.

    A StatefulSet always is, with the same content: the server adds a status to its claims' templates, and lists are
    compared whole.
    """
    return [what for what, outcome in outcomes.items() if outcome != "unchanged" and "statefulset" not in what]


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_is_taken_and_taken_again_changes_nothing(server: ApiServer, name: str) -> None:
    outcomes = _install(server, name)
    try:
        assert len(outcomes) == len(overlay(name))
        before = _versions(server, overlay(name))
        again = server.apply(overlay(name))
        assert _versions(server, overlay(name)) == before
        assert _changed(again) == []
        difference = server.try_kubectl("diff", "-f", "-", text=server.text_of(overlay(name)))
        assert (difference.returncode, difference.stdout) == (0, "")
    finally:
        _remove(server, overlay(name))
    print(f"{name}: {len(outcomes)} objects taken, all unchanged at the second apply")


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name in ALONE])
def test_every_other_component_is_taken(server: ApiServer, component: str) -> None:
    """In an empty overlay: what the server defaults, or refuses, is seen by a dry run."""
    outcomes = server.apply(_with(*ALONE[component]), "--dry-run=server")
    assert len(outcomes) == len(_with(*ALONE[component]))


def test_every_component_is_in_an_overlay_or_tried_alone() -> None:
    text = "".join((DEPLOY / "kubernetes" / "overlays" / name / "kustomization.yaml").read_text() for name in OVERLAYS)
    assert {name for name in COMPONENTS if f"components/{name}\n" not in text} == set(ALONE)


def test_kserves_objects_are_taken(server: ApiServer) -> None:
    assert server.apply(rendered(DEPLOY / "kserve"), "--dry-run=server")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_pods_of_an_overlay_are_admitted(server: ApiServer, name: str) -> None:
    """Deployments are taken whatever their pods look like: a ReplicaSet would then be refused every pod."""
    _install(server, name)
    try:
        workloads = [m for m in overlay(name) if m["kind"] in WORKLOADS]
        for workload in workloads:
            template = workload["spec"]["template"]
            metadata = template["metadata"] | {"name": "tried", "namespace": _namespace(name)}
            spec = template["spec"]
            claims = workload["spec"].get("volumeClaimTemplates", [])
            volumes = [{"name": c["metadata"]["name"], "persistentVolumeClaim": {"claimName": "tried"}} for c in claims]
            spec = spec | {"volumes": [*spec["volumes"], *volumes]}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            run = server.try_kubectl("create", "--dry-run=server", "-o", "yaml", "-f", "-", text=yaml.safe_dump(pod))
            assert (run.returncode, run.stderr) == (0, "")
            if "priorityClassName" in spec:
                assert yaml.safe_load(run.stdout)["spec"]["priority"] == 100_000
    finally:
        _remove(server, overlay(name))


def test_an_apply_does_not_undo_a_scaling(server: ApiServer) -> None:
    """What a scaler set stays, and front ends, which nothing scales, keep the manifest's number."""
    namespace = _namespace("redis-scale-out")
    _install(server, "redis-scale-out")
    try:
        server.kubectl("-n", namespace, "scale", "deployment/dmvfn-worker", "--replicas=7")
        server.apply(overlay("redis-scale-out"))
        numbers = {
            item["metadata"]["name"]: item["spec"]["replicas"]
            for item in server.get("-n", namespace, "deploy")["items"]
        }
        assert numbers == {"dmvfn-worker": 7, "dmvfn-server": 2}
    finally:
        _remove(server, overlay("redis-scale-out"))


def test_a_second_install_changes_nothing_of_the_first(server: ApiServer) -> None:
    first = overlay("redis-scale-out")
    _install(server, "redis-scale-out")
    try:
        before = _versions(server, first)
        outcomes = _install(server, "staging")
        assert set(outcomes.values()) == {"created"}
        assert _versions(server, first) == before
        _remove(server, overlay("staging"))
        assert _versions(server, first) == before
    finally:
        _remove(server, overlay("redis-scale-out"))


def test_a_client_comes_and_goes_through_the_server(server: ApiServer) -> None:
    """The commands of docs/deploy.md: what comes back from the server is what the script changes."""
    namespace = _namespace("redis-scale-out")
    _install(server, "redis-scale-out")
    try:
        words = ("-n", namespace, "secret", "dmvfn-secrets")
        before = server.get(*words)["data"]
        server.kubectl(
            "apply",
            "-f",
            "-",
            text=_secrets("--add-client", "mobile", text=server.kubectl("get", "-o", "json", *words)),
        )
        added = server.get(*words)["data"]
        text = server.kubectl("get", "-o", "json", *words)
        server.kubectl("apply", "-f", "-", text=_secrets("--remove-client", "mobile", text=text))
        after = server.get(*words)["data"]
    finally:
        _remove(server, overlay("redis-scale-out"))
    assert [pair.split(":")[0] for pair in _keys(added)] == ["web", "batch", "mobile"]
    assert _keys(added)[:2] == _keys(before)
    assert after == before


def test_redis_password_has_a_successor_through_the_server(server: ApiServer) -> None:
    """The commands of docs/deploy.md: kubectl's list is what the script changes, and both Secrets are taken."""
    namespace = _namespace("redis-scale-out")
    _install(server, "redis-scale-out")
    words = ("-n", namespace, "secret", "dmvfn-secrets", "dmvfn-redis-acl")
    digests = []
    try:
        for how in ("new", "single"):
            text = _secrets("--redis-password", how, text=server.kubectl("get", "-o", "json", *words))
            server.kubectl("apply", "-f", "-", text=text)
            service, redis = (item["data"] for item in server.get(*words)["items"])
            acl = base64.b64decode(redis["users.acl"]).decode().splitlines()[1]
            digest = hashlib.sha256(base64.b64decode(service["DMVFN_REDIS_PASSWORD"])).hexdigest()
            digests.append((acl.count(" #"), acl.rpartition(" #")[2].split()[0] == digest))
    finally:
        _remove(server, overlay("redis-scale-out"))
    assert digests == [(2, True), (1, True)]


def _keys(data: dict[str, str]) -> list[str]:
    return base64.b64decode(data["DMVFN_API_KEYS"]).decode().split(",")


@pytest.mark.parametrize("name", ["cpu", "gpu", "redis-scale-out"])
def test_a_release_before_is_upgraded_in_place(server: ApiServer, name: str) -> None:
    """No field that cannot be changed was changed: an apply over the old objects is taken, and by a third is done."""
    old = by_kubectl(tree(BEFORE) / "deploy" / "kubernetes" / "overlays" / name, require("kubectl"))
    if server.try_kubectl("get", "namespace", _namespace(name)).returncode:
        server.kubectl("create", "namespace", _namespace(name), "--save-config")
    server.apply(old)
    try:
        server.apply(overlay(name))
        assert _changed(server.apply(overlay(name))) == []
    finally:
        _remove(server, overlay(name))
        _remove(server, old)
