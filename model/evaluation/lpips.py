"""LPIPS (AlexNet) of two frames, where its weights are given: distances of deep features, weighted per channel.

Zhang et al. 2018. Nothing is downloaded: both files come by path.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Index in torchvision's AlexNet `features` of the five compared ReLUs, and their channels.
COMPARED = {1: 64, 4: 192, 7: 384, 9: 256, 11: 256}


class LPIPS(nn.Module):
    """Distance of frames Bx3xHxW in 0..1; the published tables feed BGR, `evaluate` does as the checkpoint says."""

    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, 1, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(192, 384, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(384, 256, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(256, 256, 3, 1, 1),
            nn.ReLU(),
        )
        self.lines = nn.ParameterList([torch.zeros(channels) for channels in COMPARED.values()])
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def load(cls, alexnet: str | Path, lines: str | Path) -> LPIPS:
        """Read the weights: torchvision's AlexNet state dict; the lin layers of the lpips package (alex, v0.1)."""
        network = cls()
        backbone, weights = _state(Path(alexnet)), _state(Path(lines))
        try:
            names = network.features.state_dict()
            network.features.load_state_dict({name: backbone[f"features.{name}"] for name in names})
            for index, line in enumerate(network.lines):
                line.copy_(weights[f"lin{index}.model.1.weight"].flatten())
        except KeyError as missing:
            raise ValueError(f"no LPIPS weights in {alexnet} and {lines}: {missing} is missing") from missing
        return network.eval()

    @torch.no_grad()
    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute one distance per sample; 0 for equal frames."""
        a, b = ((frames * 2 - 1 - self.shift) / self.scale for frames in (prediction, target))
        total = prediction.new_zeros(len(prediction))
        lines = iter(self.lines)
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in COMPARED:
                apart = (F.normalize(a, dim=1, eps=1e-10) - F.normalize(b, dim=1, eps=1e-10)).square()
                total = total + (apart * next(lines).view(1, -1, 1, 1)).sum(1).mean((1, 2))
        return total


def _state(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        return safetensors.torch.load_file(path)
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
