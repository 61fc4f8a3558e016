"""The Open Inference Protocol's view of the network: its two models, and tensors to items and back.

Knows no wire: REST and gRPC hand in the same `InferRequest` and get the same tensors. Each item of a batch becomes a
request of its own, of whose way through the queue this module knows nothing.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from service.core import moments
from service.core.errors import InvalidFrame, InvalidRequest, ServiceError, TooLarge
from service.core.types import BLOCKS, MAX_SEED, Options, PredictResult, Quality
from service.imaging.codec import ImageFormat, check_quality
from service.serving.oip.models import TENSORS, find_model
from service.serving.oip.tensors import Tensor, check_datatype, files, pack, raw


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """One inference request, whatever wire it came by. No `outputs`: all."""

    model: str
    version: str = ""
    id: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[str, ...] = ()


#: Numbers in strings, as a query would hold them.
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")

#: A frame's bytes; of the previous and the current one.
Pixels = bytes | memoryview
Pair = tuple[Pixels, Pixels]


@dataclass(frozen=True, slots=True, eq=False)
class InferItem:
    """One entry of the batch: two pictures, image files, or RGB rows of `shape` (height, width)."""

    previous: Pixels
    current: Pixels
    shape: tuple[int, int] | None
    options: Options


@dataclass(frozen=True, slots=True, eq=False)
class InferBatch:
    """A request's items, and how they are to be answered. `timeout_us`: microseconds; None: the server's default."""

    items: tuple[InferItem, ...]
    format: ImageFormat  #: of PRED: RAW for `dmvfn`
    image_quality: int | None
    outputs: tuple[str, ...]
    timeout_us: int | None


def parse(request: InferRequest, *, max_batch: int, max_steps: int, version: str | None = None) -> InferBatch:
    """Parse a request's items. Errors name the tensor or `parameters.NAME`; nothing is allocated for absurd shapes.

    `version`: of the weights, to predict by; None: the default.
    """
    model = find_model(request.model)
    inputs = _by_name(request.inputs)
    for name in inputs:
        if name not in {spec.name for spec in model.inputs}:
            raise InvalidRequest(f"{request.model} has no input {name[:80]!r}", field=f"inputs.{name[:80]}")
    parameters = _Parameters(request.parameters)
    outputs = request.outputs or tuple(spec.name for spec in model.outputs)
    for name in outputs:
        if name not in {spec.name for spec in model.outputs}:
            raise InvalidRequest(f"{request.model} has no output {name[:80]!r}", field=f"outputs.{name[:80]}")
    if len(set(outputs)) != len(outputs):
        raise InvalidRequest("an output is asked for twice", field="outputs")
    pairs: Sequence[Pair]
    shape: tuple[int, int] | None
    if model is TENSORS:
        pairs, shape = _frames(inputs, max_batch)
        format, quality = parameters.no_file(request.model)
    else:
        pairs, shape = _images(inputs, max_batch), None
        format, quality = parameters.format(), parameters.whole("image_quality")
        with _within_parameters():
            check_quality(format, quality)
    seeds = _seeds(inputs.get("SEED"), len(pairs))
    items = tuple(
        InferItem(previous, current, shape, parameters.options(seed, max_steps, version))
        for (previous, current), seed in zip(pairs, seeds, strict=True)
    )
    timeout = parameters.whole("timeout")
    if timeout is not None and not 0 <= timeout < 2**63:  # microseconds; more than a float holds must not be divided
        raise InvalidRequest("timeout must not be negative, and fit 64 bits", field="parameters.timeout")
    return InferBatch(items, format, quality, outputs, timeout or None)


def tensors(batch: InferBatch, results: Sequence[PredictResult], pictures: Sequence[Sequence[bytes]]) -> list[Tensor]:
    """List the outputs asked for, in that order; `pictures[i][k]` is step k of item i in the parsed format."""
    count, steps = len(results), len(results[0].steps)
    outputs = []
    for name in batch.outputs:
        if name == "ROUTE":
            route = bytes(bit for result in results for step in result.steps for bit in step.route)
            outputs.append(Tensor(name, "UINT8", (count, steps, BLOCKS), route))
        elif name == "FLOPS":
            flops = np.array([[step.flops for step in result.steps] for result in results], "<f8")
            outputs.append(Tensor(name, "FP64", (count, steps), flops.tobytes()))
        elif batch.format is ImageFormat.RAW:
            frame = results[0].steps[0].frame
            shape = (count, steps, frame.height, frame.width, 3)
            outputs.append(Tensor(name, "UINT8", shape, b"".join(data for item in pictures for data in item)))
        else:
            outputs.append(Tensor(name, "BYTES", (count, steps), pack([data for item in pictures for data in item])))
    return outputs


#: Parameters of a request that mean something here, in the order in which errors list them.
PARAMETERS = (
    *("method", "route", "seed", "blocks", "steps", "t", "scale", "quality"),
    *("timeout", "format", "image_quality"),
)
#: Those of the protocol's extensions, which stock clients send whether or not they mean something here.
EXTENSION_PARAMETERS = frozenset(
    {"binary_data_output", "content_type", "headers", "priority", "sequence_id", "sequence_start", "sequence_end"}
)
#: Triton keeps names that begin so for itself.
RESERVED_PREFIX = "triton_"


@contextmanager
def _within_parameters() -> Iterator[None]:
    """Report the fields of errors raised inside as `parameters`' members."""
    try:
        yield
    except ServiceError as error:
        if error.field and "." not in error.field:
            error.field = f"parameters.{error.field}"
        raise


