"""Has a new version answer again, as background work, what the default has just answered, and compares the two.

One request at a time, and the caller has its answer before it begins: nobody waits for it and nobody is sent it. The
default answers again, too, for its time: beside the answer that is being encoded, or alone in a batch, both are slower.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import math
from collections.abc import Awaitable, Callable

import numpy as np

from service.core.errors import Internal, ServiceError
from service.core.types import Frame, Options, PredictRequest, PredictResult, Priority
from service.engine.versions.shadow_trial import ShadowTrial
from service.telemetry.version_counts import VersionCounts

log = logging.getLogger(__name__)

#: Equal frames count as so many dB.
MOST_DB = 100.0
#: Whose requests these are, where clients take turns.
CLIENT = "shadow"


class Shadowing:
    """Answers again what it is told of, if the trial picks it and nothing is being answered again already."""

    def __init__(self, predict: Callable[[PredictRequest], Awaitable[PredictResult]], counts: VersionCounts) -> None:
        """Take how to predict, and where to count."""
        self._predict, self._counts = predict, counts
        self._task: asyncio.Task[None] | None = None
        self._is_new_first = False
        #: Of the comparison before, until one with the other order makes a pair of it.
        self._unpaired: tuple[ShadowTrial, bool, tuple[float, float]] | None = None

    def consider(self, trial: ShadowTrial, request: PredictRequest, result: PredictResult) -> None:
        """Answer a request again, which the default has answered with `result`, if it is one to be compared."""
        if request.priority is not Priority.LIVE or request.options.version is not None:
            return
        if result.shortened or result.is_cut or not result.steps or not trial.takes_next():
            return
        if self._task is not None and not self._task.done():
            self._counts.shadowed("skipped")
            return
        # owned: until it ends by this object, which `close` ends; its errors are counted or logged
        self._task = asyncio.create_task(self._compare(trial, request, result))

    def close(self) -> None:
        """Compare no more."""
        if self._task is not None:
            self._task.cancel()

    async def _compare(self, trial: ShadowTrial, request: PredictRequest, result: PredictResult) -> None:
        # By turns, since the first of two runs beside what is still done for the caller.
        self._is_new_first = not self._is_new_first
        versions = [trial.name, result.model_version][:: 1 if self._is_new_first else -1]
        answers: dict[str, PredictResult] = {}
        try:
            for version in versions:
                answers[version] = await self._predict(_again(request, result, version))
            shadow, default = answers[trial.name], answers[result.model_version]
            agreement_db = await asyncio.to_thread(_agreement, result, shadow)
        except Internal:
            has_new_failed = versions[len(answers)] == trial.name
            self._counts.shadowed("failed" if has_new_failed else "skipped")
            if has_new_failed:
                self._note(trial, trial.record(None))
        except ServiceError:  # a deadline, a full queue, a version that has gone: no fault of its
            self._counts.shadowed("skipped")
        except Exception:
            log.exception("a version's answers could not be compared")
        else:
            both = seconds_per_pixel(request, default), seconds_per_pixel(request, shadow)
            # A GPU takes little longer for eight than for one: only alike batches tell who is slower.
            are_alike = default.batch_size == shadow.batch_size and min(both) > 0
            seconds = self._paired(trial, both) if are_alike else None
            self._counts.shadowed("compared", agreement_db, seconds[1] / seconds[0] if seconds else None)
            self._note(trial, trial.record(agreement_db, seconds))

    def _paired(self, trial: ShadowTrial, seconds: tuple[float, float]) -> tuple[float, float] | None:
        """Add the times of two comparisons, in each of which another version went first; None: one is awaited."""
        held, self._unpaired = self._unpaired, None
        if held is None or held[0] is not trial or held[1] is self._is_new_first:
            self._unpaired = trial, self._is_new_first, seconds
            return None
        return held[2][0] + seconds[0], held[2][1] + seconds[1]

    def _note(self, trial: ShadowTrial, has_ended: bool) -> None:
        if has_ended:
            log.error("version %s shadows the default no more: %s", trial.name, trial.reason)
            self._counts.shadow_ended()


def seconds_per_pixel(request: PredictRequest, result: PredictResult) -> float:
    """Return the device's seconds for an answer, by the pixels it predicted."""
    pixels = request.current.height * request.current.width * request.options.work * result.batch_size
    return result.timings.device / pixels


def _again(request: PredictRequest, result: PredictResult, version: str) -> PredictRequest:
    """Return the same request for another version, by the same method and seed, behind those who wait."""
    options: Options = request.options
    route = options.route if result.seed is None else dataclasses.replace(options.route, seed=result.seed)
    options = dataclasses.replace(options, version=version, method=result.method, route=route, maps=False)
    return dataclasses.replace(
        request,
        options=options,
        client=CLIENT,
        priority=Priority.BACKGROUND,
        deadline=None,
        traceparent=None,
        on_result=None,
    )


def _agreement(result: PredictResult, shadow: PredictResult) -> float:
    """Return the mean PSNR of the frames of two answers, dB."""
    pairs = zip(result.steps, shadow.steps, strict=True)
    return sum(_psnr(one.frame, other.frame) for one, other in pairs) / len(result.steps)


def _psnr(one: Frame, other: Frame) -> float:
    error = float(np.mean(np.square(one.pixels.astype(np.int16) - other.pixels, dtype=np.float32)))
    return MOST_DB if error == 0 else min(MOST_DB, 10 * math.log10(255**2 / error))
