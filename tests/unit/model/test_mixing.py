"""The mixture: compiled loops equal the plain forward, absent candidates weigh nothing, files are checked."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import safetensors
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from model import checkpoint
from model.checkpoint import CheckpointError
from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN
from model.inference.cpu.packing import WorkingMemory
from model.inference.cpu.precision import Arithmetic
from model.mixing import candidates, predictor, weights
from model.mixing.head import HeadConfig, MixingHead
from model.mixing.prepared import PreparedHead
from model.motion import classical, field
from tests.unit.model.inference.cpu.kinds import HALVES

NAMES = ("projected", "carried", "turned", "still", "soft", "network")


def _pair(height: int = 61, width: int = 83, step: float = 2.0) -> list[NDArray[np.uint8]]:
    y, x = np.indices((height, width), np.float32)
    frames = []
    for k in range(3):
        waves = [np.sin((x - step * k) / 4 + c) + np.cos(y / 5 + (x - step * k) / 9) for c in range(3)]
        frames.append((np.stack(waves, -1) * 50 + 120).astype(np.uint8))
    return frames


def _resized(frame: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _head(names: tuple[str, ...] = NAMES) -> MixingHead:
    torch.manual_seed(3)
    head = MixingHead(HeadConfig(names, (4, 8, 8))).eval()
    with torch.no_grad():
        head.leave.weight.normal_(0, 0.5)
    return head


@pytest.mark.parametrize("size", [(61, 83), (64, 96), (1, 1), (16, 17)])
def test_the_compiled_path_equals_the_plain_forward(size: tuple[int, int]) -> None:
    head = _head()
    rng = np.random.default_rng(1)
    frames = rng.integers(0, 256, (len(NAMES), *size, 3), np.uint8)
    flow = rng.normal(0, 5, (*size, 2)).astype(np.float32)
    frame, shares, _ = predictor.weigh(head, NAMES, list(frames), flow, arithmetic=Arithmetic.FLOAT32)

    bottom, right = -size[0] % 8, -size[1] % 8
    stacked = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    stacked = F.pad(stacked, (0, right, 0, bottom), mode="replicate")
    moved = F.pad(torch.from_numpy(flow).permute(2, 0, 1)[None], (0, right, 0, bottom), mode="replicate")
    with torch.inference_mode():
        plain = head(stacked[None], moved)
    expected = plain.frame[0, :, : size[0], : size[1]].clamp(0, 1).permute(1, 2, 0).numpy()
    assert np.abs(frame - expected).max() < 1e-4
    assert np.allclose(list(shares.values()), plain.weights.mean((0, 2, 3)).numpy(), atol=1e-4)


@pytest.mark.parametrize("path", [weights.DEFAULT, weights.LIVE, weights.SHARP])
@pytest.mark.parametrize("size", [(8, 8), (24, 40), (33, 70)])
def test_the_prepared_convolutions_equal_the_heads_own(path: Path, size: tuple[int, int]) -> None:
    head, about = weights.load(path)
    kinds, rng = len(about.config.candidates), np.random.default_rng(4)
    frames = rng.integers(0, 256, (kinds, *size, 3), np.uint8)
    flow = rng.normal(0, 5, (*size, 2)).astype(np.float32)
    bottom, right = -size[0] % 8, -size[1] % 8
    inputs = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    moved = torch.from_numpy(flow).permute(2, 0, 1)[None]
    with torch.inference_mode():
        seen = head.features(inputs[None], moved)
        own = head.logits(F.pad(seen, (0, right, 0, bottom), mode="replicate"))[0].permute(1, 2, 0).numpy()
    maps = PreparedHead(head, WorkingMemory(), Arithmetic.FLOAT32).logits(frames, flow)
    height, width = own.shape[:2]
    assert np.allclose(maps[1 : height + 1, 1 : width + 1, : kinds + 1], own, atol=1e-4, rtol=1e-4)


def test_frames_that_lie_as_the_candidates_do_are_mixed_as_others_are() -> None:
    previous, current, _ = _pair()
    head, names = _head(), NAMES[:-1]
    for chosen, given in ((_head(names), names), (head, names), (head, names[::-1])):
        stack = candidates.build(previous, current, (*given, "crisp"))
        lying = predictor.weigh(chosen, given, stack.frames, stack.flow, crispness=0.5)
        apart = predictor.weigh(chosen, given, [frame.copy() for frame in stack.frames], stack.flow, crispness=0.5)
        assert np.array_equal(lying.frame, apart.frame)
        assert lying.means == apart.means


def test_a_head_that_learns_on_is_prepared_anew() -> None:
    head = weights.load(weights.LIVE)[0]
    names, frame, flow = head.config.candidates, np.zeros((16, 16, 3), np.uint8), np.zeros((16, 16, 2), np.float32)
    frames = [np.full_like(frame, 20 * number) for number in range(len(names))]
    before, *_ = predictor.weigh(head, names, frames, flow)
    with torch.no_grad():
        head.leave.weight.zero_()
    after, shares, _ = predictor.weigh(head, names, frames, flow)
    assert not np.allclose(before, after)
    assert len({round(share, 2) for share in shares.values()}) > 1


@pytest.mark.parametrize("arithmetic", HALVES)
def test_bfloat16_changes_an_answer_by_little(arithmetic: Arithmetic) -> None:
    previous, current, _ = _pair()
    head = _head(NAMES[:-1])
    stack = candidates.build(previous, current, NAMES[:-1])
    exact, *_ = predictor.weigh(head, NAMES[:-1], stack.frames, stack.flow, arithmetic=Arithmetic.FLOAT32)
    quick, *_ = predictor.weigh(head, NAMES[:-1], stack.frames, stack.flow, arithmetic=arithmetic)
    assert 0 < np.abs(exact - quick).mean() < 1 / 255


def test_without_the_network_its_candidate_weighs_nothing_and_is_not_seen() -> None:
    previous, current, _ = _pair()
    head, about = _head(), weights.HeadMetadata(HeadConfig(NAMES))
    alone = predictor.mix(previous, current, None, head, about)
    assert set(alone.report.shares) == set(NAMES) - {"network"}
    assert sum(alone.report.shares.values()) == pytest.approx(1, abs=1e-5)
    torch.manual_seed(0)
    network = DMVFN(ModelConfig.tiny()).eval()
    network.metadata = checkpoint.Metadata(config=network.config)
    together = predictor.mix(previous, current, network, head, about)
    assert set(together.report.shares) == set(NAMES)
    assert np.abs(together.frame - alone.frame).max() > 1e-3


def test_a_fresh_head_answers_mostly_the_projected_flow_and_is_near_the_truth() -> None:
    previous, current, target = _pair()
    torch.manual_seed(0)
    head = MixingHead(HeadConfig(NAMES[:-1]))
    answers = predictor.rollout(previous, current, 2, None, head, weights.HeadMetadata(head.config))
    assert len(answers) == 2
    inner = np.s_[8:-8, 8:-12]
    error = np.abs(answers[0].frame - target / 255.0)[inner].mean()
    assert error < 0.4 * np.abs(current.astype(np.float32) - target)[inner].mean() / 255
    assert field.steady(previous, current, answers[0].flow).confidence[inner].mean() > 0.7
    assert max(answers[0].report.shares, key=answers[0].report.shares.__getitem__) == "projected"


def test_frames_further_on_are_taken_from_the_sent_ones_along_the_motion_found_once() -> None:
    """A pattern that moves by whole pixels: after three steps it is as sharp as after one, and where it must be."""
    pattern = cv2.GaussianBlur(np.random.default_rng(3).integers(0, 256, (64, 96, 3)).astype(np.uint8), (0, 0), 2)
    previous, current, *targets = (np.array(np.roll(pattern, 2 * k, 1), np.uint8) for k in range(5))
    head, about = weights.load()
    answers = predictor.rollout(previous, current, 3, None, head, about)
    inner = np.s_[12:-12, 24:-16]
    for ahead, (answer, target) in enumerate(zip(answers, targets, strict=True), 1):
        assert answer.motions.main is answers[0].motions.main
        error = np.abs(answer.frame - target / 255.0)[inner].mean()
        assert error < 0.01, (ahead, error)
        field_of = field.steady(previous, current, answer.flow, ahead)
        assert np.median(field_of.current[inner][..., 0]) == pytest.approx(-2 * ahead, abs=0.1)
        assert np.median(field_of.previous[inner][..., 0]) == pytest.approx(-2 * (ahead + 1), abs=0.1)


@pytest.mark.parametrize("preset", ["medium", "sparse"])
def test_motion_by_an_odd_pixel_is_found_in_detail_that_half_the_size_cannot_hold(preset: classical.Preset) -> None:
    pattern = np.random.default_rng(5).integers(0, 256, (64, 96, 3), np.uint8)
    previous, current = (np.ascontiguousarray(np.roll(pattern, 3 * k, 1)) for k in range(2))
    motions = candidates.find(previous, current, ("projected", "turned"), preset)
    plain = classical.dis(field.grey(current), field.grey(previous), preset)
    plain_onward = classical.dis(field.grey(previous), field.grey(current), "sparse")
    assert motions.onward is not None
    assert _distance(motions.main, -3) < 0.7 * _distance(plain, -3) < 0.2
    assert _distance(motions.onward, 3) < 0.7 * _distance(plain_onward, 3) < 0.2


def _distance(flow: NDArray[np.float32], right: float) -> float:
    """Measure how far a flow is from one motion to the right, in pixels, away from the border."""
    return float(np.hypot(flow[..., 0] - right, flow[..., 1])[16:-16, 16:-16].mean())


def test_coarse_frames_are_searched_as_they_are() -> None:
    previous, current, _ = _pair(64, 96)
    for preset in ("medium", "sparse"):
        motions = candidates.find(previous, current, ("projected", "turned"), preset)
        assert np.array_equal(motions.main, classical.dis(field.grey(current), field.grey(previous), preset))


def test_fineness_tells_sharp_pictures_from_smooth_ones() -> None:
    noise = np.random.default_rng(6).integers(0, 256, (96, 128), np.uint8)
    steps = np.kron(noise[::6, ::6], np.ones((6, 6), np.uint8))
    smooth = cv2.GaussianBlur(noise, (0, 0), 3)
    assert candidates.fineness(noise) == pytest.approx(1, abs=0.05)
    assert candidates.fineness(steps) == pytest.approx(0.5, abs=0.05)
    assert 0.2 < candidates.fineness(np.asarray(smooth, np.uint8)) < 0.3
    assert candidates.fineness(np.full((3, 3), 7, np.uint8)) == 0
    with pytest.raises(ValueError, match="three pixels"):
        candidates.fineness(noise[:2])


def test_in_frames_too_small_for_a_search_nothing_moves() -> None:
    motions = candidates.find(np.zeros((1, 1, 3), np.uint8), np.full((1, 1, 3), 9, np.uint8), ("projected", "turned"))
    assert motions.onward is not None
    assert not motions.main.any()
    assert not motions.onward.any()


def test_the_mean_lies_between_its_two_warps() -> None:
    previous, current, _ = _pair(step=3.0)
    first, second = candidates.build(previous, current, ("projected", "carried")).frames
    assert np.allclose(predictor.mean(previous, current), (first / 255.0 + second / 255.0) / 2, atol=1e-6)


def test_an_unknown_candidate_and_an_absent_network_are_refused() -> None:
    previous, current, _ = _pair()
    with pytest.raises(ValueError, match="elsewhere"):
        candidates.build(previous, current, ("projected", "elsewhere"))
    with pytest.raises(ValueError, match="network"):
        candidates.build(previous, current, ("projected", "network"))


def test_a_head_comes_back_from_its_file(tmp_path: Path) -> None:
    head = _head()
    about = weights.HeadMetadata(head.config, "1", "some clips", "sparse", 0.5, 1.25, {"psnr": 27.5})
    weights.save(tmp_path / "head.safetensors", head, about)
    loaded, read = weights.load(tmp_path / "head.safetensors")
    assert read == about
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), head.state_dict().values(), strict=True))


@pytest.mark.parametrize(
    "change",
    [
        {"format": "dmvfn"},
        {"config": "{"},
        {"config": '{"candidates": ["projected", "soft"], "widths": [4, 8, 99999999]}'},
        {"config": '{"candidates": ["projected", "unheard of"], "widths": [4, 8, 8]}'},
        {"config": '{"candidates": ["projected", "soft"], "widths": [4, 8]}'},
        {"config": '{"candidates": ["projected", "soft"], "widths": [4, 8, 8]}'},
        {"config": '{"candidates": ["soft", "projected"], "widths": [4, 8, 8]}'},
        {"config": '{"candidates": ["projected", "still"], "widths": [4, 8, 8]}'},
        {"scores": "[]"},
        {"preset": "slow"},
        {"crispness": "nan"},
        {"crispness": "-1"},
        {"sharpening": "2.5"},
    ],
)
def test_a_file_that_is_no_head_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    path = tmp_path / "head.safetensors"
    weights.save(path, _head(), weights.HeadMetadata(_head().config))
    with safetensors.safe_open(str(path), "pt") as file:
        strings = dict(file.metadata())
    save_file(load_file(path), path, strings | change)
    with pytest.raises(CheckpointError, match=r"head\.safetensors"):
        weights.load(path)


def test_files_that_are_absent_or_damaged_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError):
        weights.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x05nothing")
    with pytest.raises(CheckpointError):
        weights.load(tmp_path / "bad.safetensors")


@pytest.mark.parametrize("size", [(1, 1), (5, 70), (16, 16), (33, 15)])
def test_the_shipped_heads_answer_frames_of_any_size(size: tuple[int, int]) -> None:
    frame = np.full((*size, 3), 90, np.uint8)
    for path in (weights.DEFAULT, weights.LIVE, weights.SHARP):
        head, about = weights.load(path)
        answer = predictor.mix(frame, frame, None, head, about)
        assert answer.frame.shape == (*size, 3)
        assert np.allclose(answer.frame, 90 / 255, atol=1e-3)
        assert sum(answer.report.shares.values()) == pytest.approx(1, abs=1e-3)
        assert answer.report.macs > 0


def test_the_shipped_heads_beat_both_warps_on_a_moving_pattern_with_noise() -> None:
    rng = np.random.default_rng(0)
    previous, current, target = (
        (f + rng.normal(0, 8, f.shape)).clip(0, 255).astype(np.uint8) for f in _pair(96, 128, 3.0)
    )
    for path in (weights.DEFAULT, weights.LIVE, weights.SHARP):
        head, about = weights.load(path)
        answer = predictor.mix(previous, current, None, head, about).frame
        warps = candidates.build(previous, current, ("projected", "carried"), preset=about.preset).frames
        frames: list[Any] = [answer, *(warp / 255.0 for warp in warps)]
        errors = [float(np.square(frame - target / 255.0).mean()) for frame in frames]
        assert errors[0] < 0.95 * min(errors[1:])


def test_a_crisp_candidate_keeps_detail_that_half_a_pixel_of_motion_takes_from_the_others() -> None:
    rng = np.random.default_rng(2)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (96, 300, 3), np.uint8), (0, 0), 1.6)
    # Frames at half the width, one pixel of the wide one apart: half a pixel each.
    previous, current, target = (
        _resized(np.ascontiguousarray(wide[:, 4 - step : 292 - step]), 96, 144) for step in (0, 1, 2)
    )
    stack = candidates.build(previous, current, ("projected", "crisp")).frames
    inner = np.s_[8:-8, 8:-8]
    energies = [float(cv2.Laplacian(frame, cv2.CV_32F)[inner].var()) for frame in (*stack, target)]
    assert energies[0] < 0.9 * energies[1] < 1.1 * energies[2]
    errors = [np.square(frame.astype(float) - target)[inner].mean() for frame in stack]
    assert errors[1] < errors[0]


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (33, 48), (1, 1)])
def test_blurring_at_half_size_is_nearly_that_at_full_size(size: tuple[int, int]) -> None:
    main, current = (_resized(frame, *size) for frame in _pair()[:2])
    middle = cv2.addWeighted(main, 2 / 3, current, 1 / 3, 0)
    exact = cv2.GaussianBlur(middle, (0, 0), 3.0).astype(float)
    blurred = np.empty_like(main)
    candidates._blur(main, current, blurred)
    assert np.abs(blurred - exact).mean() < 1.5


def test_crispness_gives_back_what_bilinear_warps_take_where_something_moves() -> None:
    previous, current, _ = _pair(64, 96, 2.5)
    names = NAMES[:-1]
    head = _head(names)
    stack = candidates.build(previous, current, (*names, "crisp"))
    *frames, crisp = stack.frames
    plain, shares, _ = predictor.weigh(head, names, frames, stack.flow, arithmetic=Arithmetic.FLOAT32)
    sharp, same, _ = predictor.weigh(
        head, names, stack.frames, stack.flow, arithmetic=Arithmetic.FLOAT32, crispness=0.5
    )
    assert same == shares
    inputs = torch.from_numpy(np.array(frames)).permute(0, 3, 1, 2)[None].float() / 255
    with torch.inference_mode():
        mixture = head(inputs, torch.from_numpy(stack.flow).permute(2, 0, 1)[None])
    moved = F.interpolate(mixture.weights[:, :3].sum(1, keepdim=True), scale_factor=2.0, mode="bilinear")
    added = 0.5 * moved[0, 0, :, :, None].numpy() * (crisp.astype(np.float32) - frames[0]) / 255
    within = (plain > 0.05) & (plain < 0.95)
    assert np.abs(sharp - plain - added)[within].max() < 1e-4
    assert np.abs(added).max() > 1e-3
    about = weights.HeadMetadata(head.config, crispness=0.5)
    assert np.abs(predictor.mix(previous, current, None, head, about).frame - sharp).mean() < 1 / 255


def test_sharpening_adds_what_the_softened_copy_lacks_where_something_moves() -> None:
    previous, current, _ = _pair(64, 96, 2.5)
    names = NAMES[:-1]
    head = _head(names)
    stack = candidates.build(previous, current, names, preset="sparse")
    plain, shares, _ = predictor.weigh(head, names, stack.frames, stack.flow, arithmetic=Arithmetic.FLOAT32)
    sharp, same, _ = predictor.weigh(
        head, names, stack.frames, stack.flow, arithmetic=Arithmetic.FLOAT32, sharpening=1.5
    )
    assert same == shares
    inputs = torch.from_numpy(stack.frames).permute(0, 3, 1, 2)[None].float() / 255
    with torch.inference_mode():
        mixture = head(inputs, torch.from_numpy(stack.flow).permute(2, 0, 1)[None])
    moved = F.interpolate(mixture.weights[:, :3].sum(1, keepdim=True), scale_factor=2.0, mode="bilinear")
    softened = stack.frames[names.index("soft")].astype(np.float32)
    added = 1.5 * moved[0, 0, :, :, None].numpy() * (stack.frames[0] - softened) / 255
    within = (plain > 0.05) & (plain < 0.95)
    assert np.abs(sharp - plain - added)[within].max() < 1e-4
    assert np.abs(added).max() > 1e-3


def test_a_head_that_sharpens_does_as_much_as_its_two_frames_show() -> None:
    previous, current, _ = _pair(64, 96, 2.5)
    head = _head(NAMES[:-1])
    about = weights.HeadMetadata(head.config, preset="sparse")
    plain = predictor.mix(previous, current, None, head, about)
    answers = predictor.rollout(previous, current, 2, None, head, dataclasses.replace(about, sharpening=2.0))
    assert plain.motions.detail == 0 < answers[0].motions.detail == answers[1].motions.detail
    assert not np.array_equal(answers[0].frame, plain.frame)
    # Two frames of noise show none.
    noisy, other = np.random.default_rng(3).integers(0, 256, (2, 64, 96, 3), np.uint8)
    same, sharp = (
        predictor.mix(noisy, other, None, head, dataclasses.replace(about, sharpening=amount)) for amount in (0.0, 2.0)
    )
    assert np.array_equal(same.frame, sharp.frame)


def test_noise_is_no_detail_and_what_half_a_pixel_blurs_is() -> None:
    rng = np.random.default_rng(5)
    wide = cv2.GaussianBlur(rng.integers(0, 256, (96, 300, 3), np.uint8), (0, 0), 1.6)
    # Frames at half the width, one pixel of the wide one apart: half a pixel each.
    previous, current = (_resized(np.ascontiguousarray(wide[:, 4 - step : 292 - step]), 96, 144) for step in (0, 1))
    motion = np.tile(np.array([-0.5, 0], np.float32), (96, 144, 1))
    assert candidates.true_detail(previous, current, motion) > 0.2
    noisy, other = (rng.integers(0, 256, (96, 144, 3), np.uint8) for _ in range(2))
    assert candidates.true_detail(noisy, other, motion) == 0
    flat = np.full((96, 144, 3), 90, np.uint8)
    assert candidates.true_detail(flat, flat, motion) == 0
