"""The simulator, with few requests: what it counts, what holds of any policy, and what the service's own promises."""

from __future__ import annotations

import itertools
import json
import random
from pathlib import Path
from typing import Any

import pytest

from simulator import __main__ as command
from simulator.autoscaler import Autoscaler, Rules
from simulator.calibration.table import Table
from simulator.clock import Clock
from simulator.experiments import autoscaling, batching, routes
from simulator.experiments.setup import Study, capacity
from simulator.fleet import Fleet, PolicyFactory, fifo_prefix, greedy, with_window
from simulator.policies.routers import RedisCallCost
from simulator.report import resources
from simulator.traffic import ADAPTIVE, FULL, SAMPLED, Kind, changing, steady

TABLE = Table.read()
STUDY = Study(TABLE, effort=0.02)
ROOT = Path(__file__).parents[3]


def served(
    policy: PolicyFactory = greedy,
    load: float = 0.7,
    workers: int = 1,
    requests: int = 300,
    seed: int = 0,
    **fleet: Any,
) -> Fleet:
    """Two sizes, routes known late, one second to answer."""
    kinds = [Kind.of(*size, SAMPLED, 1.0) for size in batching.TWO]
    made = Fleet(STUDY.device, kinds, workers, policy=policy, seed=seed, **fleet)
    rate = load * workers * capacity(STUDY.device, kinds)
    made.run(steady(rate, requests / rate, made.chance))
    return made


