"""Runs a plan step by step, and can stop and continue at any step with the same results.

Everything random in a step comes from (seed, step, rank), so the state is weights, their running mean, the
optimizers' moments and the step's number.
"""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model import checkpoint
from model.dmvfn.network import DMVFN
from model.training import optimizers, processes, reinitialise, sample_grid, state, validate
from model.training.batches import Batch, Batches
from model.training.objective import Objective, StepOutcome
from model.training.plan import Phase, TrainConfig
from model.training.processes import Rank
from model.training.progress import Clock, CurveFile, RunningMeans
from model.training.vgg import VGG


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a run is watched and saved; nothing here changes its result."""

    log_every: int = 50
    save_seconds: float = 180.0
    part_bytes: int | None = None
    say: Callable[[str], None] = print
    now: Callable[[], float] = time.monotonic


class Loop:
    """One run of a plan in a folder."""

    def __init__(
        self,
        plan: TrainConfig,
        network: DMVFN,
        batches: Batches,
        out: Path,
        rank: Rank,
        options: RunOptions | None = None,
    ) -> None:
        self._plan, self._batches, self.out, self._rank = plan, batches, out, rank
        self._options = options or RunOptions()
        self._network: DMVFN = network.to(rank.device).train()
        for parameter in self._network.parameters():
            if parameter.dim() == 4:  # kernels: convolutions are fastest channels_last, on CPUs and GPUs
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        processes.share(self._network, rank)
        self._mean: DMVFN = copy.deepcopy(self._network).eval().requires_grad_(False)
        self._vgg = VGG.load(plan.vgg_weights).to(rank.device) if plan.vgg_weights else None
        self._validation_clips = validate.load(plan.validation) if plan.validation and rank.leads else []
        self._phase = -1
        self._means = RunningMeans()
        self.step = 0
        out.mkdir(parents=True, exist_ok=True)
        self._resume()

    @property
    def network(self) -> DMVFN:
        """Return the running mean of the weights: what is saved and scored."""
        return self._mean

    def run(self, until: int | None = None, should_stop: Callable[[], bool] = lambda: False) -> None:
        """Train to step `until` (or the end), or until `should_stop` says so; the state is saved on the way out."""
        end = min(until if until is not None else self._plan.steps, self._plan.steps)
        curves = CurveFile(self.out / "curves.csv", self.step) if self._rank.leads else None
        clock = Clock(self._options.now, self.step, self._plan.steps)
        saved_at = self._options.now()
        with ThreadPoolExecutor(1, "batches") as maker:
            next_batch = self._submit(maker, self.step, end)
            while next_batch is not None and not processes.anyone(should_stop(), self._rank):
                batch = next_batch.result()
                phase = self._enter(self.step)
                next_batch = self._submit(maker, self.step + 1, end)
                outcome, figures = self._learn(batch, phase)
                self._means.add(figures)
                self.step += 1
                if curves and (self.step % self._options.log_every == 0 or self.step == self._plan.steps):
                    self._report(self._means.take(), curves, clock, phase)
                last = self.step == end
                if self._rank.leads and (last or self._options.now() - saved_at > self._options.save_seconds):
                    self._save(batch, outcome, phase)
                    saved_at = self._options.now()
        if self._rank.leads:
            self._save_state()
        processes.wait(self._rank)

    def _submit(self, maker: ThreadPoolExecutor, step: int, end: int) -> Future[Batch] | None:
        if step >= end:
            return None
        return maker.submit(self._batches.make, step, self._plan.phases[self._plan.at(step)[0]])

    def _learn(self, batch: Batch, phase: Phase) -> tuple[StepOutcome, dict[str, float]]:
        within = self._plan.at(self.step)[1]
        start, end = phase.flow
        flow_weight = start + (end - start) * within / phase.steps
        routes = self._routes(batch) if phase.routed else None
        outcome: StepOutcome = self._objective(batch, flow_weight, routes)
        self._optimizers.zero()
        outcome.loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        factor = optimizers.curve(within, phase)
        norm = self._optimizers.step(factor)
        optimizers.follow(self._mean, self._network, self._plan.ema, within)
        return outcome, _figures(batch, outcome, norm, factor)

    @torch.no_grad()
    def _routes(self, batch: Batch) -> Tensor:
        probabilities = self._network.routing_probabilities(batch.previous, batch.current).cpu()
        draws = torch.rand(probabilities.shape, generator=self._batches.generator(self.step, stream=3))
        return (draws < probabilities).to(batch.previous)

    def _enter(self, step: int) -> Phase:
        """Return the phase of `step`, with its optimizers and blocks in place."""
        index, _ = self._plan.at(step)
        phase = self._plan.phases[index]
        if index != self._phase:
            self._begin(index, fresh=True)
        return phase

    def _begin(self, index: int, fresh: bool) -> None:
        phase = self._plan.phases[index]
        if fresh and self._phase >= 0:
            # A phase ends at a low learning rate: its running mean is the better start for the next.
            self._network.load_state_dict(self._mean.state_dict())
        if fresh:
            for seed in phase.seeds:
                reinitialise.copy_block(self._network, seed)
                reinitialise.copy_block(self._mean, seed)
        if fresh and phase.fresh_router:
            reinitialise.fresh_router(self._network)
            reinitialise.fresh_router(self._mean)
        self._phase = index
        choosing = bool(phase.router_tolerance)
        learning = set() if choosing else set(phase.train or phase.blocks or range(self._network.config.blocks))
        for name, parameter in self._network.named_parameters():
            prefix = name.split(".")[0]
            routing = prefix in ("routing", "l1")
            parameter.requires_grad_(
                phase.routed or choosing if routing else int(prefix.removeprefix("block")) in learning
            )
        self._optimizers = optimizers.Optimizers(self._network, phase)
        objective: nn.Module = Objective(self._network, phase, self._plan.precision, self._vgg)
        if self._plan.compile:
            for block in phase.blocks or range(self._network.config.blocks):
                self._network.block(block).compile()
        self._objective = DistributedDataParallel(objective) if self._rank.world > 1 else objective

    def _report(self, means: dict[str, float], curves: CurveFile, clock: Clock, phase: Phase) -> None:
        speed = clock.rate(self.step) * phase.batch * self._rank.world
        row: dict[str, float | int | str] = {"step": self.step, "phase": phase.name, "samples_s": speed, **means}
        curves.add(row)
        text = " ".join(f"{name} {value:.4g}" for name, value in means.items())
        rest = clock.remaining(self.step)
        self._options.say(f"{phase.name} {self.step}/{self._plan.steps} {speed:.1f} samples/s, {rest} left: {text}")

    def _save(self, batch: Batch, outcome: StepOutcome, phase: Phase) -> None:
        scores: dict[str, float] = {}
        if self._validation_clips:
            blocks = set(phase.blocks or range(self._network.config.blocks))
            route = torch.tensor([i in blocks for i in range(self._network.config.blocks)])
            ours, baseline = validate.psnr(self._mean, self._validation_clips, route, self._rank.device)
            scores = {"psnr_t1": ours, "psnr_t1_repeat": baseline}
            self._options.say(f"{phase.name} {self.step}: validation {ours:.2f} dB, repeating {baseline:.2f} dB")
        metadata = checkpoint.Metadata(
            version=f"{self._plan.name}-{self.step}", training_data=_sources(self._plan), scores=scores
        )
        checkpoint.save(self._mean, self.out / "dmvfn.safetensors", metadata)
        picture = sample_grid.sheet(batch.previous, batch.current, batch.target, outcome.frame, outcome.flow)
        picture.save(self.out / "sheet.png")
        self._save_state()

    def _save_state(self) -> None:
        tree: dict[str, Any] = {
            "network": self._network.state_dict(),
            "mean": self._mean.state_dict(),
            "phase": self._phase,
            "means": self._means.sums,
            "optimizers": self._optimizers.state() if self._phase >= 0 else [],
        }
        state.save(self.out, self.step, _fingerprint(self._plan), tree, self._options.part_bytes)

    def _resume(self) -> None:
        entry = state.load(self.out, _fingerprint(self._plan))
        if entry is None:
            return
        self.step, tree = entry
        self._network.load_state_dict(tree["network"])
        self._mean.load_state_dict(tree["mean"])
        self._means = RunningMeans({name: (total, count) for name, (total, count) in tree["means"].items()})
        if tree["phase"] >= 0:
            self._begin(tree["phase"], fresh=False)
            self._optimizers.restore(tree["optimizers"])
        if self._rank.leads:
            self._options.say(f"continuing at step {self.step} of {self._plan.steps}")


def _figures(batch: Batch, outcome: StepOutcome, norm: float, rate: float) -> dict[str, float]:
    def decibels(frames: Tensor) -> Tensor:
        return -10 * (frames - batch.target).square().mean((1, 2, 3)).clamp(min=1e-6).log10()

    gain = decibels(outcome.frame) - decibels(batch.current)
    error = (outcome.flow - batch.flow).abs().mean((1, 2, 3))
    # The mean of no samples is nan, which RunningMeans leaves out.
    return {
        "loss": float(outcome.loss.detach()),
        "gain_real": float(gain[batch.synthetic :].mean()),
        "gain_synthetic": float(gain[: batch.synthetic].mean()),
        "flow_error": float(error[: batch.synthetic].mean()),
        "blocks": float(outcome.blocks.mean()),
        "norm": norm,
        "rate": rate,
    }


def _sources(plan: TrainConfig) -> str:
    kinds = [f"{Path(source.path).name} ({source.layout})" for source in plan.sources]
    return ", ".join([*kinds, "synthetic layers"]) + f"; run {plan.name}, model/training/runs"


def _fingerprint(plan: TrainConfig) -> str:
    return hashlib.sha256(repr(plan).encode()).hexdigest()[:16]
