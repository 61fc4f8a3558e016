"""The GPU path's loops say what torch says, stay inside their arrays, and compile for the GPUs people have."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

from model.dmvfn.warp import blend, warp
from model.inference.cuda import kernels as cuda_kernels
from tests.unit.model.gpu import DEVICE, interpreted_quickly

KINDS = [torch.float32, torch.float16, torch.bfloat16]
SIZES = [(16, 16), (32, 48), (17, 35)]


@pytest.fixture(autouse=True)
def _quickly() -> None:
    interpreted_quickly()


def _noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)).to(DEVICE)


def _last(*maps: torch.Tensor) -> torch.Tensor:
    """BxCxHxW -> BxHxWx8."""
    joined = torch.cat(maps, 1).permute(0, 2, 3, 1)
    return F.pad(joined, (0, 8 - joined.shape[3])).contiguous()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kind", KINDS)
def test_advance_adds_warps_and_writes_what_a_block_sees(size: tuple[int, int], kind: torch.dtype) -> None:
    previous, current = _noise(2, 3, *size), _noise(2, 3, *size, seed=1)
    # Far beyond the border too.
    values = (_noise(2, 5, *size, seed=2) - 0.5) * 60
    step = ((_noise(2, 5, *size, seed=3) - 0.5) * 8).to(kind)
    state, seen = _last(values), torch.empty(2, *size, 24, dtype=kind, device=DEVICE)
    cuda_kernels.advance(_last(previous, current), _last(step), state, seen)
    now = values + step.float()
    torch.testing.assert_close(state, _last(now), atol=0, rtol=0)
    expected = torch.cat(
        (
            _last(previous, current),
            _last(warp(previous, now[:, :2]), warp(current, now[:, 2:4])),
            _last(now),
        ),
        3,
    )
    tolerance = {torch.float32: 2e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[kind]
    torch.testing.assert_close(seen.float(), expected, atol=tolerance, rtol=tolerance)
    assert not seen[..., [6, 7, 14, 15, 21, 22, 23]].any()


@pytest.mark.parametrize("size", SIZES)
def test_finish_blends_what_both_flows_bring(size: tuple[int, int]) -> None:
    previous, current, flow = _noise(2, 3, *size), _noise(2, 3, *size, seed=1), (_noise(2, 4, *size, seed=2) - 0.5) * 20
    mask, step = (_noise(2, 1, *size, seed=3) - 0.5) * 8, (_noise(2, 5, *size, seed=4) - 0.5).half()
    frame, moved, mixed = cuda_kernels.finish(_last(previous, current), _last(step), _last(flow, mask))
    flow, mask = flow + step[:, :4].float(), mask + step[:, 4:].float()
    torch.testing.assert_close(moved, flow, atol=1e-6, rtol=0)
    torch.testing.assert_close(mixed, mask, atol=1e-6, rtol=0)
    expected = blend(warp(previous, flow[:, :2]), warp(current, flow[:, 2:]), mask)
    torch.testing.assert_close(frame, expected, atol=2e-5, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("adds", [False, True])
def test_activate_is_bias_prelu_and_sum_in_place(kind: torch.dtype, adds: bool) -> None:
    maps = (_noise(2, 24, 9, 7) - 0.5).to(kind).contiguous(memory_format=torch.channels_last)
    other = _noise(2, 24, 9, 7, seed=1).to(kind).contiguous(memory_format=torch.channels_last)
    bias, slopes = _noise(24, seed=2) - 0.5, _noise(24, seed=3)
    expected = F.prelu(maps.float() + bias.view(1, -1, 1, 1), slopes) + (other.float() if adds else 0)
    out = cuda_kernels.activate(maps, bias, slopes, other if adds else None)
    assert out is maps
    # The interpreter cuts bfloat16 off where a GPU rounds: one place of the last bit.
    last_bit = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[kind]
    torch.testing.assert_close(out.float(), expected, atol=1e-6, rtol=last_bit)


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_no_flow_reads_outside_the_frames(broken: float) -> None:
    """On a GPU that would end the process; here every value read must be one of the frames'."""
    frames, state = torch.ones(1, 16, 16, 8, device=DEVICE), torch.full((1, 16, 16, 8), broken, device=DEVICE)
    seen = torch.empty(1, 16, 16, 24, device=DEVICE)
    cuda_kernels.advance(frames, torch.zeros_like(state), state.clone(), seen)
    assert (seen[..., 8:16] == 1).all()
    flow = cuda_kernels.finish(frames, torch.zeros_like(state), state)[1]
    assert not torch.isfinite(flow).all() or broken == 3e38


def test_they_compile_for_turing_ampere_hopper_and_blackwell() -> None:
    """To machine code, by triton's own assembler, which needs no GPU."""
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    ran = subprocess.run(
        [sys.executable, "-m", "tests.unit.model.compile_gpu"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.split("\n")[:-1]
    assert len(lines) == 3 * 6
    assert all(int(line.split()[-1]) > 1000 for line in lines)
