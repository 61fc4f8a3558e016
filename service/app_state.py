"""The parts that `service.app` builds and hands to every edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.core.api_keys import KeyRing
from service.core.interfaces import Engine, ModelRepository, VersionScores
from service.imaging.codec_pool import Codecs
from service.serving.accepted_work import AcceptedWork
from service.serving.access import AccessPolicy, Limiter, LocalLimiter
from service.serving.byte_budget import ByteBudget
from service.serving.oip.statistics import InferStatistics
from service.serving.streaming.registry import Streams
from service.settings import Settings
from service.telemetry.metrics import Metrics


@dataclass(frozen=True, slots=True)
class AppState:
    """Shared by REST, gRPC and the V2 protocol; `clock` is the monotonic clock deadlines live on, in seconds."""

    settings: Settings
    engine: Engine
    codecs: Codecs
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    streams: Streams = field(default_factory=Streams)
    infer_statistics: InferStatistics = field(default_factory=InferStatistics)
    work: AcceptedWork = field(default_factory=AcceptedWork)
    repository: ModelRepository | None = None  #: None: there is one version, the engine's
    version_scores: VersionScores | None = None  #: what compares versions by how good they are; None: nothing does
    limiter: Limiter | None = None  #: where callers' levels are kept; None: in this process, with this state
    budget: ByteBudget = field(init=False)
    access: AccessPolicy = field(init=False)

    def __post_init__(self) -> None:
        limiter = self.limiter or LocalLimiter(self.clock)
        keys = KeyRing.of_pairs(self.settings.api_keys)
        object.__setattr__(self, "access", AccessPolicy(keys, limiter, self.metrics))
        object.__setattr__(self, "budget", ByteBudget(self.settings.inflight_bytes))
        self.streams.budget = self.budget
