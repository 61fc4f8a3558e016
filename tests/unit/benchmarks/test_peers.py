"""The comparison with other servers in small: its parts, ours as a contender, and whichever peers are installed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import benchmarks.peers.__main__ as peers
from benchmarks import bare, clips
from benchmarks.load import Shot
from benchmarks.peers import plot
from benchmarks.peers.contenders import CONTENDERS, OURS, Contender
from benchmarks.peers.handler import Handler, Tuned, pack, unpack
from tests.system.e2e.process import tiny_weights


def test_a_body_holds_the_pair() -> None:
    pair = clips.pair(32, 48)
    assert np.array_equal(unpack(pack(pair)), pair)


def test_the_handler_answers_each_size_in_order(tmp_path: Path) -> None:
    weights = tiny_weights(tmp_path)
    pairs = [clips.pair(32, 48, 0), clips.pair(64, 32, 1), clips.pair(32, 48, 2)]
    answers = Handler(Tuned(str(weights), batch=4, deadline=1.0, port=0))([pack(pair) for pair in pairs])
    executor = bare.Executor(weights)
    assert answers == [executor([pair])[0].tobytes() for pair in pairs]


def test_a_tuned_peer_reads_what_it_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = Tuned("some.safetensors", batch=4, deadline=0.25, port=1234)
    for name, value in tuned.environment().items():
        monkeypatch.setenv(name, value)
    assert Tuned.from_env() == tuned


def test_ours_is_asked_for_the_network_which_is_what_the_others_run() -> None:
    """Where no method is named the weights' own answers, on a processor flow."""
    (ours,) = (contender for contender in CONTENDERS if contender.name == OURS)
    request_line = ours.request(clips.pair(32, 48), 1.0).split(b"\r\n")[0]
    assert b"method=dmvfn" in request_line


def test_a_row_counts_late_and_wrong_answers() -> None:
    shots = [
        Shot(0, 0.0, 0.1, 200, True),
        Shot(1, 0.5, 0.3, 200, True),  # late by its own deadline
        Shot(0, 0.6, 0.1, 200, False),
        Shot(0, 0.7, 2.0, 0, False),
    ]
    row = peers.summarise("ours", 0.8, 4.0, shots, (0.2, 0.2), seconds=1.0)
    assert (row.answered, row.on_time, row.errors) == (2.0, 0.25, 0.5)
    assert (row.p50, row.p99) == pytest.approx((0.2, 0.298))
    assert peers.line(row).count("|") == peers.HEAD.splitlines()[0].count("|")


@pytest.mark.parametrize(
    "contender",
    # The others take up to a minute to start on a busy machine.
    [pytest.param(c, id=c.name, marks=() if c.name == OURS else pytest.mark.slow) for c in CONTENDERS],
)
def test_a_contender_answers_two_sizes(contender: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not contender.python.exists():
        pytest.skip("not installed: scripts/bench-peers")
    for name in ("ALONE", "RUSH", "SETTLE"):
        monkeypatch.setattr(peers, name, 0.2)
    weights = tiny_weights(tmp_path)
    case = peers.prepare(weights, ("64x96", "32x48"), None)
    # Deadlines far beyond what a loaded machine needs: here only the answers count.
    patient = peers.Case(case.sizes, case.pairs, case.frames, (5.0, 5.0))
    (row,) = peers.compare(patient, contender, weights, (20.0,), seconds=1.0, batch=2)
    assert (row.server, row.errors, row.on_time) == (contender.name, 0.0, 1.0)


def test_kept_rows_are_drawn(tmp_path: Path) -> None:
    row = {"server": "ours", "load": 0.2, "on_time": 1.0, "p50": 0.05, "p99": 0.1}
    kept = json.loads(json.dumps({"sizes": ["256x448"], "rows": [row, {**row, "server": "mosec"}]}))
    plot.draw(tmp_path / "peers.png", [kept])
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
