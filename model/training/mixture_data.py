"""Draws training samples for a mixing head: crops of candidates that were warped on whole frames, kept on disk.

Whole frames, because a flow found on a crop is worse; on disk, because finding flows costs more than a training step.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from model import checkpoint
from model.dmvfn.network import DMVFN
from model.inference import pixels
from model.inference import predict as inference
from model.mixing import candidates
from model.mixing.candidate_names import NAMES
from model.motion.field import Floats
from model.training import clips, decode, scenes

#: Written last: a store that has it is whole.
LAST = "clips.json"
#: The candidates that a store has, in order; without this file all of `candidate_names.NAMES`.
CANDIDATES = "candidates.json"
#: Steps between the frames of a triple and enlargements of its frames, with how often each is drawn.
STRIDES, STRIDE_SHARES = (1, 2, 3), (0.5, 0.35, 0.15)
SIZES, SIZE_SHARES = (1.0, 1.5, 2.0), (0.55, 0.25, 0.2)
#: Mean motion in pixels that a crop must show, at least and at most.
MOTION = (0.3, 32.0)
#: Height and width of made-up scenes, their number of textures, and the side of one.
SCENE, TEXTURES, TEXTURE = (256, 384), 8, 256
#: The route that the network answers with as a candidate: its trained blocks, at half size.
ROUTE = (True, True, True, True, False, False, True, False, False)


@dataclass(frozen=True, slots=True)
class Folder:
    """One data set: its clips, how much of the samples is drawn from it, and what the network knows of it."""

    path: str
    share: float
    #: Whether the network's answer may be a candidate: never on clips that it was trained on.
    network: bool
    #: Sources (repository/path prefixes of the manifest) kept back for choosing checkpoints.
    held_back: tuple[str, ...]
    #: Sources drawn at this fraction of their number of clips.
    rarely: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draw:
    """One store of samples: how many, drawn from which seed, of so many pixels a side, at most so many of a triple."""

    count: int
    seed: int
    size: int = 128
    crops: int = 8
    #: Whether the triples are made-up scenes (`model.training.scenes`) in the clips' textures, not the clips' own.
    scenes: bool = False
    #: How many times as large the frames are made, and how often each size is drawn.
    sizes: tuple[float, ...] = SIZES
    size_shares: tuple[float, ...] = SIZE_SHARES
    #: How many of the crops that hardly move are taken.
    still: float = 0.05
    #: Whether every second triple runs backwards.
    backwards: bool = False


@dataclass(frozen=True, slots=True)
class Store:
    """Samples on disk. N samples, K candidates, S pixels a side."""

    frames: NDArray[np.uint8]  #: NxKxSxSx3
    target: NDArray[np.uint8]  #: NxSxSx3
    flow: NDArray[np.float16]  #: NxSxSx2 pixels
    network: NDArray[np.bool_]  #: N: whether "network" is one of the candidates
    clip: list[str]  #: N names
    candidates: tuple[str, ...] = NAMES  #: K names

    def batch(self, index: NDArray[Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Read samples -> candidates BxKx3xSxS and target Bx3xSxS in 0..1, flow Bx2xSxS, network B bool."""
        frames = torch.from_numpy(self.frames[index]).permute(0, 1, 4, 2, 3).float() / 255
        target = torch.from_numpy(self.target[index]).permute(0, 3, 1, 2).float() / 255
        flow = torch.from_numpy(self.flow[index].astype(np.float32)).permute(0, 3, 1, 2)
        return frames, target, flow, torch.from_numpy(self.network[index])


def build(
    out: Path,
    folders: Sequence[Folder],
    held_back: bool,
    draw: Draw,
    preset: str,
    cache: Path,
    names: Sequence[str] = NAMES,
    say: Callable[[str], None] = print,
) -> None:
    """Write the samples of `draw` into the folder `out`. `preset`: DIS's, for the two main candidates.

    `cache`: folder for decoded clips, shared by every call. `names`: of the candidates to keep.
    """
    out.mkdir(parents=True, exist_ok=True)
    cv2.setNumThreads(1)
    rng = np.random.default_rng(draw.seed)
    network = checkpoint.load() if "network" in names else None
    clips_of = [_clips(folder, held_back, cache) for folder in folders]
    shares = np.array([folder.share for folder in folders]) / sum(folder.share for folder in folders)
    count, size, kinds = draw.count, draw.size, len(names)
    frames = np.lib.format.open_memmap(out / "frames.npy", "w+", np.uint8, (count, kinds, size, size, 3))
    target = np.lib.format.open_memmap(out / "target.npy", "w+", np.uint8, (count, size, size, 3))
    flow = np.lib.format.open_memmap(out / "flow.npy", "w+", np.float16, (count, size, size, 2))
    has_network, clip_names = np.zeros(count, np.bool_), list[str]()
    while len(clip_names) < count:
        which = int(rng.choice(len(folders), p=shares))
        clip = clips_of[which][0][int(rng.choice(len(clips_of[which][0]), p=clips_of[which][1]))]
        triple = _made_up(clips_of[which][0], rng) if draw.scenes else _triple(clip, draw, rng)
        if triple is None:
            continue
        previous, current, last = triple
        may_answer = folders[which].network and not draw.scenes
        answer = _answer(network, previous, current) if network is not None and may_answer else None
        # An absent network's place is filled; `has_network` says that nobody may look at it.
        stack = candidates.build(previous, current, names, current if answer is None else answer, preset)
        for part in _tiles(stack.flow, draw, rng):
            if len(clip_names) == count:
                break
            row = len(clip_names)
            frames[row] = np.stack([frame[part] for frame in stack.frames])
            target[row], flow[row], has_network[row] = last[part], stack.flow[part], answer is not None
            clip_names.append("a scene" if draw.scenes else clip.name)
            if len(clip_names) % 500 == 0:
                say(f"{len(clip_names)} of {count} samples")
    np.save(out / "network.npy", has_network)
    (out / CANDIDATES).write_text(json.dumps(list(names)))
    (out / LAST).write_text(json.dumps(clip_names))


