"""Trains a mixing head on stored candidates: draws, mixes, steps, and saves so that a stop loses little."""

from __future__ import annotations

import copy
import csv
import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.evaluation.scores import sharpness
from model.mixing import weights
from model.mixing.candidate_names import MOVED
from model.mixing.head import HeadConfig, MixingHead, Mixture, sharpened
from model.training import state
from model.training.losses import log_mse
from model.training.mixture_data import Draw, Folder, Store

#: Candidates that are always there; the others are left out of some samples, so that a head can do without.
ALWAYS = frozenset({"projected", "carried", "still", "soft", "blurred"})
#: What checkpoints are chosen by.
HELD_BACK = Draw(200, 7, 256, 2)
#: How often the network's answer is left out where there is one.
NETWORK_ABSENT = 0.3


@dataclasses.dataclass(frozen=True, slots=True)
class HeadPlan:
    """A head's run, as its TOML file says."""

    name: str
    folders: tuple[Folder, ...]
    draws: tuple[Draw, ...]
    candidates: tuple[str, ...]
    held_back: Draw = HELD_BACK
    preset: str = "medium"
    widths: tuple[int, int, int] = (16, 32, 64)
    steps: int = 6000
    batch: int = 16
    rate: float = 2e-3
    warm_up: int = 50
    ema: float = 0.998
    #: How often a candidate that need not be there is left out.
    absent: float = 0.1
    seed: int = 0
    #: Squared error below which a sample hardly counts (`losses.log_mse`).
    floor: float = 1e-4
    #: Written into the weights' file (`HeadMetadata.crispness`).
    crispness: float = 0.0
    #: Whether training and its scores see frames of that crispness, too; else they do without.
    trained_crisp: bool = False
    #: A head's file to start from, of the same candidates and widths, relative to the data; empty: a fresh one.
    init: str = ""

    @property
    def drawn(self) -> tuple[str, ...]:
        """Return the candidates that its samples must have."""
        return (*self.candidates, "crisp") if self.trained_crisp else self.candidates