class _Parameters:
    """A request's parameters, by name; null is absent. Raises InvalidRequest for a name that means nothing."""

    def __init__(self, values: Mapping[str, object]) -> None:
        for name in values:
            is_known = name in PARAMETERS or name in EXTENSION_PARAMETERS or name.startswith(RESERVED_PREFIX)
            if not is_known:
                printable = name[:80].encode("ascii", "backslashreplace").decode()
                names = ", ".join(PARAMETERS)
                raise InvalidRequest(
                    f"there is no parameter {printable}; the parameters are {names}", field=f"parameters.{printable}"
                )
        self._values = {name: value for name, value in values.items() if value is not None}

    def whole(self, name: str) -> int | None:
        value = self._values.get(name)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        # JSON has one kind of number; some clients write all of theirs with a point. Below 2**53 each is exact.
        if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
            return int(value)
        # Not all that Python reads as a number: "1_0" would be ten.
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            return int(value)
        raise InvalidRequest(f"{name} must be a whole number", field=f"parameters.{name}")

    def number(self, name: str) -> float | None:
        value = self._values.get(name)
        if value is None:
            return None
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            # An integer too large for a float is no scale either.
            return float(value) if abs(value) < 2**64 else math.inf
        if isinstance(value, str) and _NUMBER.fullmatch(value):
            return float(value)
        raise InvalidRequest(f"{name} must be a number", field=f"parameters.{name}")

    def text(self, name: str) -> str | None:
        value = self._values.get(name)
        # A route of nine digits may arrive as a number; then its leading zeros are lost, so it cannot be taken.
        if value is None or isinstance(value, str):
            return value
        raise InvalidRequest(f"{name} must be a string", field=f"parameters.{name}")

    def times(self) -> tuple[float, ...]:
        """Return the moments `t`: a number, or several in a string, separated by commas."""
        value = self._values.get("t")
        return () if value is None else moments.of_json(value)

    def format(self) -> ImageFormat:
        name = self.text("format")
        try:
            format = ImageFormat("png" if name is None else name)
        except ValueError:
            format = ImageFormat.RAW
        if format is ImageFormat.RAW:
            raise InvalidRequest("format must be png, jpeg, webp or ppm", field="parameters.format")
        return format

    def no_file(self, model: str) -> tuple[ImageFormat, None]:
        """Return raw pixels, without a quality. Raises InvalidRequest for a parameter that only files have."""
        for name in ("format", "image_quality"):
            if name in self._values:
                why = f"{name} means nothing for {model}, which answers raw pixels; dmvfn_image answers files"
                raise InvalidRequest(why, field=f"parameters.{name}")
        return ImageFormat.RAW, None

    def options(self, seed: int | None, max_steps: int, version: str | None) -> Options:
        quality = self.text("quality")
        quality = Quality.EXACT if quality is None else quality
        if quality not in [*Quality]:
            raise InvalidRequest(f"quality must be {' or '.join(Quality)}", field="parameters.quality")
        with _within_parameters():
            return Options.parse(
                method=self.text("method"),
                version=version,
                route=self.text("route"),
                seed=self.whole("seed") if seed is None else seed,
                blocks=self.whole("blocks"),
                scale=self.number("scale"),
                steps=self.whole("steps"),
                quality=Quality(quality),
                times=self.times(),
            ).check(max_steps)


