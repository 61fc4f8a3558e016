"""What memory a process has taken."""

from __future__ import annotations

from pathlib import Path


def peak_mib(pid: int | str = "self", *, reset: bool = False) -> float:
    """Read the most memory a process has had since the last reset, MiB."""
    if reset:
        Path(f"/proc/{pid}/clear_refs").write_text("5")
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