def _tiles(flow: Floats, draw: Draw, rng: np.random.Generator) -> Iterator[tuple[slice, slice]]:
    """Draw squares of a frame that move as samples should; more of large frames."""
    height, width = flow.shape[:2]
    most = height * width // (draw.size * draw.size) if draw.scenes else height * width // (3 * draw.size * draw.size)
    for _ in range(min(draw.crops, max(2, most))):
        y, x = (int(rng.integers(0, side - draw.size + 1)) for side in (height, width))
        part = np.s_[y : y + draw.size, x : x + draw.size]
        if _is_taken(float(np.hypot(*np.moveaxis(flow[part], 2, 0)).mean()), draw.still, rng):
            yield part


def load(folder: Path) -> Store:
    """Open what `build` wrote, mapped and not read."""
    arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", "target", "flow")}
    names = folder / CANDIDATES
    return Store(
        **arrays,
        network=np.load(folder / "network.npy"),
        clip=json.loads((folder / LAST).read_text()),
        candidates=tuple(json.loads(names.read_text())) if names.exists() else NAMES,
    )


def _clips(folder: Folder, held_back: bool, cache: Path) -> tuple[list[decode.Clip], NDArray[np.float64]]:
    """Load decoded clips, those held back or the others, and how often each is drawn."""
    root = Path(folder.path)
    with (root / "manifest.csv").open(newline="") as file:
        origin = {row["file"]: f"{row['source_repo']}/{row['source_path']}" for row in csv.DictReader(file)}
    files = [
        clip
        for clip in clips.find(root, "clips")
        if any(source in origin[clip.name] for source in folder.held_back) == held_back
    ]
    decoded_clips = decode.load(files, cache)
    weight = np.array([0.3 if any(s in origin[c.name] for s in folder.rarely) else 1.0 for c in decoded_clips])
    # By motion: the livelier, the more there is to learn.
    weight = weight * np.array([min(max(clip.verdict.typical, 0.3), 8.0) ** 0.5 for clip in decoded_clips])
    return decoded_clips, weight / weight.sum()


def _triple(clip: decode.Clip, draw: Draw, rng: np.random.Generator) -> tuple[decode.Frames, ...] | None:
    stride = int(rng.choice(STRIDES, p=STRIDE_SHARES))
    starts = clip.verdict.starts(len(clip.frames), stride)
    if not starts:
        return None
    first = int(rng.choice(starts))
    triple = tuple(np.ascontiguousarray(clip.frames[first + k * stride]) for k in range(3))
    if draw.backwards and rng.random() < 0.5:
        triple = triple[::-1]
    factor = float(rng.choice(draw.sizes, p=draw.size_shares))
    height, width = triple[0].shape[:2]
    factor = max(factor, draw.size / min(height, width))
    if factor == 1.0:
        return triple
    sides = (max(draw.size, round(width * factor)), max(draw.size, round(height * factor)))
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return tuple(np.asarray(cv2.resize(f, sides, interpolation=kind), np.uint8) for f in triple)


def _made_up(sources: Sequence[decode.Clip], rng: np.random.Generator) -> tuple[decode.Frames, ...]:
    """Film a made-up scene whose surfaces look like pieces of the clips' frames."""
    textures = []
    for _ in range(TEXTURES):
        frames = sources[int(rng.integers(len(sources)))].frames
        frame = frames[int(rng.integers(len(frames)))]
        side = min(*frame.shape[:2], int(rng.integers(TEXTURE // 2, TEXTURE + 1)))
        y, x = (int(rng.integers(0, length - side + 1)) for length in frame.shape[:2])
        piece = cv2.resize(frame[y : y + side, x : x + side], (TEXTURE, TEXTURE), interpolation=cv2.INTER_LINEAR)
        textures.append(np.asarray(piece, np.uint8))
    triple = scenes.make(textures, *SCENE, rng)
    return triple.previous, triple.current, triple.target


def _is_taken(motion: float, still: float, rng: np.random.Generator) -> bool:
    """Decide by its mean motion in pixels whether a crop becomes a sample; of still ones a share `still` does."""
    if motion > MOTION[1]:
        return False
    return motion >= MOTION[0] or rng.random() < still


def _answer(network: DMVFN, previous: decode.Frames, current: decode.Frames) -> decode.Frames:
    """Predict by the network at half size, as the mixture does."""
    first, second = (pixels.to_frames([frame], torch.device("cpu")) for frame in (previous, current))
    answer = inference.predict(network, first, second, torch.tensor([ROUTE]), 0.5).frame
    return np.asarray(pixels.to_pictures(answer[0]).numpy(), np.uint8)
