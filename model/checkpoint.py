"""Reads and writes weights: our safetensors with metadata, and the published pickles, safely.

Knows names, shapes and metadata; nothing of training or serving.
"""

from __future__ import annotations

import dataclasses
import json
import pickle  # nosec B403  # only its exceptions are used: torch loads with `weights_only`
from pathlib import Path
from typing import Literal, cast

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from model.dmvfn.config import ModelConfig
from model.dmvfn.network import DMVFN

#: The weights this repository ships and serves by default.
DEFAULT = Path(__file__).with_name("weights") / "dmvfn.safetensors"

ColourOrder = Literal["RGB", "BGR"]
#: What a service predicts by where a request leaves it open: the network, a mixture without it, a mixture with it.
DefaultMethod = Literal["dmvfn", "flow", "mix"]

#: What safetensors, pickle, zip and JSON raise over a damaged or hostile file.
_UNREADABLE = (
    safetensors.SafetensorError,
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
)


class CheckpointError(ValueError):
    """The file is no checkpoint of this network; the message names the file and what is wrong."""


@dataclasses.dataclass(frozen=True, slots=True)
class Metadata:
    """What a checkpoint says about itself."""

    version: str = "unversioned"
    colour_order: ColourOrder = "RGB"
    training_data: str = "unknown"
    #: Measured by `python -m model evaluate`, e.g. {"psnr_t1": 27.1, "psnr_t1_repeat": 24.2}.
    scores: dict[str, float] = dataclasses.field(default_factory=dict)
    config: ModelConfig = dataclasses.field(default_factory=ModelConfig.paper)
    method: DefaultMethod = "dmvfn"
    #: The same on a processor, where that differs: mixtures run there only, and would leave an accelerator idle.
    method_on_cpu: DefaultMethod | None = None

    def to_strings(self) -> dict[str, str]:
        """Serialise for safetensors: strings only, structured values as JSON."""
        strings = {
            "format": "dmvfn",
            "version": self.version,
            "colour_order": self.colour_order,
            "training_data": self.training_data,
            "scores": json.dumps(self.scores, sort_keys=True),
            "config": json.dumps(dataclasses.asdict(self.config), sort_keys=True),
        }
        if self.method != "dmvfn":
            strings["method"] = self.method
        if self.method_on_cpu is not None:
            strings["method_on_cpu"] = self.method_on_cpu
        return strings

    def default_on(self, device: str) -> DefaultMethod:
        """Return the method for requests that name none, on a device of type `device` ("cpu", "cuda" ..)."""
        return self.method_on_cpu if device == "cpu" and self.method_on_cpu is not None else self.method

    @classmethod
    def from_strings(cls, strings: dict[str, str]) -> Metadata:
        """Parse what `to_strings` wrote; absent entries take defaults. Raises ValueError where one is malformed."""
        order = strings.get("colour_order", "RGB")
        if order not in ("RGB", "BGR"):
            raise ValueError(f"colour_order must be RGB or BGR, not {order!r}")
        method, on_cpu = strings.get("method", "dmvfn"), strings.get("method_on_cpu")
        for name in (method, on_cpu or method):
            if name not in ("dmvfn", "flow", "mix"):
                raise ValueError(f"method must be dmvfn, flow or mix, not {name!r}")
        config = ModelConfig.paper()
        if "config" in strings:
            raw = json.loads(strings["config"])
            config = ModelConfig(
                scales=tuple(raw["scales"]),
                widths=tuple(raw["widths"]),
                spatial_width=raw["spatial_width"],
                routing_width=raw["routing_width"],
            )
        return cls(
            version=strings.get("version", "unversioned"),
            colour_order=cast(ColourOrder, order),
            training_data=strings.get("training_data", "unknown"),
            scores=json.loads(strings.get("scores", "{}")),
            config=config,
            method=cast(DefaultMethod, method),
            method_on_cpu=cast("DefaultMethod | None", on_cpu),
        )


def load(path: str | Path = DEFAULT, colour_order: ColourOrder | None = None) -> DMVFN:
    """Load the network of a checkpoint, on the CPU, in float32, in evaluation mode.

    Reads our .safetensors and published pickles (.pkl, .pth, with or without "module." before every name;
    unpickled with `weights_only`). Published pickles carry no metadata and were trained on BGR frames, which
    is what they are taken for unless `colour_order` says otherwise. CheckpointError names what does not fit.
    """
    path = Path(path)
    metadata, state = _read(path)
    network = DMVFN(metadata.config)
    _check(path, network.state_dict(), state)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    network.metadata = dataclasses.replace(metadata, colour_order=colour_order or metadata.colour_order)
    return network.eval()


def metadata(network: DMVFN) -> Metadata:
    """Return the metadata that `load` read beside the weights; the defaults for a network that was not loaded."""
    about = network.metadata
    return about if isinstance(about, Metadata) else Metadata(config=network.config)


def save(network: DMVFN, path: str | Path, about: Metadata, dtype: torch.dtype = torch.float32) -> None:
    """Write a .safetensors file; dtype float16 halves it and costs about 1e-3 of relative precision.

    Who may read it is left to the umask, as the user of a container is another than who trained.
    """
    state = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    about = dataclasses.replace(about, config=network.config)
    # Not by `save_file`, whose files are their owner's alone whatever the umask says.
    Path(path).write_bytes(safetensors.torch.save(state, metadata=about.to_strings()))


def _read(path: Path) -> tuple[Metadata, dict[str, Tensor]]:
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="pt") as file:
                about_file = Metadata.from_strings(file.metadata() or {})
                return about_file, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
        state = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        # Of a file that is no pickle, torch tells by a KeyError of a number.
        reason = "it is no file of safetensors or torch.save" if isinstance(error, KeyError) else error
        raise CheckpointError(f"{path}: not a readable checkpoint ({reason})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds no state dict (a mapping from names to tensors)")
    about = Metadata(version=path.stem, colour_order="BGR", training_data="published checkpoint, see its source")
    return about, {name.removeprefix("module."): tensor for name, tensor in state.items()}


def _check(path: Path, layout: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    missing, surplus = sorted(layout.keys() - state.keys()), sorted(state.keys() - layout.keys())
    if missing or surplus:
        raise CheckpointError(f"{path}: missing {missing[:3]}, unknown {surplus[:3]}: not this network's weights")
    for name, tensor in layout.items():
        if state[name].shape != tensor.shape:
            raise CheckpointError(f"{path}: {name} is {tuple(state[name].shape)}, not {tuple(tensor.shape)}")
        if not bool(torch.isfinite(state[name]).all()):
            raise CheckpointError(f"{path}: {name} holds values that are not finite")
