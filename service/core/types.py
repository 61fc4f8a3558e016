"""The frozen values that travel between layers: frames, requests, predictions."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from service.core import moments
from service.core.errors import InvalidFrame, InvalidRequest
from service.core.timings import Timings

#: Blocks of the network; a route has one bit for each.
BLOCKS = 9
MAX_SEED = 2**53 - 1  #: the largest a caller may give: what JSON numbers and int64 both carry exactly
SCALES = (1.0, 0.5, 0.25)
#: What a version of the weights may be called: it stands in paths, headers and file names.
VERSION_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")

Route = tuple[bool, ...]


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Frame:
    """One picture: `pixels` is HxWx3 uint8, RGB, C-contiguous, and made read-only here.

    `source` is the file it was decoded from, where that is smaller: what a queue between processes carries instead.
    """

    pixels: NDArray[np.uint8]
    source: bytes | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        p = self.pixels
        if p.dtype != np.uint8 or p.ndim != 3 or p.shape[2] != 3 or not p.flags.c_contiguous or not p.size:
            raise ValueError(f"a frame is HxWx3 uint8, C-contiguous, not {p.dtype} {p.shape}")
        p.flags.writeable = False

    @property
    def height(self) -> int:
        """Return the height in pixels."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Return the width in pixels."""
        return int(self.pixels.shape[1])


class RoutePolicy(enum.StrEnum):
    """How the blocks to run are picked."""

    AUTO = "auto"  #: deterministic, from the routing module's probabilities
    FULL = "full"  #: all nine
    SAMPLE = "sample"  #: drawn with a seed, as the published code does
    BUDGET = "budget"  #: the k most probable
    EXPLICIT = "explicit"  #: nine bits given by the caller


@dataclass(frozen=True, slots=True)
class RouteChoice:
    """A policy and the argument it needs: `seed` with SAMPLE, `blocks` with BUDGET, `bits` with EXPLICIT."""

    policy: RoutePolicy = RoutePolicy.AUTO
    seed: int | None = None
    blocks: int | None = None
    bits: Route | None = None

    @classmethod
    def parse(cls, route: str = "auto", *, seed: int | None = None, blocks: int | None = None) -> RouteChoice:
        """Parse the `route`, `seed` and `blocks` of any edge. Raises InvalidRequest naming the wrong one.

        `route` is a policy's name or nine digits 0/1, first block first. `blocks` alone implies "budget" and
        `seed` alone "sample"; "sample" without a seed gets one at the edge, so that it can be reported.
        """
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise InvalidRequest(f"seed must be between 0 and {MAX_SEED}", field="seed")
        if blocks is not None and not 1 <= blocks <= BLOCKS:
            raise InvalidRequest(f"blocks must be between 1 and {BLOCKS}", field="blocks")
        if route == "auto" and blocks is not None:
            route = RoutePolicy.BUDGET
        elif route == "auto" and seed is not None:
            route = RoutePolicy.SAMPLE
        if len(route) == BLOCKS and set(route) <= {"0", "1"}:
            if "1" not in route:
                raise InvalidRequest("route must choose at least one block", field="route")
            _refuse(seed=seed, blocks=blocks, why="an explicit route")
            return cls(RoutePolicy.EXPLICIT, bits=tuple(bit == "1" for bit in route))
        if route not in (RoutePolicy.AUTO, RoutePolicy.FULL, RoutePolicy.SAMPLE, RoutePolicy.BUDGET):
            raise InvalidRequest(
                f"route must be auto, full, sample, budget or nine digits 0 and 1, not {route[:40]!r}", field="route"
            )
        policy = RoutePolicy(route)
        if policy is RoutePolicy.BUDGET and blocks is None:
            raise InvalidRequest("route budget needs blocks, 1 to 9", field="blocks")
        _refuse(
            seed=None if policy is RoutePolicy.SAMPLE else seed,
            blocks=None if policy is RoutePolicy.BUDGET else blocks,
            why=f"route {policy}",
        )
        return cls(policy, seed=seed, blocks=blocks)


def _refuse(*, seed: int | None, blocks: int | None, why: str) -> None:
    if seed is not None or blocks is not None:
        name = "blocks" if seed is None else "seed"
        raise InvalidRequest(f"{name} means nothing with {why}", field=name)


