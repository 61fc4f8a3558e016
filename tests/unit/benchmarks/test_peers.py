"""The comparison with other servers in small: its parts, ours as a contender, and whichever peers are installed."""

from __future__ import annotations

import argparse
import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import benchmarks.peers.__main__ as peers
from benchmarks import bare, clips, machine
from benchmarks.load import Shot
from benchmarks.peers import publish, results, shared_packages, tables, triton_messages
from benchmarks.peers.contenders import CONTENDERS, OURS, Contender
from benchmarks.peers.handler import Handler, Tuned, pack, unpack
from benchmarks.peers.intervals import Estimate
from tests.system.e2e.process import tiny_weights


def row_of(server: str, share: float, p99: float | None = 0.2) -> results.Row:
    """A row with plain figures; `p99`: the upper bound of its p99, None where too few came."""
    on_time, p50 = Estimate(0.9, 0.8, 0.95), Estimate(0.1, 0.09, 0.11)
    outcomes = ("11",) * 5 if server == OURS else ("11", "10", "11", "01", "11")
    return results.Row(server, share, 10, 2.0, 1.8, 0.1, on_time, p50, Estimate(0.15, 0.12, p99), outcomes)


def comparison_of(*rows: results.Row) -> results.Comparison:
    """One of a made-up machine."""
    return results.Comparison("a machine", ("32x48",), 60.0, 4, (0.05,), rows)


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
    row = results.summarise("ours", 0.8, 4.0, shots, (0.2, 0.2), seconds=1.0)
    assert row.p50 is not None
    assert row.p99 is not None
    assert (row.requests, row.answered, row.on_time.value, row.errors) == (4, 2.0, 0.25, 0.5)
    assert (row.p50.value, row.p99.value) == pytest.approx((0.2, 0.298))


def test_a_row_without_a_right_answer_has_no_latency() -> None:
    row = results.summarise("ours", 2.0, 4.0, [Shot(0, 0.0, 2.0, 0, False)], (0.2,), seconds=1.0)
    assert (row.answered, row.on_time.value, row.errors, row.p50, row.p99) == (0.0, 0.0, 1.0, None, None)
    assert tables.line(row).endswith("| - | - |")


def test_every_line_of_a_table_has_its_columns() -> None:
    comparison = comparison_of(row_of("ours", 0.2), row_of("mosec", 0.2, p99=None))
    for text, lengths in ((tables.every_figure(comparison), [4]), (tables.shares_on_time(comparison), [4, 3])):
        parts = [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]
        assert [len(lines) for lines in parts] == lengths
        for lines in parts:
            assert len({line.count("|") for line in lines}) == 1


def test_ours_is_ahead_by_what_it_answered_of_the_same_requests() -> None:
    """Two of ten more, one each in two parts."""
    text = tables.shares_on_time(comparison_of(row_of("ours", 0.2), row_of("mosec", 0.2), row_of("ray", 2.0)))
    assert "| mosec | 20 (" in text
    assert text.count("| ray |") == 1  # only its own share: ours was not under this load


def test_outcomes_stand_in_the_order_of_their_arrivals() -> None:
    shots = [Shot(0, 0.9, 0.1, 200, True), Shot(0, 0.1, 0.1, 200, True), Shot(0, 0.15, 0.5, 200, True)]
    assert results.summarise("ours", 0.2, 1.0, shots, (0.2,), seconds=1.0).outcomes == ("10", "", "", "", "1")


def test_other_arrivals_are_not_compared() -> None:
    other = dataclasses.replace(row_of("mosec", 0.2), outcomes=("1",) * 5)
    with pytest.raises(ValueError, match="shorter"):
        results.ahead(row_of("ours", 0.2), other)


def test_a_figure_is_written_with_the_bounds_it_has() -> None:
    written = [
        tables.bounded(estimate, 1e3)
        for estimate in (
            Estimate(0.1, 0.09, 0.12),
            Estimate(0.1, 0.09, None),
            Estimate(0.1, None, None),
            None,
        )
    ]
    assert written == ["100 (90 to 120)", "100 (from 90)", "100", "-"]


def test_kept_rows_come_back_whole(tmp_path: Path) -> None:
    comparison = comparison_of(row_of("ours", 0.2), row_of("mosec", 2.0, p99=None))
    results.write(tmp_path / "one.json", comparison)
    assert results.read(tmp_path / "one.json") == comparison


def test_servers_take_turns_under_each_load() -> None:
    comparison = comparison_of(row_of("ours", 0.2))
    asked = (comparison, ["ours", "mosec"], (0.2, 2.0))
    by_load = [("mosec", (0.2,)), ("ours", (2.0,)), ("mosec", (2.0,))]
    assert peers.turns(*asked, by_server=False) == by_load
    assert peers.turns(*asked, by_server=True) == [("ours", (2.0,)), ("mosec", (0.2, 2.0))]


def asked_for(*words: str) -> argparse.Namespace:
    return peers.parser().parse_args([*words])