def test_one_seed_gives_one_course_of_events_and_another_seed_another() -> None:
    first, again, other = (served(seed=seed).outcomes for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize("load", [0.2, 1.0, 3.0])
@pytest.mark.parametrize("policy", [greedy, with_window(0.05), fifo_prefix(), fifo_prefix(0.01)])
def test_every_request_is_answered_refused_or_expired_exactly_once_and_none_is_late(
    policy: PolicyFactory, load: float
) -> None:
    done = served(policy, load).outcomes
    assert done.sent == done.on_time + done.refused + done.expired + done.in_vain
    assert done.late == 0
    assert len(done.latency) == done.on_time
    assert len(done.lost_at) == done.sent - done.on_time


@pytest.mark.parametrize("options", [{}, {"in_turn": True}, {"call_cost": RedisCallCost(0.01, 0.002), "each": 0.1}])
@pytest.mark.parametrize("load", [0.5, 3.0])
def test_behind_a_router_every_request_of_a_fleet_has_one_outcome(options: dict[str, Any], load: float) -> None:
    fleet = served(load=load, workers=5, requests=600, **options)
    assert fleet.outcomes.outcome_count() == fleet.outcomes.sent
    assert fleet.outcomes.late == 0
    assert all(worker.in_flight == 0 for worker in fleet.ready)


def test_at_light_load_greedy_batches_answer_sooner_than_a_fixed_window_by_about_the_window() -> None:
    medians = {window: served(with_window(window), load=0.1).outcomes.quantile(0.5) for window in (0.0, 0.05)}
    assert medians[0.0] == served(load=0.1).outcomes.quantile(0.5)
    assert medians[0.05] - medians[0.0] == pytest.approx(0.05, rel=0.3)


def test_under_overload_the_line_answers_several_times_what_a_first_in_first_out_queue_does() -> None:
    line, fifo = served(greedy, 2.0, requests=1500).outcomes, served(fifo_prefix(), 2.0, requests=1500).outcomes
    assert line.useful > 3 * fifo.useful
    assert line.without_advice == 0


def test_the_overload_promise_holds_on_measured_costs() -> None:
    rows = {name: routes.one(Study(TABLE, 0.15), name, routes.SIZES[:1], 3.0) for name in ("full", "adaptive")}
    assert rows["full"]["useful_share"] >= 0.9
    assert rows["adaptive"]["on_time"] >= 1.5 * rows["full"]["on_time"]
    assert all(row["late"] == row["refused_without_advice"] == 0 for row in rows.values())


def test_short_deadlines_are_kept_beside_long_ones() -> None:
    """What decision 27 is about: a row that runs alone does not keep a shorter deadline waiting behind seven others."""
    kinds = [Kind.of(256, 448, SAMPLED, 0.25), Kind.of(512, 1024, SAMPLED, 5.0)]
    fleet = Fleet(STUDY.device, kinds)
    rate = 0.8 * capacity(STUDY.device, kinds)
    done = fleet.run(steady(rate, 1000 / rate, fleet.chance))
    assert done.on_time >= 0.98 * done.sent


def test_the_fit_of_the_measured_costs_is_close() -> None:
    assert STUDY.device.residual() < 0.15


def test_arrivals_come_at_their_rate() -> None:
    chance = random.Random(0)
    assert len(list(steady(100.0, 100.0, chance))) == pytest.approx(10_000, rel=0.05)
    half = list(changing(lambda now: 50.0 if now < 50 else 100.0, 100.0, 100.0, chance))
    assert sum(now < 50 for now in half) == pytest.approx(2_500, rel=0.1)
    assert half == sorted(half)


# --- the autoscaler ---------------------------------------------------------------------------------------------------


def scaled(rules: Rules, work: float, until: float) -> tuple[list[tuple[float, int]], list[float]]:
    """What it asks for while each look sees so much work in all, and when pods became ready."""
    clock, ready = Clock(), []
    scaler = Autoscaler(clock, rules, lambda: [work], lambda: ready.append(clock.now), lambda: None, until)
    clock.run(iter(()), lambda: None)
    return scaler.history, ready


def _nothing() -> None:
    """No pod listens here."""


def test_it_grows_as_the_manifest_allows_and_pods_come_after_their_start() -> None:
    history, ready = scaled(Rules.hpa(least=2), work=100.0, until=200.0)
    assert history[:3] == [(0.0, 2), (15.0, 4), (45.0, 8)]
    assert history[-1][1] == Rules.hpa().most
    assert ready[:2] == [15.0 + 33.0] * 2


def test_it_holds_still_within_the_tolerance_and_shrinks_by_one_a_minute_after_the_calm() -> None:
    assert scaled(Rules.hpa(least=2), work=2.1, until=600.0)[0] == [(0.0, 2)]
    rules = Rules.hpa(least=1)
    busy = Autoscaler(clock := Clock(), rules, lambda: [4.0 if clock.now < 60 else 0.0], _nothing, _nothing, 1200.0)
    clock.run(iter(()), lambda: None)
    falls = [when for (_, before), (when, pods) in itertools.pairwise(busy.history) if pods < before]
    assert falls[0] >= 60 + rules.down_calm
    assert min(later - sooner for sooner, later in itertools.pairwise(falls)) >= rules.down_period
    assert busy.pods == 1


def test_more_pods_at_least_lose_fewer_requests_in_a_step() -> None:
    few, many = (
        autoscaling.one(STUDY, "HPA, servers", Rules.hpa(least), "step", autoscaling.step, autoscaling.STEP_AT + 120)
        for least in (1, 12)
    )
    assert few["lost"] > many["lost"]
    assert many["on_time_share"] > 0.99


# --- arithmetic and the command ---------------------------------------------------------------------------------------


def test_figures_taken_from_the_capacity_plan_stand_there() -> None:
    page = (ROOT / "docs" / "scaling.md").read_text()
    assert "| PNG → PNG | 18 | 4 |" in page
    assert "| JPEG → JPEG (95) | 8 | 4 |" in page
    assert "Section 8 simulates the 33 s of images" in page
    assert "scrape 15 s + KEDA 10 s" in page
    assert Rules.keda().poll == 10.0


def test_the_cost_of_a_million_frames_is_hours_times_price() -> None:
    assert resources.cost_per_million(0.6 * 3.6e-3, price=2.0) == pytest.approx(2.0)
    assert resources.cost_per_million(0.0, 5.0, codec=0.6 * 3.6e-3, core_price=3.0) == pytest.approx(3.0)


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    TABLE.write(tmp_path / "table.json")
    assert Table.read(tmp_path / "table.json") == TABLE


@pytest.mark.parametrize(
    "questions", [("routes",), pytest.param(("autoscaling", "batches", "routes"), marks=pytest.mark.slow)]
)
def test_the_command_prints_its_questions_and_writes_the_page_the_data_and_the_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], questions: tuple[str, ...]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page = tmp_path / "scaling.md"
    page.write_text("before\n<!-- simulated -->\nold\n<!-- /simulated -->\nafter\n")
    monkeypatch.setattr(command, "PAGE", page)
    assert command.main(["run", "--effort", "0.001", "--only", *questions, "--write"]) == 0
    assert "simulated" in capsys.readouterr().out
    written = page.read_text()
    assert written.startswith("before\n")
    assert written.endswith("<!-- /simulated -->\nafter\n")
    assert "old" not in written
    assert json.loads((tmp_path / "simulated.json").read_text())["simulated"] is True
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [f"simulated-{name}.png" for name in questions]


def test_the_command_says_what_a_million_frames_cost(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["cost", "--worker-price", "2", "--seconds-per-frame", "0.00216"]) == 0
    assert capsys.readouterr().out == "your seconds per frame: 2.00 a million frames (60 % busy)\n"


def test_adaptive_and_full_requests_differ_only_in_what_they_allow() -> None:
    assert ADAPTIVE.route == FULL.route
