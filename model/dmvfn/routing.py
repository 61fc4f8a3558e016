"""Which blocks run: the routing probabilities' meaning, turned into one route per sample.

Pure: the same probabilities and seeds give the same routes, alone or inside any batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Blocks at least this probable run under `auto`; chosen by evaluation, see docs/decisions.md.
AUTO_THRESHOLD = 0.5


def normalise(logits: Tensor, total: float) -> Tensor:
    """Turn logits Bxn into probabilities Bxn in 0..1 whose sum is at most `total` (DMVFN's routing equation)."""
    values = torch.sigmoid(logits)
    return (values / (values.sum(1, keepdim=True) + 1e-6) * total).clamp(0, 1)


def straight_through(probabilities: Tensor, routes: Tensor) -> Tensor:
    """Return gates Bxn equal to `routes` in value whose gradient flows to `probabilities` unchanged."""
    return routes.to(probabilities.dtype) + probabilities - probabilities.detach()


def auto(probabilities: Tensor) -> Tensor:
    """Choose deterministic routes Bxn (bool): every block whose probability reaches AUTO_THRESHOLD."""
    return never_empty(probabilities >= AUTO_THRESHOLD, probabilities)


def full(probabilities: Tensor) -> Tensor:
    """Choose every block, for every sample: Bxn bool."""
    return torch.ones_like(probabilities, dtype=torch.bool)


def sample(probabilities: Tensor, seeds: list[int]) -> Tensor:
    """Draw Bernoulli routes Bxn, one seed per row, so that a row's draw does not depend on its neighbours."""
    rows = [torch.rand(probabilities.shape[1], generator=torch.Generator().manual_seed(seed)) for seed in seeds]
    draws = torch.stack(rows).to(probabilities.device)
    return never_empty(draws < probabilities, probabilities)


def budget(probabilities: Tensor, blocks: list[int]) -> Tensor:
    """Choose the `blocks[b]` most probable blocks of row b (ties: the earlier block), Bxn bool; at least one."""
    order = probabilities.argsort(dim=1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        1, order, torch.arange(order.shape[1], device=order.device).expand_as(order)
    )
    limit = torch.tensor(blocks, device=order.device).clamp(min=1).unsqueeze(1)
    return rank < limit


def explicit(bits: str) -> Tensor:
    """Parse a string such as "101010101" into a route of n bools; ValueError where a character is not 0 or 1."""
    if not bits or set(bits) - {"0", "1"}:
        raise ValueError(f"a route is written with the digits 0 and 1 only, not {bits!r}")
    return torch.tensor([bit == "1" for bit in bits])


def never_empty(routes: Tensor, probabilities: Tensor) -> Tensor:
    """Give rows of `routes` Bxn (bool) without a block the most probable one of `probabilities` Bxn.

    Without it nothing moves: `model.inference.predict` answers the current frame for such a row, the published wrapper
    even the previous one (decision 2).
    """
    best = torch.zeros_like(routes).scatter_(1, probabilities.argmax(1, keepdim=True), True)
    return torch.where(routes.any(1, keepdim=True), routes, best)
