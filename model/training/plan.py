"""A run as a frozen value, read from a small TOML file: data, phases and what is common to them.

Knows nothing of tensors. The committed runs are in `model/training/runs/`.
"""

from __future__ import annotations

import dataclasses
import tomllib
import types
import typing
from pathlib import Path
from typing import Any, Literal

Layout = Literal["clips", "cityscapes", "kitti", "ucf101", "vimeo"]
Precision = Literal["fp32", "bf16"]
LAYOUTS: tuple[str, ...] = typing.get_args(Layout)


class PlanError(ValueError):
    """The run file says something that is no plan; the message names the key."""


@dataclasses.dataclass(frozen=True, slots=True)
class DataSource:
    """Real frames: a folder, how it is laid out, and how often it is drawn relative to the others."""

    path: str
    layout: Layout = "clips"
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of training with its own blocks, crops, losses and learning-rate cosine."""

    name: str
    steps: int
    size: int = 256
    #: Samples per step and process.
    batch: int = 8
    #: Blocks of the forward pass and, of these, the ones that learn; empty means all.
    blocks: tuple[int, ...] = ()
    train: tuple[int, ...] = ()
    #: Draw a route per sample and train the router through it; needs all nine blocks.
    routed: bool = False
    #: Train the router alone, on the fewest of `blocks` that are within so many decibels of the best choice of them,
    #: known by trying every subset; 0: do not.
    router_tolerance: float = 0.0
    optimizer: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-4
    #: Learning rate of the convolution kernels under Muon; the rest stays with AdamW.
    muon_rate: float = 0.015
    #: Type that Muon's matrices are multiplied in; the weights and their momentum stay float32.
    muon_precision: Precision = "fp32"
    warm_up: int = 200
    #: After the warm-up: a cosine to almost nothing, or the same rate to the end (a later phase then cools down).
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: float = 1e-3
    clip_norm: float = 1.0
    #: Share of synthetic samples in a batch, and the largest shift of their scene, in pixels per frame.
    synthetic: float = 0.0
    shift: float = 24.0
    #: Real triples take every k-th frame, k drawn from 1..stride, and are enlarged by 1..zoom.
    stride: int = 1
    zoom: float = 1.0
    #: Weights of the losses; the flow's goes from the first value to the second over the phase.
    laplacian: float = 1.0
    charbonnier: float = 0.0
    log_mse: float = 0.0
    vgg: float = 0.0
    flow: tuple[float, float] = (0.0, 0.0)
    #: Supervise real samples by DIS flow from the true next frame, too.
    teacher: bool = False
    #: That flow's preset: a quicker one explains less of the next frame.
    teacher_preset: Literal["ultrafast", "fast", "medium"] = "medium"
    #: "from>to": before the phase, block `to` starts as block `from` with its last layer shrunk to 5 %.
    seeds: tuple[str, ...] = ()
    #: Before the phase, the router forgets what it knew and gives every block the same chance.
    fresh_router: bool = False

    def __post_init__(self) -> None:
        _require(self.steps > 0 and self.batch > 0, f"phase {self.name}: steps and batch must be positive")
        _require(self.size % 32 == 0 and self.size >= 64, f"phase {self.name}: size must be a multiple of 32, >= 64")
        _require(0 <= self.synthetic <= 1, f"phase {self.name}: synthetic is a share, 0..1")
        _require(self.stride >= 1 and self.zoom >= 1, f"phase {self.name}: stride and zoom start at 1")
        _require(not (self.routed and self.blocks), f"phase {self.name}: a routed phase runs all blocks")
        _require(
            not self.router_tolerance or len(self.blocks) > 1, f"phase {self.name}: name the blocks to choose from"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class TrainConfig:
    """Everything that decides the result of a run, given the code and the data."""

    name: str
    phases: tuple[Phase, ...]
    sources: tuple[DataSource, ...] = ()
    #: Checkpoint to start from; "shipped": the one in model/weights; empty: random weights.
    init: str = ""
    #: "paper" or "tiny" when starting from random weights.
    network: Literal["paper", "tiny"] = "paper"
    seed: int = 1234
    ema: float = 0.998
    precision: Precision = "fp32"
    compile: bool = False
    #: Keep all frames on the device as uint8.
    resident: bool = False
    #: torchvision VGG19 weights (.pth or .safetensors), for phases with a vgg weight.
    vgg_weights: str = ""
    #: Clips for the PSNR printed while training; empty: none.
    validation: str = ""

    def __post_init__(self) -> None:
        _require(bool(self.phases), "a run needs at least one [[phases]]")
        needs_vgg = any(phase.vgg for phase in self.phases)
        _require(bool(self.vgg_weights) or not needs_vgg, "a vgg weight needs vgg_weights, a path")
        real = any(phase.synthetic < 1 for phase in self.phases)
        _require(bool(self.sources) or not real, "phases with real samples need [[sources]]")

    @property
    def steps(self) -> int:
        """Count the optimizer steps of all phases."""
        return sum(phase.steps for phase in self.phases)

    def at(self, step: int) -> tuple[int, int]:
        """Find the phase that step (0-based) belongs to: its index, and the step within it."""
        for index, phase in enumerate(self.phases):
            if step < phase.steps:
                return index, step
            step -= phase.steps
        raise IndexError("past the end of the run")


def read(path: str | Path) -> TrainConfig:
    """Read the plan in a TOML file. Raises PlanError, naming an unknown key or a value of the wrong type."""
    try:
        raw = tomllib.loads(Path(path).read_text())
        return typing.cast(TrainConfig, _build(TrainConfig, raw, ""))
    except (OSError, tomllib.TOMLDecodeError, PlanError) as error:
        raise PlanError(f"{path}: {error}") from error


def under(plan: TrainConfig, folder: Path) -> TrainConfig:
    """Return the same plan with every relative path taken from `folder`."""

    def moved(path: str) -> str:
        return str(folder / path) if path not in ("", "shipped") else path

    sources = tuple(dataclasses.replace(source, path=moved(source.path)) for source in plan.sources)
    return dataclasses.replace(
        plan,
        sources=sources,
        init=moved(plan.init),
        vgg_weights=moved(plan.vgg_weights),
        validation=moved(plan.validation),
    )


def shortened(plan: TrainConfig, steps: int | None = None, batch: int | None = None) -> TrainConfig:
    """Return the same plan with at most `steps` steps a phase and `batch` samples a step: to try it."""
    phases = tuple(
        dataclasses.replace(
            phase,
            steps=min(phase.steps, steps or phase.steps),
            warm_up=min(phase.warm_up, steps or phase.steps),
            batch=min(phase.batch, batch or phase.batch),
        )
        for phase in plan.phases
    )
    return dataclasses.replace(plan, phases=phases)


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise PlanError(message)


def _build(kind: Any, raw: dict[str, Any], where: str) -> Any:
    hints = typing.get_type_hints(kind)
    unknown = sorted(raw.keys() - hints.keys())
    _require(not unknown, f"unknown key {where}{unknown[0] if unknown else ''}")
    missing = [
        field.name
        for field in dataclasses.fields(kind)
        if field.default is dataclasses.MISSING and field.name not in raw
    ]
    _require(not missing, f"missing key {where}{missing[0] if missing else ''}")
    return kind(**{key: _value(hints[key], value, f"{where}{key}") for key, value in raw.items()})


def _value(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        _require(isinstance(value, dict), f"{where} must be a table")
        return _build(hint, value, f"{where}.")
    origin = typing.get_origin(hint)
    if origin is tuple:
        _require(isinstance(value, list), f"{where} must be a list")
        return tuple(_value(typing.get_args(hint)[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        _require(value in typing.get_args(hint), f"{where} must be one of {typing.get_args(hint)}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    _require(not isinstance(hint, types.UnionType) and type(value) is hint, f"{where} must be {hint.__name__}")
    return value
