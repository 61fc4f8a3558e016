"""Memory of the process in large pages, where Linux has them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from service import large_pages
from service.large_pages import PAGE, PIECE, in_pieces, moving_memory, own_ranges
from service.supervision import Supervisor
from service.telemetry.metrics import Metrics
from tests.house import ROOT

MAPS = """\
555555554000-555555556000 r-xp 00001000 fe:00 1234                       /usr/bin/python3.11
5555555aa000-55555fe00000 rw-p 00000000 00:00 0                          [heap]
7fffe0000000-7fffe0900000 rw-p 00000000 00:00 0
7fffe1000000-7fffe1100000 rw-p 00000000 00:00 0
7fffe1800000-7fffe1c00000 rw-p 00000000 00:00 0                          [anon: glibc: malloc arena]
7fffe2000000-7fffe2800000 r--p 00000000 00:00 0
7fffe4000000-7fffe4800000 rw-s 00000000 00:01 77                         /memfd:shared (deleted)
7fffe5000000-7fffe5800000 rw-p 00000000 fe:00 99                         /usr/lib/libtorch.so
7ffffffde000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]
"""
#: Fills 32 MiB as a heap does, in many small blocks, and prints how much of its memory is in large pages then.
PROGRAM = """
import asyncio
from service import large_pages
blocks = [bytes(1000) for _ in range(32 * 1024)]
before = large_pages.bytes_in_large_pages()
{moves}
print(large_pages.bytes_in_large_pages() - before)
"""
#: The same work, at once or with rests: of 32 MiB four pieces at least, and as many rests beside the delay.
GENTLY = """
rests = []
async def sleep(seconds):
    rests.append(seconds)
asyncio.run(large_pages.use_large_pages_gently(7.0, sleep))
assert rests[0] == 7.0 and len(rests) >= 5 and min(rests) > 0, rests
"""


def test_whole_large_pages_of_own_memory_are_found() -> None:
    assert own_ranges(MAPS.splitlines()) == [
        (0x555555600000, 0x55555FE00000),
        (0x7FFFE0000000, 0x7FFFE0800000),
        (0x7FFFE1800000, 0x7FFFE1C00000),
    ]


def is_possible() -> bool:
    """Whether this system moves memory into large pages when asked to: Linux 6.1, and its operator lets it."""
    try:
        policy = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
        release = Path("/proc/sys/kernel/osrelease").read_text()
    except OSError:
        return False
    return "[never]" not in policy and tuple(map(int, release.split("-")[0].split(".")[:2])) >= (6, 1)


@pytest.mark.skipif(not is_possible(), reason="this system keeps all memory in small pages")
@pytest.mark.parametrize("moves", ["large_pages.use_large_pages()", GENTLY], ids=["at once", "with rests"])
def test_what_a_process_keeps_is_moved(moves: str) -> None:
    program = PROGRAM.format(moves=moves)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 16 * 2**20


def test_pieces_are_whole_pages_and_leave_nothing_out() -> None:
    ranges = [(PAGE, 2 * PAGE), (4 * PAGE, 4 * PAGE + 2 * PIECE + PAGE)]
    assert in_pieces(ranges) == [
        (PAGE, 2 * PAGE),
        (4 * PAGE, 4 * PAGE + PIECE),
        (4 * PAGE + PIECE, 4 * PAGE + 2 * PIECE),
        (4 * PAGE + 2 * PIECE, 4 * PAGE + 2 * PIECE + PAGE),
    ]


async def test_a_process_that_stops_does_not_wait_for_what_is_not_moved(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "service")
    async with asyncio.timeout(large_pages.DELAY_S):
        async with moving_memory(Supervisor(Metrics(CollectorRegistry()))):
            await asyncio.sleep(0)
    assert caplog.records == []


async def test_a_failure_is_logged_and_counted_and_ends_no_service(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails() -> None:
        raise PermissionError("/proc/self/maps")

    monkeypatch.setattr(large_pages, "use_large_pages_gently", fails)
    metrics = Metrics(CollectorRegistry())
    async with moving_memory(Supervisor(metrics)):
        await asyncio.sleep(0)
    assert [record.message for record in caplog.records] == ["large_pages failed"]
    assert metrics.registry.get_sample_value("dmvfn_background_failures_total", {"task": "large_pages"}) == 1


@pytest.mark.parametrize("policy", ["always madvise [never]\n", None])
def test_an_operator_may_keep_small_pages(policy: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "enabled"
    if policy is not None:
        file.write_text(policy)
    monkeypatch.setattr(large_pages, "_POLICY", file)
    moved = list[tuple[int, int]]()
    monkeypatch.setattr(large_pages, "_move", lambda start, end: moved.append((start, end)))
    large_pages.use_large_pages()
    assert moved == []
