"""The installed release of the service; "0+checkout" where it runs from a tree that was never installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    RELEASE = version("dmvfn-service")
except PackageNotFoundError:
    RELEASE = "0+checkout"
