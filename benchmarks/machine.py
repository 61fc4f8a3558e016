"""What a figure was measured on: every benchmark prints it beside its figures."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch


def describe(*, busy: bool = True) -> str:
    """Processor, cores, vector instructions, GPU, versions and, where `busy`, how busy it is, on one line."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    line = (
        f"{names[0] if names else platform.processor() or 'unknown processor'}, {os.cpu_count()} cores, "
        f"{torch.backends.cpu.get_cpu_capability()}{gpu}, torch {torch.__version__}, "
        f"Python {platform.python_version()}"
    )
    return f"{line}, load {load:.1f}" if busy else line
