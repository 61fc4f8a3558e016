"""What memory this process has taken."""

from __future__ import annotations

from pathlib import Path


def peak_mib(*, reset: bool = False) -> float:
    """Read the most memory this process has had since the last reset, MiB."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
