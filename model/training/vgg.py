"""The perceptual term of the published loss: distances of VGG19 features.

Weights come from a path, never a download.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from model.checkpoint import CheckpointError

#: Output channels of VGG19's convolutions; "M" halves the size. Up to relu5_1, the last layer that is compared.
_LAYERS: tuple[int | str, ...] = (64, 64, "M", 128, 128, "M", 256, 256, 256, 256, "M", 512, 512, 512, 512, "M", 512)
#: Index of relu1_1, 2_1, 3_1, 4_1, 5_1 in torchvision's `features`, and each one's weight (DMVFN's training code).
COMPARED = {1: 1 / 2.6, 6: 1 / 4.8, 11: 1 / 3.7, 20: 1 / 5.6, 29: 10 / 1.5}
#: The published sum is scaled by this.
SCALE = 0.1


class VGG(nn.Module):
    """Mean absolute difference of VGG19 features of two frames Bx3xHxW (RGB, 0..1), as published."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for layer in _LAYERS:
            if isinstance(layer, str):
                layers.append(nn.MaxPool2d(2))
            else:
                layers += [nn.Conv2d(channels, layer, 3, 1, 1), nn.ReLU()]
                channels = layer
        self.features = nn.Sequential(*layers)
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @classmethod
    def load(cls, path: str | Path) -> VGG:
        """Load weights in torchvision's names (`features.N.weight`); deeper layers and the classifier are ignored."""
        path = Path(path)
        if path.suffix == ".safetensors":
            state = safetensors.torch.load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        vgg = cls()
        names = vgg.state_dict()
        missing = sorted(names.keys() - state.keys())
        if missing:
            raise CheckpointError(f"{path}: no VGG19 weights, {missing[0]} is missing")
        vgg.load_state_dict({name: state[name] for name in names})
        return vgg.eval()

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Compute the scalar distance; the gradient flows to `prediction` only."""
        a = (prediction - self.mean) / self.deviation
        b = ((target - self.mean) / self.deviation).detach()
        total = prediction.new_zeros(())
        for index, layer in enumerate(self.features):
            a, b = layer(a), layer(b)
            if index in COMPARED:
                total = total + COMPARED[index] * (a - b).abs().mean()
        return SCALE * total
