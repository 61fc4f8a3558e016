"""The GPU path where there is no GPU: its loops interpreted in large pieces; on a machine with one, for real."""

from __future__ import annotations

import torch

from model.dmvfn.network import DMVFN
from model.inference.cuda import kernels as cuda_kernels
from model.inference.cuda import runner as cuda_runner

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def interpreted_quickly() -> None:
    """Few large pieces: the interpreter's time goes by their number."""
    if DEVICE.type == "cpu":
        cuda_kernels._BLOCK = 1 << 14


def accelerate(network: DMVFN, kind: torch.dtype = torch.float32) -> cuda_runner.CudaRunner:
    """The network on this device, prepared in `kind`, launched piece by piece."""
    interpreted_quickly()
    return cuda_runner.CudaRunner(network.to(DEVICE), kind)
