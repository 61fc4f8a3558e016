"""The GPU path where there is no GPU: its loops interpreted in large pieces; on a machine with one, for real."""

from __future__ import annotations

import torch

from model import accelerated, kernels_gpu
from model.network import DMVFN

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def interpreted_quickly() -> None:
    """Few large pieces: the interpreter's time goes by their number."""
    if DEVICE.type == "cpu":
        kernels_gpu._BLOCK = 1 << 14


def accelerate(network: DMVFN, kind: torch.dtype = torch.float32) -> accelerated.Accelerated:
    """The network on this device, prepared in `kind`, launched piece by piece."""
    interpreted_quickly()
    return accelerated.Accelerated(network.to(DEVICE), kind)
