"""No background work of the service can end unseen: how failures are met, and that every task in the sources is."""

from __future__ import annotations

import ast
import asyncio
import logging
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service.supervision import LONGEST_S, Supervisor
from service.telemetry.metrics import Background, Metrics
from tests.unit.distributed.conftest import until

SERVICE = Path(__file__).parents[2] / "service"
#: What starts work that can end while nobody looks.
STARTS = {"create_task", "ensure_future", "run_coroutine_threadsafe", "Thread", "Timer", "start_new_thread"}


def supervisor() -> tuple[Supervisor, Metrics]:
    metrics = Metrics(CollectorRegistry())
    return Supervisor(metrics), metrics


def failures(metrics: Metrics, task: Background) -> float:
    value = metrics.registry.get_sample_value("dmvfn_background_failures_total", {"task": task.value})
    assert value is not None, "counted from 0, so that the first failure is an increase"
    return value


@pytest.mark.parametrize("way", ["raises", "returns", "is cancelled inside"])
async def test_a_loop_that_ends_in_any_way_is_logged_counted_and_started_again(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    guard, metrics = supervisor()
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs > 3:
            await asyncio.Event().wait()
        if way == "raises":
            raise KeyError("a field of the next release")
        if way == "is cancelled inside":
            broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            broken.cancel()
            await broken

    task = guard.loop(Background.REDIS_PULSE, work)
    await until(lambda: runs == 4, 5)
    assert failures(metrics, Background.REDIS_PULSE) == 3
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 3
    assert all(record.exc_info for record in caplog.records) is (way != "returns")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_pause_before_a_restart_grows_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    guard, _ = supervisor()
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 20:
            raise asyncio.CancelledError

    async def work() -> None:
        raise ValueError

    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await guard.loop(Background.WEBHOOKS, work)
    assert pauses[0] < 0.1
    assert LONGEST_S / 2 <= max(pauses) <= 1.5 * LONGEST_S


async def test_a_task_of_once_that_fails_is_logged_and_counted_and_one_that_is_cancelled_is_not() -> None:
    guard, metrics = supervisor()

    async def fail() -> None:
        raise ValueError("unforeseen")

    await guard.once(Background.WEBHOOK, fail())
    assert failures(metrics, Background.WEBHOOK) == 1
    waiting = guard.once(Background.WEBHOOK, asyncio.sleep(60))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert failures(metrics, Background.WEBHOOK) == 1
    assert guard.pending == ()


def unsupervised(source: str) -> list[str]:
    """Lines that start work and neither they nor the comment above say who awaits or owns it."""
    lines, starts = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in STARTS:
                starts.append(node.lineno - 1)
    return [
        lines[at].strip()
        for at in sorted(starts)
        if not any(f"# {word}" in line for line in lines[max(0, at - 2) : at + 1] for word in ("awaited", "owned"))
    ]


@pytest.mark.parametrize(
    "path", sorted(SERVICE.rglob("*.py")), ids=lambda path: str(path.relative_to(SERVICE).with_suffix(""))
)
def test_every_task_is_supervised_or_says_who_awaits_it(path: Path) -> None:
    if path.name != "supervision.py":
        assert unsupervised(path.read_text()) == []


def test_the_check_itself_finds_a_task_that_nobody_awaits() -> None:
    source = "import asyncio\n\n\nasync def run():\n    task = asyncio.create_task(work())\n"
    assert unsupervised(source) == ["task = asyncio.create_task(work())"]
    assert unsupervised(source.replace("    task", "    # awaited: below\n    task")) == []
