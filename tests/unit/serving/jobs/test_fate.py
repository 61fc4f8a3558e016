"""The whole table: every way a run can end, with everything that may be known of it."""

from __future__ import annotations

import itertools

import pytest

from service.core import errors
from service.core.errors import ServiceError
from service.serving.jobs.fate import MAX_LOSSES, Bury, HandBack, Leave, Respond, Run, RunEnd, fate

KINDS = sorted(ServiceError.__subclasses__(), key=lambda kind: kind.code)
FINAL = {RunEnd.ANSWERED, RunEnd.REFUSED, RunEnd.UNSTORABLE}
BITS = itertools.product((True, False), repeat=3)
FLAGS = [dict(zip(("alone", "awaited", "others"), bits, strict=True)) for bits in BITS]
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


def test_only_a_worker_that_leaves_in_good_order_does_not_count_the_run() -> None:
    uncounted = {run for run in TABLE if isinstance(then := fate(run), HandBack) and not then.counted}
    assert uncounted == {run for run in TABLE if run.leased and run.end is RunEnd.STOPPED}


def test_the_last_delivery_is_the_last_however_it_ended() -> None:
    for run in TABLE:
        if run.leased and run.delivery >= run.max_deliveries and run.end not in FINAL | {RunEnd.STOPPED}:
            assert isinstance(fate(run), Bury), run


def test_an_item_is_buried_only_at_its_last_delivery_or_when_it_broke_two_devices_alone() -> None:
    for run in TABLE:
        if isinstance(then := fate(run), Bury):
            convicted = run.end is RunEnd.DEVICE_LOST and run.alone and run.losses + 1 >= MAX_LOSSES
            assert convicted or run.delivery >= run.max_deliveries, run
            assert then.reason.startswith("given up"), run
            assert run.end.value != "device lost" or "device was lost" in then.reason


def test_a_lost_device_is_noted_only_with_what_ran_alone() -> None:
    noted = {run for run in TABLE if isinstance(then := fate(run), HandBack) and then.loss}
    first = (run for run in TABLE if run.leased and run.end is RunEnd.DEVICE_LOST and run.alone and run.losses == 0)
    assert noted == {run for run in first if run.delivery < run.max_deliveries}


def test_what_did_not_fit_goes_elsewhere_and_only_that() -> None:
    for run in TABLE:
        then = fate(run)
        if isinstance(then, HandBack):
            assert then.elsewhere == (run.end is RunEnd.NO_MEMORY), run
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, awaited=True, others=False)) == Respond()
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, awaited=True)) == HandBack(counted=True, elsewhere=True)
    assert fate(Run(RunEnd.NO_MEMORY, 1, 4, others=False)) == HandBack(counted=True, elsewhere=True)


def test_the_worst_item_costs_two_devices_alone_and_one_in_company() -> None:
    """The bound of the whole: run it as often as its fate says."""
    for company in (False, True):
        losses, delivery = 0, 0
        while True:
            delivery += 1
            alone = not company or delivery > 1  # whatever was handed back runs alone
            then = fate(Run(RunEnd.DEVICE_LOST, delivery, 100, alone=alone, losses=losses))
            losses += alone
            if isinstance(then, Bury):
                break
        assert delivery == 2 + company


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_is_an_end(kind: type[ServiceError]) -> None:
    others = {"internal": RunEnd.BROKEN, "queue_full": RunEnd.BUSY, "client_limit": RunEnd.BUSY}
    expected = RunEnd.BUSY if kind is errors.Unavailable else others.get(kind.code, RunEnd.REFUSED)
    assert RunEnd.of(kind("x")) is expected


def test_why_the_engine_is_unavailable_decides() -> None:
    reasons = {"device_lost": RunEnd.DEVICE_LOST, "out_of_memory": RunEnd.NO_MEMORY, "draining": RunEnd.STOPPED}
    for reason, end in {**reasons, "starting": RunEnd.BUSY}.items():
        assert RunEnd.of(errors.Unavailable("x", reason=reason)) is end
