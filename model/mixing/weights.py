"""Reads and writes a head's weights: safetensors with what the file says about itself."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from model.checkpoint import CheckpointError
from model.mixing.candidate_names import NAMES
from model.mixing.head import HeadConfig, MixingHead
from model.motion import classical

#: The heads this repository ships: the default one, one for live streams, and one for sharper frames.
FOLDER = Path(__file__).parent.parent / "weights"
DEFAULT, LIVE = FOLDER / "mixing.safetensors", FOLDER / "mixing-live.safetensors"
SHARP = FOLDER / "mixing-sharp.safetensors"
#: Beyond this, frames are sharper than the truth and noise grows.
MOST_CRISP = 2.0
#: More channels than this are no head of ours: a file must not ask for any amount of memory.
MOST_CHANNELS = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class HeadMetadata:
    """What a head's file says about itself."""

    config: HeadConfig
    version: str = "unversioned"
    training_data: str = "unknown"
    #: The preset of the two main candidates' flow.
    preset: str = "medium"
    #: How much of what a bilinear warp takes and a bicubic one keeps is given back where something moves, 0 to 2.
    crispness: float = 0.0
    #: How much of what the two frames show to be lost in warps is given back where something moves, 0 to 2: added from
    #: the first candidate without its softened copy (`candidates.true_detail`).
    sharpening: float = 0.0
    #: Measured on sources kept back from training, e.g. {"psnr": 27.4, "psnr_carried": 26.9}.
    scores: dict[str, float] = dataclasses.field(default_factory=dict)


def save(path: Path, head: MixingHead, metadata: HeadMetadata) -> None:
    """Write weights and metadata."""
    strings = {
        "format": "mixing-head",
        "version": metadata.version,
        "training_data": metadata.training_data,
        "preset": metadata.preset,
        "crispness": repr(metadata.crispness),
        "sharpening": repr(metadata.sharpening),
        "scores": json.dumps(metadata.scores, sort_keys=True),
        "config": json.dumps(dataclasses.asdict(metadata.config)),
    }
    tensors = {name: tensor.contiguous() for name, tensor in head.state_dict().items()}
    # As `model.checkpoint.save` does: `save_file` makes files that no other user may read.
    path.write_bytes(safetensors.torch.save(tensors, strings))


def load(path: str | Path = DEFAULT) -> tuple[MixingHead, HeadMetadata]:
    """Read a head, in evaluation mode. CheckpointError where the file is none or does not fit together."""
    try:
        with safetensors.safe_open(str(path), "pt") as file:
            strings = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        metadata = _metadata(strings)
        head = MixingHead(metadata.config)
        head.load_state_dict(tensors)
    except (
        safetensors.SafetensorError,
        OSError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ) as error:
        raise CheckpointError(f"{path}: not a mixing head: {error}") from error
    # Twice as fast on a processor. The stubs lack this form.
    head.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return head.eval(), metadata


def _metadata(strings: dict[str, str]) -> HeadMetadata:
    if strings.get("format") != "mixing-head":
        raise ValueError(f"its format is {strings.get('format')!r}")
    raw = json.loads(strings["config"])
    first, second, third = (int(width) for width in raw["widths"])
    config = HeadConfig(tuple(map(str, raw["candidates"])), (first, second, third))
    if max(config.widths) > MOST_CHANNELS or not set(config.candidates) <= set(NAMES):
        raise ValueError(f"unknown candidates or too many channels: {config}")
    if strings.get("preset", "medium") not in classical.PRESETS:
        raise ValueError(f"unknown preset {strings['preset']!r}")
    crispness, sharpening = (float(strings.get(name, "0")) for name in ("crispness", "sharpening"))
    if not (0 <= crispness <= MOST_CRISP and 0 <= sharpening <= MOST_CRISP):
        raise ValueError(f"numbers from 0 to {MOST_CRISP} expected, not {crispness} and {sharpening}")
    return HeadMetadata(
        config=config,
        version=strings.get("version", "unversioned"),
        training_data=strings.get("training_data", "unknown"),
        preset=strings.get("preset", "medium"),
        crispness=crispness,
        sharpening=sharpening,
        scores={str(name): float(value) for name, value in json.loads(strings.get("scores", "{}")).items()},
    )
