"""Buckets: padded to what the network takes at its scale, and no further."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from model.dmvfn.config import STRIDE as NETWORK_STRIDE
from service.core.bucket import STRIDE, Bucket


def test_the_stride_is_the_networks() -> None:
    assert STRIDE == NETWORK_STRIDE


@given(st.integers(1, 9000), st.integers(1, 9000), st.sampled_from((1.0, 0.5, 0.25)))
def test_a_bucket_holds_its_frame_and_reduces_to_whole_strides(height: int, width: int, scale: float) -> None:
    bucket = Bucket.of(height, width, scale)
    assert 0 <= bucket.height - height < STRIDE / scale
    assert (bucket.height * scale) % STRIDE == (bucket.width * scale) % STRIDE == 0
    assert Bucket.of(bucket.height, bucket.width, scale) == bucket
