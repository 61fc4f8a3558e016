"""Kubernetes' autoscaler on a simulated clock: what it sees, when it decides, and when a pod it asked for is ready.

Targets, bounds and rates are read from the manifests under deploy/, so that they are the ones that ship.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from simulator.clock import Clock

HPA = Path("deploy/kubernetes/components/hpa/hpa.yaml")
KEDA = Path("deploy/kubernetes/components/keda/scaledobject.yaml")
#: Of the HPA controller, unless a cluster sets them: seconds between two looks, and the ratio it lets pass.
SYNC, TOLERANCE = 15.0, 0.1
#: docs/scaling.md: seconds between two scrapes (section 5), from a pod's start to ready (section 6, measured).
SCRAPE, POD_START = 15.0, 33.0
#: The adapter's and KEDA's queries take the highest of so many seconds.
LOOK_BACK = 60.0
#: Seconds and count of one step up, where a manifest names none (Kubernetes' default: twice or 4 more in 15 s).
DEFAULT_UP = (15.0, 4, 1.0)


@dataclass(frozen=True, slots=True)
class Rules:
    """Of one HPA. `target`: seconds of work for each pod. `up`: seconds of a step, pods and share it may add."""

    least: int
    most: int
    target: float
    up: tuple[float, int, float]
    down_calm: float
    down_period: float
    poll: float = 0.0  #: KEDA's own delay

    @classmethod
    def hpa(cls, least: int | None = None) -> Rules:
        """Read the rules of deploy/kubernetes for servers; `least` replaces their minimum pods."""
        spec = yaml.safe_load(HPA.read_text())["spec"]
        up = {policy["type"]: policy for policy in spec["behavior"]["scaleUp"]["policies"]}
        seconds = {policy["periodSeconds"] for policy in up.values()}
        assert len(seconds) == 1, "one step has one length"
        return cls(
            least=spec["minReplicas"] if least is None else least,
            most=spec["maxReplicas"],
            target=float(spec["metrics"][0]["pods"]["target"]["averageValue"]),
            up=(float(seconds.pop()), up["Pods"]["value"], up["Percent"]["value"] / 100),
            **_down(spec["behavior"]),
        )

    @classmethod
    def keda(cls, least: int | None = None) -> Rules:
        """Read the rules of deploy/kubernetes for workers; `least` replaces their minimum pods."""
        documents = {document["kind"]: document for document in yaml.safe_load_all(KEDA.read_text())}
        spec = documents["ScaledObject"]["spec"]
        work = next(trigger for trigger in spec["triggers"] if trigger["type"] == "prometheus")
        return cls(
            least=spec["minReplicaCount"] if least is None else least,
            most=spec["maxReplicaCount"],
            target=float(work["metadata"]["threshold"]),
            up=DEFAULT_UP,
            poll=float(spec["pollingInterval"]),
            **_down(spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]),
        )


def _down(behaviour: dict[str, Any]) -> dict[str, float]:
    down = behaviour["scaleDown"]
    assert [(p["type"], p["value"]) for p in down["policies"]] == [("Pods", 1)], "one pod at a time"
    return {
        "down_calm": float(down["stabilizationWindowSeconds"]),
        "down_period": float(down["policies"][0]["periodSeconds"]),
    }


class Autoscaler:
    """Looks at `works` (predicted seconds of work of each pod, or of the one queue), starts and ends pods."""

    def __init__(
        self,
        clock: Clock,
        rules: Rules,
        works: Callable[[], list[float]],
        start: Callable[[], None],
        end: Callable[[], None],
        until: float,
    ) -> None:
        self.pods = rules.least
        self.history: list[tuple[float, int]] = [(0.0, rules.least)]
        self._clock, self._rules, self._works, self._start, self._end = clock, rules, works, start, end
        self._until = until
        self._scrapes: deque[tuple[float, list[float]]] = deque()
        self._targets: deque[tuple[float, int]] = deque()
        self._ups: deque[tuple[float, int]] = deque()
        self._fell = float("-inf")
        clock.at(SCRAPE, self._scrape)
        clock.at(SYNC + rules.poll, self._look)

    def _scrape(self) -> None:
        now = self._clock.now
        self._scrapes.append((now, self._works()))
        while self._scrapes[0][0] < now - LOOK_BACK:
            self._scrapes.popleft()
        if now < self._until:
            self._clock.at(now + SCRAPE, self._scrape)

    def _look(self) -> None:
        now = self._clock.now
        self._decide(now, self._highest_work())
        if now < self._until:
            self._clock.at(now + SYNC, self._look)

    def _highest_work(self) -> float:
        """Sum the last minute's highest value of each series; series of pods that are gone count nothing."""
        series = min(self.pods, max((len(works) for _, works in self._scrapes), default=0))
        return sum(max(works[i] for _, works in self._scrapes if i < len(works)) for i in range(series))

    def _decide(self, now: float, work: float) -> None:
        rules = self._rules
        ratio = work / rules.target / self.pods
        target = math.ceil(work / rules.target) if abs(ratio - 1) > TOLERANCE else self.pods
        target = min(max(target, rules.least), rules.most)
        self._targets.append((now, target))
        while self._targets[0][0] < now - rules.down_calm:
            self._targets.popleft()
        if target > self.pods:
            self._up(now, target)
        elif (calm := max(count for _, count in self._targets)) < self.pods and now - self._fell >= rules.down_period:
            self._fell = now
            self._set(max(calm, self.pods - 1))

    def _up(self, now: float, target: int) -> None:
        period, pods, share = self._rules.up
        while self._ups and self._ups[0][0] <= now - period:
            self._ups.popleft()
        before = self.pods - sum(count for _, count in self._ups)
        limit = before + max(pods, math.ceil(before * share))
        if (more := min(target, limit) - self.pods) > 0:
            self._ups.append((now, more))
            self._set(self.pods + more)

    def _set(self, pods: int) -> None:
        now = self._clock.now
        for _ in range(pods - self.pods):
            self._clock.at(now + POD_START, self._start)
        for _ in range(self.pods - pods):
            self._end()
        self.pods = pods
        self.history.append((now, pods))
