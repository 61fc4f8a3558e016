"""Makes the deployment files that repeat what the code or another file says: `python -m deploy.generate`.

A test makes them again and compares, so that none goes stale.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import yaml

from deploy.grafana.dashboard import dashboard
from service.settings import PREFIX, Settings

HERE = Path(__file__).parent
#: What a pod needs otherwise than a laptop.
IN_A_POD = {
    "http_host": "0.0.0.0",
    "grpc_host": "0.0.0.0",
    "drain_delay_s": "5",
    "shutdown_grace_s": "30",
    "max_queue_bytes": str(512 * 2**20),
}


def settings_env() -> str:
    """Every setting that is no secret, each with its meaning; empty means the default."""
    lines = [
        "# Every setting; an empty one keeps its default. Made by `python -m deploy.generate`.",
        "# A site's own values: an overlay's configMapGenerator with `behavior: merge`.",
    ]
    for field in dataclasses.fields(Settings):
        if not field.metadata["secret"]:
            lines.append(f"# {field.metadata['help']}")
            lines.append(f"{PREFIX}{field.name.upper()}={IN_A_POD.get(field.name, '')}")
    return "\n".join(lines) + "\n"


def prometheus_rule() -> str:
    """The rule files as one PrometheusRule for the operator."""
    groups = [
        group
        for path in sorted((HERE / "prometheus" / "rules").glob("*.yml"))
        for group in yaml.safe_load(path.read_text())["groups"]
    ]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        # What kube-prometheus-stack selects by when it is installed under its own name.
        "metadata": {"name": "dmvfn", "labels": {"release": "kube-prometheus-stack"}},
        "spec": {"groups": groups},
    }
    head = "# Made by `python -m deploy.generate` from deploy/prometheus/rules.\n"
    return head + str(yaml.safe_dump(manifest, sort_keys=False, width=110))


def files() -> dict[Path, str]:
    """Path -> content of everything made here."""
    kubernetes = HERE / "kubernetes"
    return {
        kubernetes / "base" / "settings.env": settings_env(),
        kubernetes / "components" / "rules" / "rules.yaml": prometheus_rule(),
        HERE / "grafana" / "dashboards" / "dmvfn.json": json.dumps(dashboard(), indent=1) + "\n",
    }


def main() -> None:
    """Write them all."""
    for path, text in files().items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
