"""TLS with clients' certificates: the service asks for them, and probes still pass, on a port of their own."""

from __future__ import annotations

import datetime
import ipaddress
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from service.settings import PREFIX, Settings
from tests.system.e2e.process import Service, free_port, service, until_ready
from tests.unit.deploy.kustomize import Manifest
from tests.unit.deploy.manifests import ROOT, one, rendered, with_components


class Authority:
    """A private CA that writes certificates into `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.certificate = self._signed(self.name, self.key, [(basic, True)])
        (folder / "ca.crt").write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extensions: Any) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(hours=1))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, name: str, usage: x509.ObjectIdentifier) -> tuple[str, str]:
        """Write a certificate for 127.0.0.1 that may be used for `usage` only; return its path and its key's."""
        key = ec.generate_private_key(ec.SECP256R1())
        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key, [(address, False), (x509.ExtendedKeyUsage([usage]), False)])
        paths = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
        return str(paths[0]), str(paths[1])


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def running(authority: Authority) -> Iterator[tuple[Service, dict[str, str]]]:
    """A server with a certificate for servers only, as public authorities issue them; and its settings."""
    certificate, key = authority.issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
    settings = {"TLS_CERT": certificate, "TLS_KEY": key, "TLS_CLIENT_CA": str(authority.folder / "ca.crt")}
    settings |= {"HEALTH_PORT": str(free_port())}
    with service(wait=False, forked=True, **settings) as process:
        settings |= {"HTTP_PORT": process.http.rpartition(":")[2]}
        process.http = f"http://127.0.0.1:{settings['HEALTH_PORT']}"
        until_ready(process)
        yield process, settings


def test_a_probe_needs_no_certificate_and_gets_health_and_metrics_only(
    running: tuple[Service, dict[str, str]],
) -> None:
    base = running[0].http
    statuses = {
        path: httpx.get(base + path).status_code for path in ("/healthz/live", "/healthz/ready", "/metrics", "/")
    }
    assert statuses == {"/healthz/live": 200, "/healthz/ready": 200, "/metrics": 200, "/": 404}
    assert httpx.post(f"{base}/v1/predict").status_code == 404


def test_the_images_own_check_passes(running: tuple[Service, dict[str, str]]) -> None:
    environment = {**os.environ, **{PREFIX + name: value for name, value in running[1].items()}}
    command = [sys.executable, "-m", "service", "health"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, run.stderr) == (0, "")


def test_callers_must_show_theirs(running: tuple[Service, dict[str, str]], authority: Authority) -> None:
    address = f"https://127.0.0.1:{running[1]['HTTP_PORT']}/v1/model"
    context = ssl.create_default_context(cafile=str(authority.folder / "ca.crt"))
    with pytest.raises(httpx.TransportError):
        httpx.get(address, verify=context)
    context.load_cert_chain(*authority.issue("client", ExtendedKeyUsageOID.CLIENT_AUTH))
    assert httpx.get(address, verify=context).status_code == 200


@pytest.fixture(scope="module")
def component(tmp_path_factory: pytest.TempPathFactory) -> tuple[Manifest, ...]:
    return rendered(with_components(tmp_path_factory.mktemp("component"), "worker", "redis", "monitoring", "tls"))


def test_the_components_probes_and_monitor_use_the_plain_port(component: tuple[Manifest, ...]) -> None:
    (container,) = one(component, "Deployment", "dmvfn-server")["spec"]["template"]["spec"]["containers"]
    environment = {variable["name"]: variable.get("value", "") for variable in container["env"]}
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert str(ports["health"]) == environment["DMVFN_HEALTH_PORT"]
    probes = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "readiness", "liveness")}
    assert {probe["port"] for probe in probes.values()} == {"health"}
    assert probes["readiness"]["path"] == "/healthz/ready"
    monitored = {e["port"]: e for e in one(component, "PodMonitor", "dmvfn")["spec"]["podMetricsEndpoints"]}
    assert set(monitored) == {"health", "http"}
    # A worker has no such port; a server's other one speaks TLS.
    assert {"action": "keep", "regex": "worker"}.items() <= monitored["http"]["relabelings"][0].items()
    known = {PREFIX + name.upper() for name in Settings.__dataclass_fields__}
    assert {name for name in environment if name.startswith(PREFIX)} <= known


def test_the_components_services_say_that_they_speak_tls(component: tuple[Manifest, ...]) -> None:
    services = [m for m in component if m["kind"] == "Service" and m["metadata"]["name"] != "dmvfn-redis"]
    assert len(services) == 3
    assert {port["appProtocol"] for m in services for port in m["spec"]["ports"]} == {"https"}
    assert all(port["targetPort"] for m in services for port in m["spec"]["ports"])


def test_an_ingress_speaks_tls_to_pods_that_do(tmp_path: Path) -> None:
    """ingress-nginx sends plain HTTP unless it is told otherwise, whatever a Service's appProtocol says."""
    manifests = rendered(with_components(tmp_path, "ingress", "tls"))
    protocol = "nginx.ingress.kubernetes.io/backend-protocol"
    spoken = {
        m["metadata"]["name"]: m["metadata"]["annotations"][protocol] for m in manifests if m["kind"] == "Ingress"
    }
    assert spoken == {"dmvfn": "HTTPS", "dmvfn-jobs": "HTTPS", "dmvfn-grpc": "GRPCS"}


def test_a_renewed_certificate_rolls_nothing(component: tuple[Manifest, ...]) -> None:
    """The files are followed: a restart would only end streams."""
    annotations = one(component, "Deployment", "dmvfn-server")["metadata"]["annotations"]
    assert annotations["secret.reloader.stakater.com/reload"] == "dmvfn-secrets"
    (container,) = one(component, "Deployment", "dmvfn-server")["spec"]["template"]["spec"]["containers"]
    assert not any("subPath" in mount for mount in container["volumeMounts"])  # such a mount is never renewed
