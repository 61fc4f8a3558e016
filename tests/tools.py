"""Programs that some tests need: missing, they skip on a laptop with the reason, and fail in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

#: Where each comes from, for the message.
SOURCES = {
    "etcd": "Debian's package etcd-server; KUBE_ETCD names another",
    "gcc": "a C compiler",
    "kubectl": "a Kubernetes client",
    "node": "Node.js",
    "npm": "Node.js",
    "prometheus": "Debian's package prometheus",
    "promtool": "Debian's package prometheus",
    "prometheus-alertmanager": "Debian's package prometheus-alertmanager",
    "redis-server": "Debian's package redis-server",
    "chromium": "Debian's package chromium",
}


def missing(what: str) -> NoReturn:
    """Skip, saying what is missing; with CI=true fail, so that nothing is left out silently."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is needed and CI must have it", pytrace=False)
    pytest.skip(f"{what} is not here")


def require(tool: str) -> str:
    """The path of a program, or `missing`."""
    path = shutil.which(tool)
    if path is None:
        missing(f"{tool} ({SOURCES.get(tool, 'a program')})")
    return path
