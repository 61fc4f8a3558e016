"""Question 4: 1 to 1,000 workers behind a Kubernetes Service and behind Redis, and what saturates first."""

from __future__ import annotations

from functools import partial
from typing import Any

from service.engine.scheduling.batch_scheduler import QueueLimits
from simulator.experiments.autoscaling import SIZE, redis_call_cost
from simulator.experiments.setup import Study, capacity
from simulator.fleet import Fleet
from simulator.policies.routers import RedisCallCost
from simulator.report import plots, resources
from simulator.report.report import Answer, Grid, percent
from simulator.traffic import SAMPLED, Kind, steady

WORKERS = (1, 10, 100, 1000)
#: Requests for each worker, within these bounds of the whole.
EACH, FEWEST, MOST = 250, 2_500, 25_000
#: Of the router whose largest fleet is also asked this many.
MANY = 100_000
BUDGET = 3.0
LOAD = 0.6
ROUTERS = ("Service, any pod", "Service, in turn", "Redis, its server ideal", "Redis, one server as measured")


def ask(study: Study) -> Answer:
    """Simulate every router and fleet size at the utilisation that docs/scaling.md plans with."""
    data = [one(study, router, workers) for router in ROUTERS for workers in WORKERS]
    kind = Kind.of(*SIZE, SAMPLED, BUDGET)
    rate = LOAD * capacity(study.device, [kind])
    needs = resources.Needs.of(study.table)
    return Answer(
        name="fleet",
        title="One worker to a thousand",
        grids=[_grid(data), resources.grid(rate, WORKERS, needs), resources.costs(study.table)],
        data=data,
        notes=[
            f"{SIZE[0]}x{SIZE[1]}, sampled routes, {BUDGET:g} s to answer, load {LOAD:g} of all workers ({rate:.2f} "
            "frames a second and worker). One policy instance a worker. Redis' server is one thread that takes "
            f"{1000 * redis_call_cost(study).server:.1f} ms for a call with raw frames (M)."
        ],
        draw=partial(plots.fleet, data=data, load=LOAD),
        alt="99th percentile and answers in time over the number of workers, for each router",
    )


def one(study: Study, router: str, workers: int) -> dict[str, Any]:
    """Simulate one router before `workers` workers."""
    kind = Kind.of(*SIZE, SAMPLED, BUDGET)
    each = capacity(study.device, [kind])
    rate = LOAD * workers * each
    limit = MANY if router == ROUTERS[1] else MOST
    seconds = study.count(min(limit, max(FEWEST, EACH * workers))) / rate
    redis = redis_call_cost(study)
    fleet = Fleet(
        study.device,
        [kind],
        workers,
        seed=study.seed,
        call_cost={ROUTERS[2]: RedisCallCost(redis.clients), ROUTERS[3]: redis}.get(router),
        each=1 / each,
        queue_items=QueueLimits().max_items * workers,
        in_turn=router == ROUTERS[1],
    )
    outcomes = study.run(fleet, steady(rate, seconds, fleet.chance)).outcomes
    return {
        "router": router,
        "workers": workers,
        "seconds": seconds,
        "rate": rate,
        "took_s": fleet.cpu_seconds,
        "events": fleet.clock.events,
        "redis_busy": fleet.queue.server_busy / seconds if fleet.queue else 0.0,
        **outcomes.summary(seconds),
    }


def _grid(data: list[dict[str, Any]]) -> Grid:
    rows = [
        (
            row["router"],
            f"{row['workers']:,}",
            f"{row['sent']:,}",
            f"{row['rate']:,.1f}",
            f"{row['p50_ms']:.0f} / {row['p99_ms']:.0f}",
            percent(row["on_time_share"], 2),
            percent(row["redis_busy"], 0) if row["redis_busy"] else "–",
            f"{row['took_s']:.0f}",
        )
        for row in data
    ]
    header = (
        "router",
        "workers",
        "requests",
        "frames a second asked",
        "p50 / p99, ms",
        "in time",
        "asked of Redis' thread",
        "simulated in, s",
    )
    return Grid("At 0.6 of the workers' capacity (simulated):", header, rows)
