"""What the edges need of the engine, so that a local batcher and a Redis queue are called alike."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from service.core.errors import InvalidRequest
from service.core.types import Method, Options, PredictRequest, PredictResult


@dataclass(frozen=True, slots=True)
class ServedModel:
    """What is served and what it is worth; shown by /v1/model, the V2 metadata and the metrics."""

    version: str
    device: str
    dtype: str
    parameters: int
    colour_order: str
    training_data: str
    sha256: str
    scores: dict[str, float] = field(default_factory=dict)
    #: What it can predict by, and what it does where a request leaves that open.
    methods: tuple[Method, ...] = (Method.DMVFN,)
    default_method: Method = Method.DMVFN
    #: Version of the mixing head; empty where there is none, or a worker does not say.
    head: str = ""

    def method_for(self, options: Options) -> Method:
        """Return what to predict by with these options. Raises InvalidRequest for a method that is not served here."""
        method = options.method_or(self.default_method)
        if method not in self.methods:
            available = ", ".join(self.methods)
            raise InvalidRequest(f"method {method} is not served here; there is {available}", field="method")
        return method

    @property
    def warning(self) -> str | None:
        """Return a sentence for users where the weights are not known to beat repeating the last frame, else None."""
        ours, repeat = self.scores.get("psnr_t1"), self.scores.get("psnr_t1_repeat")
        if ours is None or repeat is None:
            return "The quality of these weights has not been measured."
        if ours <= repeat:
            return f"These weights ({ours:.2f} dB) are no better than repeating the last frame ({repeat:.2f} dB)."
        return None


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether new work is taken; if not, `reason` says why.

    It is "starting", "draining", "device_lost", "queue_lost" or "pulse_lost".
    `refusing_seconds`: for how long an idle device has refused by prediction alone and answered nothing. It stays
    ready meanwhile, since what it refuses is tried, too.
    `warnings`: what an operator should mend, ready or not.
    """

    ready: bool
    reason: str | None = None
    refusing_seconds: float = 0.0
    warnings: tuple[str, ...] = ()


class VersionState(enum.StrEnum):
    """What can be done with a version of the weights, in the words of the Open Inference Protocol."""

    READY = "READY"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"  #: it answers what it was asked before, and nothing more
    UNAVAILABLE = "UNAVAILABLE"  #: its file is there; it can be loaded


@dataclass(frozen=True, slots=True)
class ShadowReport:
    """How a version compares with the default on requests that both answered. None: too little is known."""

    share: float  #: the part, 0 to 1, of live requests that it answers again; 0 once it was ended
    compared: int
    agreement_db: float | None  #: median PSNR between the two answers
    time_ratio: float | None  #: its median time a pixel, divided by the default's
    reason: str = ""  #: why it was ended


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version of the weights. `model` is None where it is not loaded.

    `share` is the part, 0 to 1, of the live requests that name no version which it gets beside the default.
    """

    name: str
    state: VersionState
    model: ServedModel | None = None
    is_default: bool = False
    share: float = 0.0
    reason: str = ""  #: why it is not ready, or gets no share any more
    shadow: ShadowReport | None = None  #: where it answers again what the default answered


class ModelRepository(Protocol):
    """The versions of the weights that can be predicted by, and the way to load others without a restart."""

    @property
    def is_named(self) -> bool:
        """Tell whether versions have names of their own, as files of a directory; else there is one, or few know it."""
        ...

    def loaded(self) -> tuple[VersionStatus, ...]:
        """List the versions that are loaded, or about to be, the default first. Raises Unavailable before the first."""
        ...

    async def index(self) -> tuple[VersionStatus, ...]:
        """List all versions, loaded or not, the oldest first."""
        ...

    async def load(
        self, version: str | None = None, share: float | None = None, shadow: float | None = None
    ) -> VersionStatus:
        """Load a version (None: the newest) and return when it predicts.

        Without a `share` or a `shadow` it becomes the default, and the one that it replaces is unloaded once it has
        answered what it was asked; with one it stands beside the default: a `share` of the live requests is its, a
        `shadow` of them it answers again, for comparison only. Raises NotFound, Conflict, Unsupported or Unavailable.
        """
        ...

    async def unload(self, version: str) -> None:
        """Take nothing new for a version, and return when it has answered all and is freed. Not the default."""
        ...


class VersionScores(Protocol):
    """Is told how good predictions turned out to be, where the frame that they foresaw has come."""

    @property
    def wants_scores(self) -> bool:
        """Tell whether every score counts just now; else those of some frames are enough."""
        ...

    def record_score(self, version: str, gain_db: float) -> None:
        """Note that a prediction of `version` was `gain_db` better than repeating the last frame (PSNR, dB)."""
        ...


class Engine(Protocol):
    """Predicts. Implemented by `service.engine.batcher` and, over Redis, by `service.distributed.frontend.engine`."""

    async def predict(self, request: PredictRequest) -> PredictResult:
        """Return the answer, or raise a ServiceError. Cancelling the awaiting task withdraws the request."""
        ...

    def readiness(self) -> Readiness:
        """Tell whether new work is taken. Cheap: health checks ask, and so does every admission."""
        ...

    def model(self) -> ServedModel:
        """Return the description of the served model: the default version of the weights."""
        ...
