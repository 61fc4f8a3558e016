"""Pictures whose bytes can be sent on without a copy."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from model.mixing import byte_pictures, predictor, reduced, weights


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 1, 3), (5, 7, 3)])
def test_a_picture_has_what_was_written_and_cannot_be_written_to_any_more(shape: tuple[int, int, int]) -> None:
    values = np.random.default_rng(1).integers(0, 256, shape, np.uint8)
    picture = byte_pictures.filled(shape, lambda out: np.copyto(out, values))
    assert np.array_equal(picture, values)
    assert not picture.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        picture.flags.writeable = True


def _memory(picture: NDArray[np.uint8]) -> object:
    """The object in which an array lies."""
    memory: object = picture
    while isinstance(memory, np.ndarray):
        memory = memory.base
    return memory


def test_its_bytes_are_an_object_of_their_own_that_outlives_the_picture() -> None:
    first = byte_pictures.filled((4, 4, 3), lambda out: out.fill(1))
    second = byte_pictures.filled((4, 4, 3), lambda out: out.fill(2))
    memory = _memory(first)
    del first
    assert (memory, _memory(second)) == (b"\1" * 48, b"\2" * 48)


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_predicted_frames_lie_in_bytes(scale: float) -> None:
    head, about = weights.load(weights.LIVE)
    previous, current = np.random.default_rng(2).integers(0, 256, (2, 48, 80, 3), np.uint8)
    if scale == 1:
        pixels = predictor.mix(previous, current, None, head, about).pixels
    else:
        pixels = reduced.mix(previous, current, head, about, scale).pixels
    memory = _memory(pixels)
    assert isinstance(memory, bytes)
    assert memory == pixels.tobytes()
