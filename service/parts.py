"""What `service.app` hands to every edge: the parts, already built."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from service.core.ports import Engine
from service.core.v2_stats import Usage
from service.engine.accepted_work import AcceptedWork
from service.engine.byte_budget import ByteBudget
from service.engine.codecs import Codecs
from service.engine.streams import Streams
from service.metrics import Metrics
from service.settings import Settings


@dataclass(frozen=True, slots=True)
class Parts:
    """Shared by REST, gRPC and the V2 protocol; `clock` is the monotonic clock deadlines live on, in seconds."""

    settings: Settings
    engine: Engine
    codecs: Codecs
    metrics: Metrics
    clock: Callable[[], float] = time.monotonic
    streams: Streams = field(default_factory=Streams)
    usage: Usage = field(default_factory=Usage)
    work: AcceptedWork = field(default_factory=AcceptedWork)
    budget: ByteBudget = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", ByteBudget(self.settings.inflight_bytes))
        self.streams.budget = self.budget