class Method(enum.StrEnum):
    """What predicts a frame."""

    DMVFN = "dmvfn"  #: the network, along a route
    FLOW = "flow"  #: several classical motions, weighed per pixel by a learnt head; no network
    MIX = "mix"  #: the same, with the network's half-size answer among what is weighed

    @classmethod
    def parse(
        cls,
        method: str | None,
        *,
        route: object = None,
        seed: object = None,
        blocks: object = None,
        scale: object = None,
        maps: bool = False,
    ) -> Method | None:
        """Parse the `method` of any edge beside the options that a caller named (None: it did not).

        Without a method, naming one of these speaks of the network: DMVFN; naming none leaves the choice to the served
        weights: None. Raises InvalidRequest for an unknown method, and for an option that only the network has.
        """
        is_named = route is not None or seed is not None or blocks is not None or scale is not None
        if method is None:
            return cls.DMVFN if is_named or maps else None
        if method not in [*cls]:
            raise InvalidRequest(f"method must be {' or '.join(cls)}, not {method[:40]!r}", field="method")
        if method != cls.DMVFN and is_named:
            words = {"route": route, "seed": seed, "blocks": blocks, "scale": scale}
            name = next(word for word, value in words.items() if value is not None)
            raise InvalidRequest(f"{name} means nothing with method {method}", field=name)
        return cls(method)


class Quality(enum.StrEnum):
    """Whether less than the method's best may be answered."""

    EXACT = "exact"
    ADAPTIVE = "adaptive"  #: where the best would miss the deadline
    FAST = "fast"  #: always: method flow by the live head


class Priority(enum.IntEnum):
    """Classes of work; a lower one is served first."""

    LIVE = 0
    BACKGROUND = 1  #: requests of jobs and clips, whose callers do not wait


@dataclass(frozen=True, slots=True)
class Options:
    """How to predict. `scale` 1, 1/2 or 1/4: the size at which the network, or the live head, estimates motion.

    `maps`: return flow and mask (of the network) or flow and confidence (of a mixture). `method` None: the served
    weights' own, but the network's where the other options speak of it. `version` None: of the weights, the default.
    `times`: moments, in frame intervals after the current frame, to which one prediction's motion is carried; without
    any, `steps` frames.
    """

    route: RouteChoice = field(default_factory=RouteChoice)
    steps: int = 1
    scale: float = 1.0
    quality: Quality = Quality.EXACT
    maps: bool = False
    method: Method | None = None
    version: str | None = None
    times: tuple[float, ...] = ()

    @classmethod
    def parse(
        cls,
        *,
        method: str | None = None,
        version: str | None = None,
        route: str | None = None,
        seed: int | None = None,
        blocks: int | None = None,
        scale: float | None = None,
        steps: int | None = None,
        quality: Quality = Quality.EXACT,
        maps: bool = False,
        times: tuple[float, ...] = (),
    ) -> Options:
        """Parse the options of any edge; None: the caller did not name it. Raises InvalidRequest as the parsers do."""
        if times and steps is not None:
            raise InvalidRequest("steps means nothing with t", field="steps")
        if (is_fast := quality is Quality.FAST) and method not in (None, Method.FLOW):
            raise InvalidRequest(f"quality fast is of method flow, not {method[:40]!r}", field="quality")
        method = Method.FLOW if is_fast else method
        return cls(
            RouteChoice.parse("auto" if route is None else route, seed=seed, blocks=blocks),
            1 if steps is None else steps,
            1.0 if scale is None else scale,
            quality,
            maps,
            Method.parse(method, route=route, seed=seed, blocks=blocks, scale=None if is_fast else scale, maps=maps),
            version,
            times,
        )

    def check(self, max_steps: int) -> Options:
        """Return these options, or raise InvalidRequest naming the field."""
        if not 1 <= self.steps <= max_steps:
            raise InvalidRequest(f"steps must be between 1 and {max_steps}", field="steps")
        if self.version is not None and not VERSION_NAME.fullmatch(self.version):
            raise InvalidRequest(
                "version must be 1 to 64 letters, digits, dots, dashes and underscores", field="version"
            )
        moments.check(self.times, max_steps)
        if self.scale not in SCALES:
            raise InvalidRequest("scale must be 1, 0.5 or 0.25", field="scale")
        if self.method is not None and self.method is not Method.DMVFN:
            route = None if self.route.policy is RoutePolicy.AUTO else self.route
            is_whole = self.scale == 1.0 or self.quality is Quality.FAST
            Method.parse(self.method, route=route, scale=None if is_whole else self.scale)
        return self

    @property
    def frames(self) -> int:
        """Count the frames that are wanted."""
        return len(self.times) or self.steps

    @property
    def work(self) -> float:
        """Return what the frames take, in passes that predict one each: carried frames take little."""
        return 1 + moments.CARRIED * (len(self.times) - 1) if self.times else self.steps

    @property
    def names_network(self) -> bool:
        """Tell whether an option has a value that only the network, or its maps, can mean."""
        return self.route.policy is not RoutePolicy.AUTO or self.scale != 1.0 or self.maps

    @property
    def allows_live(self) -> bool:
        """Tell whether the live head may answer where all else is late: adaptive, and nothing of the network named."""
        is_adaptive = self.quality is Quality.ADAPTIVE
        return is_adaptive and (self.method is Method.FLOW or (self.method is None and not self.names_network))

    def method_or(self, default: Method) -> Method:
        """Return the method to predict by, where `default` is the served weights' own."""
        if self.method is not None:
            return self.method
        return Method.DMVFN if self.names_network else default