class HeadLoop:
    """One run: a head, its running mean, its optimizer and where it is saved."""

    def __init__(self, plan: HeadPlan, stores: list[Store], held_back: Store, out: Path) -> None:
        torch.manual_seed(plan.seed)
        self._plan, self._stores, self._held_back, self._out = plan, stores, held_back, out
        self._head = MixingHead(HeadConfig(plan.candidates, plan.widths))
        self._head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if plan.init:
            self._head.load_state_dict(weights.load(plan.init)[0].state_dict())
        self._mean = copy.deepcopy(self._head)
        self._optimizer = torch.optim.AdamW(self._head.parameters(), lr=plan.rate, weight_decay=1e-3)
        self._best = -math.inf
        self.step = 0
        self._resume()

    def run(self, seconds: float, save_every: int = 200, say: Callable[[str], None] = print) -> None:
        """Train until the last step, or for `seconds`; every `save_every` steps score the running mean and save.

        The file head.safetensors holds the running mean that scored best on the sources kept back.
        """
        began = time.monotonic()
        while self.step < self._plan.steps and time.monotonic() - began < seconds:
            self._advance()
            if self.step % save_every == 0 or self.step == self._plan.steps:
                say(f"step {self.step}, {time.monotonic() - began:.0f} s: {self._score()}")
        self._save()

    def _advance(self) -> None:
        plan = self._plan
        rng = np.random.default_rng((plan.seed, self.step))
        torch.manual_seed(plan.seed * 1_000_003 + self.step)
        for group in self._optimizer.param_groups:
            group["lr"] = plan.rate * _cosine(self.step, plan.warm_up, plan.steps)
        sizes = np.array([len(store.clip) for store in self._stores])
        store = self._stores[int(rng.choice(len(sizes), p=sizes / sizes.sum()))]
        rows = np.sort(rng.choice(len(store.clip), plan.batch, replace=False))
        frames, target, flow, network = store.batch(rows)
        frames, target, flow = _augmented(frames[:, self._places(store)], target, flow, rng)
        frame = self._mixed(self._head, frames, flow, self._present(network, plan.absent))
        loss = log_mse(frame, target, plan.floor)
        self._optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._head.parameters(), 1.0)
        self._optimizer.step()
        share = 1 - min(plan.ema, self.step / (self.step + 10))
        with torch.no_grad():
            for mean, now in zip(self._mean.parameters(), self._head.parameters(), strict=True):
                mean.lerp_(now, share)
        self.step += 1

    def _places(self, store: Store) -> list[int]:
        return [store.candidates.index(name) for name in self._plan.drawn]

    def _mixed(self, head: MixingHead, frames: Tensor, flow: Tensor, present: Tensor) -> Tensor:
        """Mix frames BxKx3xHxW, those of `HeadPlan.drawn`, into Bx3xHxW."""
        names = self._plan.candidates
        mixture: Mixture = head(frames[:, : len(names)], flow, present)
        if not self._plan.trained_crisp:
            return mixture.frame
        moving = [place for place, name in enumerate(names) if name in MOVED]
        return sharpened(mixture, moving, frames[:, 0], frames[:, -1], self._plan.crispness)

    def _present(self, network: Tensor, absent: float) -> Tensor:
        """Draw the candidates that each sample keeps: BxK bool."""
        present = torch.ones(len(network), len(self._plan.candidates), dtype=torch.bool)
        for place, name in enumerate(self._plan.candidates):
            if name == "network":
                present[:, place] = network & (torch.rand(len(network)) >= (NETWORK_ABSENT if absent else 0.0))
            elif name not in ALWAYS:
                present[:, place] = torch.rand(len(network)) >= absent
        return present

    def _score(self) -> str:
        row = {"step": float(self.step), **self.scores()}
        key = "psnr_network" if "psnr_network" in row else "psnr"
        self._log(row)
        if row[key] > self._best:
            self._best = row[key]
            folders = ", ".join(Path(folder.path).name for folder in self._plan.folders)
            weights.save(
                self._out / "head.safetensors",
                self._mean,
                weights.HeadMetadata(
                    self._mean.config,
                    training_data=f"{folders}; run {self._plan.name}, model/training/head_runs",
                    preset=self._plan.preset,
                    crispness=self._plan.crispness,
                    scores={name: round(value, 4) for name, value in row.items()},
                ),
            )
        self._save()
        return ", ".join(f"{name} {value:.3f}" for name, value in row.items() if name != "step")

    @torch.inference_mode()
    def scores(self) -> dict[str, float]:
        """Measure PSNR in dB on the sources kept back, mean over clips, of the running mean and its rivals.

        "worst": of a clip, how far behind the better of "carried" and "still"; "sharpness": as `scores.sharpness`.
        """
        values_of: dict[str, list[Tensor]] = {}
        store = self._held_back
        carried_place, still_place = (self._plan.candidates.index(name) for name in ("carried", "still"))
        for start in range(0, len(store.clip), 8):
            frames, target, flow, network = store.batch(np.arange(start, min(len(store.clip), start + 8)))
            frames = frames[:, self._places(store)]
            answers = {
                "psnr": self._mixed(self._mean, frames, flow, self._present(torch.zeros_like(network), 0.0)),
                "psnr_carried": frames[:, carried_place],
                "psnr_mean": (frames[:, 0] + frames[:, carried_place]) / 2,
                "psnr_still": frames[:, still_place],
            }
            if "network" in self._plan.candidates:
                answers["psnr_network"] = self._mixed(self._mean, frames, flow, self._present(network, 0.0))
            for name, answer in answers.items():
                error = (answer.clamp(0, 1) - target).square().mean((1, 2, 3)).clamp(min=1e-8)
                values_of.setdefault(name, []).append(-10 * error.log10())
            values_of.setdefault("sharpness", []).append(sharpness(answers["psnr"].clamp(0, 1), target))
        clips = np.array(store.clip)
        figures = {name: torch.cat(values).numpy() for name, values in values_of.items()}
        by_clip = {
            name: np.array([np.nanmean(values[clips == clip]) for clip in sorted(set(clips))])
            for name, values in figures.items()
        }
        behind = by_clip["psnr"] - np.maximum(by_clip["psnr_carried"], by_clip["psnr_still"])
        return {name: float(values.mean()) for name, values in by_clip.items()} | {"worst": float(behind.min())}

    def _log(self, row: dict[str, float]) -> None:
        path = self._out / "curve.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow({name: f"{value:.6g}" for name, value in row.items()})

    def _save(self) -> None:
        tree: dict[str, Any] = {
            "head": self._head.state_dict(),
            "mean": self._mean.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "best": self._best,
        }
        state.save(self._out, self.step, self._plan.name, tree)

    def _resume(self) -> None:
        entry = state.load(self._out, self._plan.name)
        if entry is not None:
            self.step, tree = entry
            self._head.load_state_dict(tree["head"])
            self._mean.load_state_dict(tree["mean"])
            self._optimizer.load_state_dict(tree["optimizer"])
            self._best = float(tree["best"])


def _cosine(step: int, warm_up: int, steps: int) -> float:
    return min(1.0, (step + 1) / max(1, warm_up)) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def _augmented(frames: Tensor, target: Tensor, flow: Tensor, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Flip, turn by a quarter, reorder colours, gain: the same for the whole batch but for the gain."""
    signs = torch.ones(1, 2, 1, 1)
    for axis, place in ((-1, 0), (-2, 1)):
        if rng.random() < 0.5:
            frames, target, flow = frames.flip(axis), target.flip(axis), flow.flip(axis)
            signs[0, place] = -1
    flow = flow * signs
    if rng.random() < 0.5:
        frames, target, flow = (maps.transpose(-1, -2) for maps in (frames, target, flow))
        flow = flow.flip(1)
    order = torch.from_numpy(rng.permutation(3))
    gain = torch.from_numpy(0.7 + 0.4 * rng.random((len(target), 1, 1, 1))).float()
    return frames[:, :, order] * gain[:, None], target[:, order] * gain, flow