def _by_name(inputs: Sequence[Tensor]) -> dict[str, Tensor]:
    by_name: dict[str, Tensor] = {}
    for tensor in inputs:
        if tensor.name in by_name:
            raise InvalidRequest(f"input {tensor.name[:80]!r} is given twice", field=f"inputs.{tensor.name[:80]}")
        by_name[tensor.name] = tensor
    return by_name


def _require(inputs: Mapping[str, Tensor], name: str, datatype: str) -> Tensor:
    if name not in inputs:
        raise InvalidRequest(f"input {name} is missing", field=f"inputs.{name}")
    return check_datatype(inputs[name], datatype)


def _batch(tensor: Tensor, rest: str, fits: bool, max_batch: int) -> int:
    field = f"inputs.{tensor.name}"
    if not fits or tensor.shape[0] < 1:
        shape = ",".join(map(str, tensor.shape[:8]))
        raise InvalidFrame(f"{tensor.name} must have the shape [B,{rest}], not [{shape}]", field=field)
    if tensor.shape[0] > max_batch:
        raise TooLarge(f"{tensor.name} has {tensor.shape[0]} items; at most {max_batch} are taken", field=field)
    return tensor.shape[0]


def _frames(inputs: Mapping[str, Tensor], max_batch: int) -> tuple[list[Pair], tuple[int, int]]:
    tensor = _require(inputs, "FRAMES", "UINT8")
    shape = tensor.shape
    fits = len(shape) == 5 and shape[1] == 2 and shape[4] == 3 and min(shape[2:4]) > 0
    batch = _batch(tensor, "2,H,W,3", fits, max_batch)
    height, width = shape[2:4]
    size = height * width * 3
    data = memoryview(raw(tensor, "B", batch * 2 * size))
    frames = [data[n * size : (n + 1) * size] for n in range(batch * 2)]
    return list(zip(frames[::2], frames[1::2], strict=True)), (height, width)


def _images(inputs: Mapping[str, Tensor], max_batch: int) -> list[Pair]:
    columns = []
    for name in ("FRAME0", "FRAME1"):
        tensor = _require(inputs, name, "BYTES")
        batch = _batch(tensor, "1", len(tensor.shape) == 2 and tensor.shape[1] == 1, max_batch)
        column = files(tensor)
        if len(column) != batch:
            raise InvalidRequest(
                f"{name} has {len(column)} elements where its shape says {batch}", field=f"inputs.{name}"
            )
        columns.append(column)
    if len(columns[0]) != len(columns[1]):
        raise InvalidRequest("FRAME0 and FRAME1 must have as many items", field="inputs.FRAME1")
    return list(zip(*columns, strict=True))


def _seeds(tensor: Tensor | None, batch: int) -> list[int | None]:
    if tensor is None:
        return [None] * batch
    if check_datatype(tensor, "UINT64").shape not in ((batch, 1), (batch,)):
        raise InvalidRequest(f"SEED must have the shape [{batch},1]", field="inputs.SEED")
    # Load generators fill every announced input with random bits: all of them mean a seed, the lower 53 count.
    return [seed & MAX_SEED for seed in struct.unpack(f"<{batch}Q", raw(tensor, "Q", batch))]