@dataclass(frozen=True, slots=True, eq=False)
class PredictRequest:
    """A checked request: both frames have one size. `deadline` is on the monotonic clock, in seconds."""

    id: str
    previous: Frame
    current: Frame
    options: Options = field(default_factory=Options)
    deadline: float | None = None
    client: str = ""  #: whom limits and fairness count: an API key's name or a stream
    priority: Priority = Priority.LIVE
    traceparent: str | None = None
    waited: float = 0.0  #: seconds that it has waited elsewhere
    is_covered: bool = False  #: whoever asks can answer by itself: where this is late, no deadline is missed
    is_trial: bool = False  #: admitted elsewhere though it is predicted to be late, so that the prediction is measured
    #: Told the answer by whatever thread has it, before whoever awaits it is woken; returns at once, raises nothing.
    on_result: Callable[[PredictResult], None] | None = None

    def __post_init__(self) -> None:
        previous, current = self.previous, self.current
        if previous.pixels.shape != current.pixels.shape:
            sizes = f"previous is {previous.width}x{previous.height}, current is {current.width}x{current.height}"
            raise InvalidFrame(f"both frames must have one size: {sizes}", field="current")

    @property
    def nbytes(self) -> int:
        """Count the bytes of pixels held while the request waits."""
        return self.previous.pixels.nbytes + self.current.pixels.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """One predicted frame and what it took. `flops` counts 2 per multiply-add: routing, chosen blocks, a head.

    `route` has no block where the network did not run. Frames with a `t` share one prediction: the first has its FLOPs.
    """

    frame: Frame
    route: Route
    flops: int
    flow: NDArray[np.float32] | None = None  #: HxWx4 pixels (previous x, y, current x, y) if asked for
    mask: NDArray[np.float32] | None = None  #: HxW, weight of the previous frame in 0..1, if asked for; the network's
    method: Method = Method.DMVFN
    shares: Mapping[str, float] = field(default_factory=dict)  #: of a mixture's candidates by name, on average; sum 1
    confidence: NDArray[np.float32] | None = None  #: HxW in 0..1, trust in a mixture's flow, if asked for
    t: float | None = None  #: its moment, in frame intervals after the current frame; None: a rollout's step
    is_cut: bool = False  #: the pair shows two scenes, so that no motion leads on: this is the current frame again


@dataclass(frozen=True, slots=True, eq=False)
class PredictResult:
    """The answer to one request. `seed` is set where the route was sampled."""

    id: str
    steps: tuple[Step, ...]
    model_version: str
    timings: Timings
    batch_size: int = 1
    seed: int | None = None
    shortened: bool = False  #: an adaptive request got less than its route or method, to meet the deadline

    @property
    def times(self) -> tuple[float, ...]:
        """Return when each frame is shown, in frame intervals after the current one."""
        return tuple(number if step.t is None else step.t for number, step in enumerate(self.steps, 1))

    @property
    def is_cut(self) -> bool:
        """Tell whether frames repeat the current one, because the pair shows two scenes."""
        return any(step.is_cut for step in self.steps)

    @property
    def method(self) -> Method:
        """Return what predicted the frames; all steps by the same."""
        return self.steps[0].method if self.steps else Method.DMVFN

    @property
    def shares(self) -> dict[str, float]:
        """Return the mean share of each candidate over all steps; empty for the network."""
        names = self.steps[0].shares if self.steps else ()
        return {name: sum(step.shares[name] for step in self.steps) / len(self.steps) for name in names}

    @property
    def flops(self) -> int:
        """Sum the FLOPs of all steps."""
        return sum([step.flops for step in self.steps])


def route_text(route: Route) -> str:
    """Write a route as nine digits, first block first: the form every edge shows."""
    return "".join(["1" if bit else "0" for bit in route])
