"""The whole table: every way a run can end, with everything that may be known of it."""

from __future__ import annotations

import itertools

import pytest

from service.core import errors
from service.core.errors import ServiceError
from service.serving.jobs.fate import MAX_LOSSES, WORST_LOSSES, Bury, HandBack, Leave, Respond, Run, RunEnd, fate

KINDS = sorted(ServiceError.__subclasses__(), key=lambda kind: kind.code)
FINAL = {RunEnd.ANSWERED, RunEnd.REFUSED, RunEnd.UNSTORABLE}
UNCOUNTED = {RunEnd.STOPPED, RunEnd.UNTRIED}
BITS = itertools.product((True, False), repeat=4)
FLAGS = [dict(zip(("alone", "sound", "awaited", "others"), bits, strict=True)) for bits in BITS]
TABLE = [
    Run(end, delivery, 4, leased, losses=losses, **flags)
    for end, delivery, leased, losses, flags in itertools.product(
        RunEnd, range(1, 6), (True, False), range(MAX_LOSSES + 1), FLAGS
    )
]


def test_whoever_lost_the_lease_says_nothing_and_nobody_else_is_silent() -> None:
    assert {run for run in TABLE if fate(run) == Leave()} == {run for run in TABLE if not run.leased}


def test_an_answer_is_given_whatever_else_is_known() -> None:
    assert all(fate(run) == Respond() for run in TABLE if run.leased and run.end in FINAL)


def convicted(run: Run) -> bool:
    """Whether the item broke its second device in a run that proves it."""
    return run.leased and run.end is RunEnd.DEVICE_LOST and run.alone and run.sound and run.losses + 1 >= MAX_LOSSES


def test_only_a_run_that_had_no_chance_is_not_counted() -> None:
    """Its worker left in good order, or the device was broken before it began."""
    uncounted = {run for run in TABLE if isinstance(then := fate(run), HandBack) and not then.counted}
    assert uncounted == {run for run in TABLE if run.leased and run.end in UNCOUNTED}


def test_the_last_delivery_is_the_last_however_it_ended() -> None:
    for run in TABLE:
        if run.leased and run.delivery >= run.max_deliveries and run.end not in FINAL | UNCOUNTED:
            assert isinstance(fate(run), Bury), run


def test_an_item_is_buried_only_at_its_last_delivery_or_when_it_broke_two_devices_alone_that_were_sound() -> None:
    for run in TABLE:
        if isinstance(then := fate(run), Bury):
            assert convicted(run) or run.delivery >= run.max_deliveries, run
            assert then.reason.startswith("given up"), run
            assert run.end.value != "device lost" or "device was lost" in then.reason
        else:
            assert not convicted(run), run


def test_whatever_ran_when_a_device_was_lost_is_suspected_and_only_what_ran_alone_on_a_sound_one_is_noted() -> None:
    backs = {run: then for run in TABLE if isinstance(then := fate(run), HandBack)}
    lost = {run for run in backs if run.end is RunEnd.DEVICE_LOST}
    assert {run for run, then in backs.items() if then.suspected} == lost
    assert {run for run, then in backs.items() if then.loss} == {run for run in lost if run.alone and run.sound}


def test_devices_lost_before_or_beside_a_job_never_convict_it() -> None:
    """However often: on a device that was not proven sound, in company, or on one that failed its probe."""
    for alone, sound in ((True, False), (False, True), (False, False)):
        for delivery in range(1, 100):
            run = Run(RunEnd.DEVICE_LOST, delivery, 100, alone=alone, sound=sound, losses=MAX_LOSSES)
            assert fate(run) == HandBack(counted=True, suspected=True), run
    assert fate(Run(RunEnd.UNTRIED, 99, 4, alone=True, losses=MAX_LOSSES)) == HandBack(counted=False)


def test_what_did_not_fit_goes_elsewhere_and_only_that() -> None:
    for run in TABLE:
        then = fate(run)
        if isinstance(then, HandBack):
            assert then.elsewhere == (run.end is RunEnd.NO_MEMORY), run
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, awaited=True, others=False)) == Respond()
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, awaited=True)) == HandBack(counted=True, elsewhere=True)
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, others=False)) == HandBack(counted=True, elsewhere=True)


@pytest.mark.parametrize("company", [False, True])
def test_the_worst_item_costs_three_devices(company: bool) -> None:
    """The bound of the whole: run it as often as its fate says, on sound devices once it is suspected."""
    losses, suspected = 0, False
    for delivery in range(1, 100):
        alone = delivery > 1 or not company  # whatever was handed back runs alone
        then = fate(Run(RunEnd.DEVICE_LOST, delivery, 100, alone=alone, sound=suspected, losses=losses))
        if isinstance(then, Bury):
            break
        assert isinstance(then, HandBack)
        suspected, losses = suspected or then.suspected, losses + then.loss
    assert delivery == WORST_LOSSES == 3


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_an_end(kind: type[ServiceError]) -> None:
    others = {"internal": RunEnd.BROKEN, "queue_full": RunEnd.BUSY, "client_limit": RunEnd.BUSY}
    expected = RunEnd.BUSY if kind is errors.Unavailable else others.get(kind.code, RunEnd.REFUSED)
    assert RunEnd.of(kind("x")) is expected


def test_why_the_engine_is_unavailable_decides() -> None:
    reasons = {"device_lost": RunEnd.DEVICE_LOST, "out_of_memory": RunEnd.NO_MEMORY, "draining": RunEnd.STOPPED}
    for reason, end in {**reasons, "starting": RunEnd.BUSY}.items():
        assert RunEnd.of(errors.Unavailable("x", reason=reason)) is end