def test_a_piece_goes_on_with_what_the_file_holds(tmp_path: Path) -> None:
    kept = tmp_path / "one.json"
    comparison = dataclasses.replace(comparison_of(row_of("ours", 0.2)), machine=machine.describe(busy=False))
    results.write(kept, comparison)
    weights = str(tiny_weights(tmp_path))
    asked = ("--sizes", "32x48", "--seconds", "60", "--save", str(kept), "--weights", weights)
    begun, case = peers.begin(asked_for(*asked))
    assert (begun, case.alone) == (comparison, comparison.alone)
    with pytest.raises(SystemExit, match="--anew"):
        peers.begin(asked_for(*asked, "--batch", "8"))


def test_a_server_that_never_answers_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def compare(case: object, contender: Contender, *terms: object) -> Iterator[results.Row]:
        if contender.name == "mosec":
            raise RuntimeError("no right answer")
        yield row_of(contender.name, 0.2)

    monkeypatch.setattr(peers, "compare", compare)
    monkeypatch.setattr(Contender, "python", tmp_path)
    arguments = asked_for("--servers", "mosec", "ray", "--loads", "0.2", "--save", str(tmp_path / "one.json"))
    peers.carry_out(comparison_of(), peers.Case((), (), (), ()), arguments)
    assert [row.server for row in results.read(tmp_path / "one.json").rows] == ["ray"]
    assert "mosec is left out: no right answer" in capsys.readouterr().out


def test_a_comparison_that_is_ended_leaves_by_its_own_exits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server that runs would stay, on the core that the next comparison measures."""
    ended: list[str] = []

    def carry_out(*_: object) -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            ended.append("server")

    monkeypatch.setattr(peers, "begin", lambda arguments: (comparison_of(), None))
    monkeypatch.setattr(peers, "carry_out", carry_out)
    monkeypatch.setattr(sys, "argv", ["peers"])
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as exit_:
            peers.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (exit_.value.code, ended) == (143, ["server"])


def test_the_pages_show_the_figures_that_are_kept_beside_them(tmp_path: Path) -> None:
    for page in publish.PAGES:
        (tmp_path / page).write_text("before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n")
    comparison = comparison_of(row_of("ours", 0.2), row_of("mosec", 0.2, p99=None))
    publish.publish(tmp_path, [comparison])
    assert publish.published(tmp_path) == [comparison]
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "benchmarks-history.md").read_text()
    assert page.startswith("before\n<!-- peers -->\n32x48 takes 50.0 ms alone")
    assert tables.line(comparison.rows[1]) in page
    assert page.endswith("\n<!-- /peers -->\nafter\n")


@pytest.mark.parametrize("name", publish.PAGES)
def test_docs_show_what_was_published(name: str) -> None:
    """A table that was typed by hand, or a marker that was lost, would show here."""
    comparisons = publish.published(peers.DOCS)
    page = peers.DOCS / name
    text = publish.marked(page, comparisons)
    assert not comparisons or text == page.read_text()


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("none")
    with pytest.raises(ValueError, match="markers"):
        publish.marked(page, [])


def test_triton_is_asked_and_answers_in_binary_tensors() -> None:
    pair = clips.pair(32, 48)
    headers, body = triton_messages.request(pair)
    length = int(headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(body[:length])["inputs"]
    assert (tensor["shape"], tensor["parameters"]["binary_data_size"]) == ([1, 2, 32, 48, 3], pair.nbytes)
    assert body[length:] == pair.tobytes()
    document, _, frame = triton_messages.answer(pair[0]).partition(b"}]}")
    assert json.loads(document + b"}]}")["outputs"][0]["shape"] == [1, 32, 48, 3]
    assert frame == pair[0].tobytes()


def test_packages_are_linked_with_all_that_they_need(tmp_path: Path) -> None:
    """numba needs llvmlite and numpy; what was linked before and is needed no more goes."""
    (tmp_path / "old").symlink_to(tmp_path / "nowhere")
    distributions = shared_packages.with_dependencies(["numba"])
    assert {"numba", "llvmlite", "numpy"} <= set(distributions)
    shared_packages.link(tmp_path, distributions.values())
    assert not (tmp_path / "old").is_symlink()
    assert (tmp_path / "llvmlite" / "__init__.py").exists()
    assert list(tmp_path.glob("numpy-*.dist-info"))


@pytest.mark.parametrize(
    "contender",
    # The others take up to a minute to start on a busy machine.
    [pytest.param(c, id=c.name, marks=() if c.name == OURS else pytest.mark.slow) for c in CONTENDERS],
)
def test_a_contender_answers_two_sizes(contender: Contender, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not contender.python.exists():
        pytest.skip("not installed: scripts/bench-peers")
    for name in ("RUSH", "SETTLE"):
        monkeypatch.setattr(peers, name, 0.2)
    weights = tiny_weights(tmp_path)
    # Deadlines far beyond what a loaded machine needs: here only the answers count.
    patient = peers.prepare(weights, ("64x96", "32x48"), (5.0, 5.0))
    (row,) = peers.compare(patient, contender, weights, (20.0,), seconds=1.0, batch=2)
    assert (row.server, row.errors, row.on_time.value) == (contender.name, 0.0, 1.0)
