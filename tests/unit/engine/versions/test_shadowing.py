"""A loaded version answers again what the default has answered: beside it, for nobody, and compared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from service.core.errors import Conflict, Internal
from service.core.timings import Timings
from service.core.types import Options, PredictRequest, PredictResult, Priority, RouteChoice, RoutePolicy
from service.engine.device import DeviceWork, RunOutput
from service.engine.predictor import Predictor
from service.engine.versions.shadow_trial import ShadowTrial
from service.engine.versions.shadowing import Shadowing
from service.engine.versions.version_record import FEWEST
from service.telemetry.metrics import Metrics
from tests.unit.distributed.engines import answer
from tests.unit.engine.tiny import Rigged, count, request, until
from tests.unit.engine.versions.swapping import MemorySource, swapping

FULL = Options(route=RouteChoice(RoutePolicy.FULL))


def asked(seed: int = 0) -> PredictRequest:
    return request(seed, options=FULL)


async def test_callers_get_the_defaults_answers_and_each_is_answered_again_and_compared() -> None:
    metrics = Metrics(CollectorRegistry())
    async with swapping(MemorySource(v0=0, v1=1), metrics=metrics) as batcher:
        await batcher.versions.load("v1", shadow=1.0)
        answers: list[PredictResult] = []
        told: list[PredictResult] = []
        for number in range(3):
            answers.append(await batcher.predict(replace(asked(number), on_result=told.append)))
            await until(lambda: count(metrics, "version_shadows_total", outcome="compared") == len(answers))
        status = next(status for status in batcher.versions.loaded() if status.name == "v1")
    assert {answer.model_version for answer in answers} == {"v0"}
    assert told == answers, "whoever asked hears nothing of the answers again"
    assert (status.is_default, status.share) == (False, 0.0)
    assert status.shadow is not None
    assert (status.shadow.compared, status.shadow.share, status.shadow.reason) == (3, 1.0, "")
    assert status.shadow.agreement_db is not None
    assert 10 < status.shadow.agreement_db < 60
    assert count(metrics, "version_shadow_agreement_db_count") == 3


async def test_equal_weights_agree_entirely() -> None:
    async with swapping(MemorySource(v0=0, v1=0)) as batcher:
        await batcher.versions.load("v1", shadow=1.0)
        await batcher.predict(request(0, options=Options(route=RouteChoice(RoutePolicy.SAMPLE))))
        shadow = batcher.versions.table.shadow
        assert shadow is not None
        await until(lambda: shadow.compared == 1)
        assert shadow.report().agreement_db == 100.0


async def test_only_live_requests_that_name_no_version_are_answered_again() -> None:
    metrics = Metrics(CollectorRegistry())
    async with swapping(MemorySource(v0=0, v1=1), metrics=metrics) as batcher:
        await batcher.versions.load("v1", shadow=1.0)
        for one in (replace(asked(), priority=Priority.BACKGROUND), request(0, options=replace(FULL, version="v0"))):
            await batcher.predict(one)
        await batcher.predict(asked())
        await until(lambda: count(metrics, "version_shadows_total", outcome="compared") == 1)
        assert sum(count(metrics, "version_shadows_total", outcome=outcome) for outcome in ("failed", "skipped")) == 0


async def test_a_caller_has_its_answer_while_that_is_answered_again() -> None:
    metrics, held = Metrics(CollectorRegistry()), list[Rigged]()
    source = MemorySource(v0=0, v1=1)

    def rig(real: Predictor) -> Rigged:
        held.append(Rigged(real))
        return held[0]

    source.wrap = rig
    async with swapping(source, metrics=metrics) as batcher:
        await batcher.versions.load("v1", shadow=1.0)
        held[0].hold()
        await batcher.predict(asked(1))
        await until(held[0].entered.is_set)  # nobody waits for this one
        second = asyncio.create_task(batcher.predict(asked(2)))
        held[0].release()
        assert (await second).model_version == "v0"
        outcomes = ("compared", "skipped")
        await until(lambda: sum(count(metrics, "version_shadows_total", outcome=outcome) for outcome in outcomes) == 2)


async def test_one_that_fails_is_ended_and_its_share_with_it() -> None:
    metrics, source = Metrics(CollectorRegistry()), MemorySource(v0=0, v1=1)

    def failing(real: Predictor) -> Rigged:
        device = Rigged(real)

        def run(works: Sequence[DeviceWork], keep: Callable[[DeviceWork], bool]) -> RunOutput:
            raise ValueError("this version fails")

        device.run = run  # type: ignore[method-assign]
        return device

    source.wrap = failing
    async with swapping(source, metrics=metrics) as batcher:
        await batcher.versions.load("v1", shadow=1.0)
        for number in range(1, FEWEST + 1):
            assert (await batcher.predict(asked())).model_version == "v0"
            await until(lambda: count(metrics, "version_shadows_total", outcome="failed") == number)  # noqa: B023
        (_, status) = batcher.versions.loaded()
        assert status.shadow is not None
        assert status.shadow.reason == "100% of its requests failed, 0% of the default's"
        await batcher.predict(asked())
    assert count(metrics, "version_shadows_ended_total") == 1
    assert count(metrics, "version_shadows_total", outcome="failed") == FEWEST


async def test_what_runs_beside_an_answer_that_is_being_encoded_is_not_taken_for_slow() -> None:
    """Whatever runs right after an answer has a core less: of equal weights none is called slower than the other."""
    metrics, runs = Metrics(CollectorRegistry()), list[str]()

    async def predict(one: PredictRequest) -> PredictResult:
        assert one.options.version is not None
        runs.append(one.options.version)
        seconds = 0.2 if len(runs) % 2 else 0.1
        return replace(answer(one), model_version=one.options.version, timings=Timings(blocks=seconds))

    shadowing, trial = Shadowing(predict, metrics.versions), ShadowTrial("v1", 1.0)
    for number in range(1, 4 * FEWEST + 1):
        shadowing.consider(trial, asked(), replace(answer(asked()), model_version="v0", timings=Timings(blocks=0.1)))
        await until(lambda: trial.compared == number)  # noqa: B023
    report = trial.report()
    assert (report.reason, report.share, report.time_ratio) == ("", 1.0, 1.0)
    assert runs[:4] == ["v1", "v0", "v0", "v1"]


async def test_the_defaults_own_failure_is_not_the_new_versions() -> None:
    metrics = Metrics(CollectorRegistry())

    async def predict(one: PredictRequest) -> PredictResult:
        if one.options.version == "v0":
            raise Internal("the default fails")
        return answer(one)

    shadowing, trial = Shadowing(predict, metrics.versions), ShadowTrial("v1", 1.0)
    for number in range(1, FEWEST + 3):
        shadowing.consider(trial, asked(), replace(answer(asked()), model_version="v0"))
        await until(lambda: count(metrics, "version_shadows_total", outcome="skipped") == number)  # noqa: B023
    assert (trial.share, trial.compared) == (1.0, 0)


async def test_the_default_shadows_nobody_and_a_swap_ends_what_does() -> None:
    async with swapping(MemorySource(v0=0, v1=1)) as batcher:
        with pytest.raises(Conflict, match="cannot shadow itself"):
            await batcher.versions.load("v0", shadow=0.5)
        await batcher.versions.load("v1", shadow=0.5)
        await batcher.versions.load("v1")
        assert batcher.versions.table.shadow is None
        assert batcher.model().version == "v1"


async def test_a_share_ends_by_what_streams_say_of_its_predictions() -> None:
    metrics = Metrics(CollectorRegistry())
    async with swapping(MemorySource(v0=0, v1=1), metrics=metrics) as batcher:
        wants_before = batcher.versions.wants_scores
        await batcher.versions.load("v1", share=0.5)
        assert (wants_before, batcher.versions.wants_scores) == (False, True)
        for number in range(60):
            batcher.versions.record_score("v0", 4.0 + number % 2)
            batcher.versions.record_score("v1", 1.0 + number % 2)
            batcher.versions.record_score("gone", -9.0)
        (_, status) = batcher.versions.loaded()
        assert (status.share, status.reason[:19]) == (0.0, "in streams it gains")
        wants_after = batcher.versions.wants_scores
        assert not wants_after, "the share has ended"
    assert count(metrics, "version_shares_returned_total") == 1
