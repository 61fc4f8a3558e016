"""Network policies let through what the settings offer: webhooks, Sentinel, DNS wherever it runs."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

import pytest

from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import OVERLAYS, overlay, rendered, with_components

REDIS, REDIS_TLS, MEMORYSTORE_TLS, SENTINEL = 6379, 6380, 6378, 26379


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    expressions = selector.get("matchExpressions", [])
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def _egress(manifests: tuple[Manifest, ...], component: str) -> list[dict[str, Any]]:
    """Every egress rule for pods of that component."""
    labels = {"app.kubernetes.io/name": "dmvfn", "app.kubernetes.io/part-of": "dmvfn"}
    labels["app.kubernetes.io/component"] = component
    policies = [m["spec"] for m in manifests if m["kind"] == "NetworkPolicy"]
    return [rule for spec in policies if _selects(spec["podSelector"], labels) for rule in spec.get("egress", [])]


def _lets_out(rules: list[dict[str, Any]], address: str, port: int) -> bool:
    """Whether a packet to an address outside of every pod passes."""
    target = ipaddress.ip_address(address)
    for rule in rules:
        blocks = [peer["ipBlock"] for peer in rule.get("to", []) if "ipBlock" in peer]
        reaches = "to" not in rule or any(
            target in ipaddress.ip_network(block["cidr"])
            and not any(target in ipaddress.ip_network(inner) for inner in block.get("except", []))
            for block in blocks
        )
        if reaches and port in [entry["port"] for entry in rule["ports"]]:
            return True
    return False


@pytest.mark.parametrize("name", OVERLAYS)
def test_webhooks_leave_to_the_world_and_not_to_the_inside(name: str) -> None:
    """With and without Redis it is the servers that send them."""
    rules = _egress(overlay(name), "server")
    assert _lets_out(rules, "203.0.113.7", 443)
    assert _lets_out(rules, "2001:db8::7", 443)
    for inside in ("10.1.2.3", "169.254.169.254", "192.168.1.1", "100.64.0.1", "fd00::1", "fe80::1"):
        assert not _lets_out(rules, inside, 443), inside
    assert not _lets_out(rules, "203.0.113.7", 80)


def test_every_port_has_its_protocol(tmp_path: Path) -> None:
    """The server adds what is left out, and lists are compared whole: each apply would write the policy again."""
    for manifest in rendered(
        with_components(tmp_path, "worker", "redis", "monitoring", "tls", "openshift", "worker-egress")
    ):
        if manifest["kind"] == "NetworkPolicy":
            rules = [*manifest["spec"].get("ingress", []), *manifest["spec"].get("egress", [])]
            assert all(set(port) == {"port", "protocol"} for rule in rules for port in rule["ports"])


def test_workers_send_none() -> None:
    assert not _lets_out(_egress(overlay("redis-scale-out"), "worker"), "203.0.113.7", 443)


@pytest.mark.parametrize("component", ["server", "worker"])
@pytest.mark.parametrize("port", [REDIS, REDIS_TLS, MEMORYSTORE_TLS, SENTINEL])
def test_a_managed_redis_and_its_sentinels_are_reached(component: str, port: int) -> None:
    assert _lets_out(_egress(overlay("redis-scale-out"), component), "10.9.8.7", port)


@pytest.mark.parametrize("name", OVERLAYS)
def test_node_local_dns_is_reached(name: str) -> None:
    components = {"server", "worker"} if any(m["metadata"]["name"] == "dmvfn-worker" for m in overlay(name)) else set()
    for component in components | {"server"}:
        assert _lets_out(_egress(overlay(name), component), "169.254.20.10", 53)


def test_openshifts_dns_router_and_monitoring_pass(tmp_path_factory: pytest.TempPathFactory) -> None:
    manifests = rendered(with_components(tmp_path_factory.mktemp("openshift"), "worker", "redis", "openshift"))
    (policy,) = (m["spec"] for m in manifests if m["metadata"]["name"] == "dmvfn-openshift")
    peers = [rule["to"][0]["namespaceSelector"]["matchLabels"] for rule in policy["egress"]]
    assert peers == [{"kubernetes.io/metadata.name": "openshift-dns"}]
    assert {entry["port"] for entry in policy["egress"][0]["ports"]} == {5353}
    assert len(policy["ingress"]) == 2


def test_openshifts_monitoring_reaches_metrics_where_tls_moves_them(tmp_path: Path) -> None:
    manifests = rendered(with_components(tmp_path, "worker", "redis", "monitoring", "tls", "openshift"))
    (policy,) = (m["spec"] for m in manifests if m["metadata"]["name"] == "dmvfn-openshift")
    (rule,) = (r for r in policy["ingress"] if "user-workload-monitoring" in str(r["from"]))
    (monitor,) = (m["spec"] for m in manifests if m["kind"] == "PodMonitor")
    assert {entry["port"] for entry in rule["ports"]} == {end["port"] for end in monitor["podMetricsEndpoints"]}


def test_workers_that_fetch_weights_or_frames_are_let_out_by_a_component(tmp_path: Path) -> None:
    """As far as servers are, and no further."""
    manifests = rendered(with_components(tmp_path, "worker", "worker-egress"))
    worker, server = _egress(manifests, "worker"), _egress(manifests, "server")
    for address in ("203.0.113.7", "2001:db8::7", "10.1.2.3", "169.254.169.254", "fd00::1"):
        assert _lets_out(worker, address, 443) == _lets_out(server, address, 443), address
    assert _lets_out(worker, "203.0.113.7", 443)
    assert not _lets_out(worker, "203.0.113.7", 80)
