"""The one checker: each promise that is broken is named, and nothing else."""

from __future__ import annotations

from simulator.history import (
    Accepted,
    Breach,
    Cuts,
    Ended,
    Guarantee,
    Publication,
    Verdict,
    judge_answers,
    judge_calls,
    judge_counts,
    judge_jobs,
    judge_leftovers,
    judge_order,
)


def test_a_job_ends_as_it_is_to_end() -> None:
    verdict, accepted = Verdict(), {
        "good": Accepted(1, 1, sent=0.0, at=0.1),
        "guilty": Accepted(2, 1, sent=0.0, at=0.1, guilty=True),
        "withdrawn": Accepted(3, 1, sent=0.0, at=0.1, withdrawn=True),
        "bad": Accepted(4, 1, sent=0.0, at=0.1),
        "innocent": Accepted(5, 1, sent=0.0, at=0.1, guilty=True),
    }  # fmt: skip
    states = {"good": "done", "guilty": "failed", "withdrawn": "cancelled", "bad": "failed", "innocent": "done"}
    assert judge_jobs(verdict, accepted, states, Cuts()) == ["good"]
    assert verdict.breaches == [Breach(Guarantee.LOST, "job 4 is failed"), Breach(Guarantee.LOST, "job 5 is done")]
    assert verdict.jobs == 5


def test_a_job_accepted_just_before_a_cut_was_not_promised() -> None:
    accepted = {"late": Accepted(1, 1, sent=9.0, at=9.5), "early": Accepted(2, 1, sent=1.0, at=1.5)}
    verdict = Verdict()
    judge_jobs(verdict, accepted, {}, Cuts([10.0], unsynced_s=1.0))
    assert (verdict.unsynced, verdict.oldest_s) == (1, 0.5)
    assert verdict.breaches == [Breach(Guarantee.LOST, "job 2 is missing")]


def test_an_item_is_answered_once_by_the_one_who_holds_it() -> None:
    verdict = Verdict()
    once = Publication("a", 0, at=1.0, worker="w1", owner="w1")
    undone = Publication("b", 0, at=1.0, worker="w1", owner="w1")
    again = Publication("b", 0, at=3.0, worker="w2", owner="w2")
    stolen = Publication("c", 0, at=1.0, worker="w1", owner="w2")
    judge_answers(verdict, [once, undone, again, stolen], Cuts([1.5], unsynced_s=1.0))
    assert [breach.promise for breach in verdict.breaches] == [Guarantee.UNFENCED]
    judge_answers(verdict, [undone, again], Cuts())
    assert verdict.count(Guarantee.DOUBLE) == 1
    judge_counts(verdict, {"d": Accepted(1, 2, 0.0, 0.0)}, {"d": [1.0, 2.0, 3.0]}, Cuts())
    assert verdict.count(Guarantee.DOUBLE) == 2


def test_a_call_ends_by_its_deadline_unless_its_process_stood_still() -> None:
    verdict = Verdict()
    calls = [
        Ended("in time", 0.0, deadline=1.0, ended=1.0, outcome="ok"),
        Ended("stood still", 0.0, deadline=1.0, ended=2.0, outcome="ok", spared_s=1.0),
        Ended("late", 0.0, deadline=1.0, ended=1.5, outcome="ok"),
        Ended("wrong", 0.0, deadline=1.0, ended=1.0, outcome="ok", is_right=False),
        Ended("broken", 0.0, deadline=1.0, ended=1.0, outcome="internal"),
    ]
    judge_calls(verdict, calls)
    assert [breach.promise for breach in verdict.breaches] == [Guarantee.LATE, Guarantee.WRONG, Guarantee.FAILED]


def test_order_and_leftovers_are_judged() -> None:
    verdict = Verdict()
    judge_order(verdict, "stream 1", [0, 1, 2])
    judge_leftovers(verdict, [], {"items": 0})
    assert verdict.sound
    judge_order(verdict, "stream 2", [0, 2, 1])
    judge_leftovers(verdict, ["{q}:p:1"], {"items": 2})
    assert [breach.promise for breach in verdict.breaches] == [Guarantee.DISORDERED, Guarantee.LEFT, Guarantee.LEFT]
