"""Runs etcd and a kube-apiserver on loopback, without nodes and controllers, and speaks to it by kubectl."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.system.e2e.process import free_port
from tests.unit.deploy.kustomize import Manifest

#: How long the two processes may take to answer on a busy machine, seconds.
PATIENCE_S = 180.0
TOKEN = "of-a-server-that-lives-for-a-test"  # nobody else reaches it
#: API versions that servers older than 1.25 may lack, and what those call the same kind.
OLDER = {"policy/v1": "policy/v1beta1", "autoscaling/v2": "autoscaling/v2beta2"}


class ApiServer:
    """A running API server. `kubectl` speaks to it as its administrator."""

    def __init__(self, folder: Path, url: str, client: str) -> None:
        """`folder`: of its own; `client`: the path of kubectl."""
        self._kubectl = client
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "one", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
            "users": [{"name": "admin", "user": {"token": TOKEN}}],
            "contexts": [{"name": "one", "context": {"cluster": "one", "user": "admin"}}],
            "current-context": "one",
        }
        (folder / "kubeconfig").write_text(json.dumps(config))
        self._environment = {**os.environ, "KUBECONFIG": str(folder / "kubeconfig"), "HOME": str(folder)}
        self.version = str(json.loads(self.kubectl("get", "--raw", "/version"))["gitVersion"])
        self._served = set(self.kubectl("api-versions").split())

    def try_kubectl(self, *words: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run kubectl with `text` as its input; return what it said."""
        command = [self._kubectl, *words]
        return subprocess.run(
            command, env=self._environment, input=text, capture_output=True, text=True, timeout=300, check=False
        )

    def kubectl(self, *words: str, text: str = "") -> str:
        """Run kubectl; return its output. Raises AssertionError with its complaint."""
        run = self.try_kubectl(*words, text=text)
        assert run.returncode == 0, f"kubectl {' '.join(words)}: {run.stderr}"
        return run.stdout

    def get(self, *words: str) -> Any:
        """Return what `kubectl get` finds, as values."""
        return json.loads(self.kubectl("get", "-o", "json", *words))

    def apply(self, manifests: Sequence[Manifest], *words: str) -> dict[str, str]:
        """Apply manifests; return what became of each: created, configured or unchanged. Raises at a warning, too."""
        run = self.try_kubectl("apply", *words, "-f", "-", text=self.text_of(manifests))
        assert (run.returncode, run.stderr) == (0, "")
        lines = run.stdout.splitlines()
        return {line.split()[0]: line.split()[1] for line in lines}

    def text_of(self, manifests: Sequence[Manifest]) -> str:
        """Write manifests as YAML, each in an API version that this server has."""
        return str(yaml.safe_dump_all(map(self._in_its_version, manifests), sort_keys=False))

    def translations(self) -> dict[str, str]:
        """Return which API versions this server lacks, and by which of its own the same kinds go."""
        return {new: old for new, old in OLDER.items() if new not in self._served and old in self._served}

    def _in_its_version(self, manifest: Manifest) -> Manifest:
        older = self.translations().get(manifest["apiVersion"])
        if older is None:
            return manifest
        # Of 1.27; the rest of both kinds is as it was.
        spec = {key: value for key, value in manifest["spec"].items() if key != "unhealthyPodEvictionPolicy"}
        return manifest | {"apiVersion": older, "spec": spec}


@contextlib.contextmanager
def api_server(program: str, etcd: str, kubectl: str, folder: Path) -> Iterator[ApiServer]:
    """Run `program` (a kube-apiserver) over `etcd` while this lasts, all files in `folder`."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
    )
    (folder / "tokens.csv").write_text(f'{TOKEN},admin,1,"system:masters"\n')
    client, peer, port = free_port(), free_port(), free_port()
    store = f"http://127.0.0.1:{client}"
    commands = (
        [
            etcd,
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={store}",
            f"--advertise-client-urls={store}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
        ],
        [
            program,
            f"--etcd-servers={store}",
            f"--cert-dir={folder / 'certificates'}",
            "--bind-address=127.0.0.1",
            f"--secure-port={port}",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://localhost",
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
            "--service-cluster-ip-range=10.99.0.0/24",
        ],
    )
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_running(command, folder)) for command in commands]
        url = f"https://127.0.0.1:{port}"
        _wait_until_ready(url, processes, folder)
        yield ApiServer(folder, url, kubectl)


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process while this lasts; its output goes to a file named after it."""
    with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(url: str, processes: list[subprocess.Popen[bytes]], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE_S
    # Its certificate is its own, made a moment ago; loopback is all there is between.
    with httpx.Client(verify=False, headers={"Authorization": f"Bearer {TOKEN}"}) as http:
        while True:
            with contextlib.suppress(httpx.TransportError):
                if http.get(f"{url}/readyz").status_code == 200:
                    return
            logs = "\n".join(log.read_text()[-2000:] for log in folder.glob("*.log"))
            assert all(process.poll() is None for process in processes), logs
            assert time.monotonic() < deadline, logs
            time.sleep(0.1)
