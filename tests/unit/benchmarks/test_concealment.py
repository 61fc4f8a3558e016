"""The benchmark of concealment in small: losses as they are said to be, an even clip concealed nearly exactly."""

from __future__ import annotations

import numpy as np

from benchmarks import concealment
from service.core.types import Frame, Options
from tests.unit.rpc.small import SmallEngine


def test_a_tenth_is_lost_in_bursts_of_one_to_five() -> None:
    lost = concealment.losses(300, seed=3)
    assert 30 <= len(lost) < 35
    runs = [number for number in sorted(lost) if number - 1 not in lost]
    lengths = [next(length for length in range(1, 7) if first + length not in lost) for first in runs]
    assert max(lengths) <= 5
    assert min(lost) >= 5
    assert concealment.losses(300, seed=3) == lost


async def test_a_clip_that_goes_on_evenly_is_concealed_within_a_level_and_never_frozen() -> None:
    frames = [Frame(np.full((16, 24, 3), 2 * number, np.uint8)) for number in range(60)]
    result = await concealment.conceal(SmallEngine(), frames, {10, 11, 30, 31, 32, 33, 34}, "even", Options())
    # Motion is trusted by degrees: not wholly before it has proved right.
    assert result.concealed_db > 55
    assert result.repeated_db < 50
    assert (result.frozen_s, result.freezes) == (0.0, 0)
    assert abs(result.frozen_repeating_s - 7 / 30) < 1e-9
