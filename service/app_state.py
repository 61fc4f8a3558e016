"""The parts that `service.app` builds and hands to every edge."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.core.interfaces import Engine, ModelRepository
from service.imaging.codec_pool import Codecs
from service.serving.accepted_work import AcceptedWork
from service.serving.byte_budget import ByteBudget
from service.serving.oip.statistics import Usage
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
    usage: Usage = field(default_factory=Usage)
    work: AcceptedWork = field(default_factory=AcceptedWork)
    repository: ModelRepository | None = None  #: None: there is one version, the engine's
    budget: ByteBudget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", ByteBudget(self.settings.inflight_bytes))
        self.streams.budget = self.budget
