"""Every number that defines a variant of the network, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass

#: Frame sides must be multiples of this: the coarsest block halves twice after reducing by 4.
STRIDE = 16


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Widths and scales of the nine voxel-flow blocks and of the routing module.

    Source: Hu et al., "A Dynamic Multi-Scale Voxel Flow Network for Video Prediction", CVPR 2023.
    """

    scales: tuple[int, ...]
    widths: tuple[int, ...]
    spatial_width: int = 8
    routing_width: int = 32

    def __post_init__(self) -> None:
        if len(self.scales) != len(self.widths) or not self.scales:
            raise ValueError("scales and widths must have one entry per block, and at least one block")
        if any(scale not in (1, 2, 4) for scale in self.scales):
            raise ValueError(f"scales must be 1, 2 or 4, not {self.scales}")
        if any(width % 4 or width <= 0 for width in self.widths):
            raise ValueError(f"widths must be positive multiples of 4, not {self.widths}")

    @property
    def blocks(self) -> int:
        """Count the voxel-flow blocks."""
        return len(self.scales)

    @property
    def expected_blocks(self) -> float:
        """Return the routing budget: probabilities are normalised to sum to at most this."""
        return self.blocks / 2

    @classmethod
    def paper(cls) -> ModelConfig:
        """Return the published network's: nine blocks, 3,559,930 parameters."""
        return cls(scales=(4, 4, 4, 2, 2, 2, 1, 1, 1), widths=(160,) * 3 + (80,) * 3 + (44,) * 3)

    @classmethod
    def tiny(cls) -> ModelConfig:
        """Return the same nine-block shape with very few channels, for tests."""
        return cls(scales=(4, 4, 4, 2, 2, 2, 1, 1, 1), widths=(8,) * 9, spatial_width=4, routing_width=8)
