"""One pair by every edge: the same picture, route and seed, and the deadline kept the same way."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from model.mixing import predictor as mixing
from model.mixing import reduced, weights
from service.core.interfaces import Readiness
from service.core.types import Frame
from service.imaging import codec
from service.imaging.codec import ImageFormat
from tests.unit.engine import tiny
from tests.unit.serving.edges import EDGES, VERSION, Edges, Reply, running

#: Edges whose caller waits no longer than a deadline; a job and the command line have none.
WAITING = EDGES[:6]
#: What the edges call a picture that is none.
UNREADABLE = ("unsupported_media", "invalid_argument")


@pytest.fixture
async def edges(tmp_path: Path) -> AsyncIterator[Edges]:
    async with running(tmp_path) as service:
        yield service


async def test_every_edge_gives_the_same_picture_route_and_seed(edges: Edges) -> None:
    replies = {edge: await edges.ask(edge) for edge in EDGES}
    first = replies["rest"]
    assert replies == dict.fromkeys(EDGES, first)
    assert first == Reply(first.picture, first.route, 7, VERSION)
    assert first.picture.startswith(b"\x89PNG")


async def test_every_edge_predicts_by_flow(edges: Edges) -> None:
    edges.method = "flow"
    previous, current = tiny.frames(3, 32, 48)
    mixed = mixing.mix(previous.pixels, current.pixels, None, *weights.load())
    picture = codec.encode(Frame(mixing.rounded(mixed.frame)), ImageFormat.PNG)
    for edge in EDGES:
        reply = await edges.ask(edge)
        assert reply == Reply(picture, "000000000", None, VERSION), edge
        assert reply.method == (None if edge.startswith("oip") else "flow"), edge


async def test_every_edge_is_fast_by_the_live_head(edges: Edges) -> None:
    edges.quality = "fast"
    previous, current = tiny.frames(3, 32, 48)
    mixed = mixing.mix(previous.pixels, current.pixels, None, *weights.load(weights.LIVE))
    picture = codec.encode(Frame(mixing.rounded(mixed.frame)), ImageFormat.PNG)
    for edge in EDGES[:-1]:
        assert await edges.ask(edge) == Reply(picture, "000000000", None, VERSION), edge
    assert (await edges.ask("cli")).picture == picture


async def test_every_edge_is_faster_still_at_half_the_size(edges: Edges) -> None:
    edges.quality, edges.scale = "fast", 0.5
    previous, current = tiny.frames(3, 32, 48)
    pixels = reduced.mix(previous.pixels, current.pixels, *weights.load(weights.LIVE), 0.5).pixels
    picture = codec.encode(Frame(pixels), ImageFormat.PNG)
    for edge in EDGES[:-1]:
        assert await edges.ask(edge) == Reply(picture, "000000000", None, VERSION), edge
    assert (await edges.ask("cli")).picture == picture


async def test_every_edge_carries_the_motion_to_the_same_moment(edges: Edges) -> None:
    first = await edges.ask("rest")
    edges.t = 2.7
    replies = {edge: await edges.ask(edge) for edge in EDGES}
    assert replies == dict.fromkeys(EDGES, replies["rest"])
    assert (replies["rest"].route, replies["rest"].seed) == (first.route, first.seed)
    assert replies["rest"].picture != first.picture
    edges.t = 1.0
    assert await edges.ask("rest") == first, "the next frame is the moment 1"


async def test_every_edge_refuses_a_moment_that_is_none(edges: Edges) -> None:
    for edges.t in (0.0, -1.0, 16.5, float("nan"), float("inf")):
        for edge in EDGES[:-1]:
            assert (await edges.ask(edge)).error in ("invalid_request", "invalid_argument"), (edge, edges.t)
        assert "t must be" in (await edges.ask("cli")).error
    assert edges.engine.requests == []


@pytest.mark.parametrize(("method", "words"), [("mix", "is not served here"), ("magic", "must be dmvfn or flow")])
async def test_every_edge_refuses_a_method_that_is_none_here(edges: Edges, method: str, words: str) -> None:
    edges.method = method
    for edge in EDGES[:-1]:
        assert (await edges.ask(edge)).error in ("invalid_request", "invalid_argument"), edge
    with contextlib.suppress(SystemExit):  # argparse's own refusal
        assert words in (await edges.ask("cli")).error


async def test_every_edge_reports_the_seed_it_drew(edges: Edges) -> None:
    for edge in EDGES:
        reply = await edges.ask(edge, seed=None)
        assert reply.seed is not None, edge
        assert await edges.ask("rest", seed=reply.seed) == reply


async def test_a_deadline_that_has_passed_reaches_no_engine(edges: Edges) -> None:
    edges.clock.leap = 2 * edges.state.settings.default_deadline_ms / 1000
    for count, edge in enumerate(WAITING, 1):
        assert await edges.ask(edge) == Reply(error="deadline_exceeded"), edge
        assert edges.late("admit") == count, edge
    assert edges.engine.requests == []


async def test_an_answer_is_late_that_took_too_long_to_write(edges: Edges) -> None:
    edges.engine.answered = lambda: edges.clock.skip(2 * edges.state.settings.default_deadline_ms / 1000)
    for count, edge in enumerate(WAITING, 1):
        assert await edges.ask(edge) == Reply(error="deadline_exceeded"), edge
        assert edges.late("late") == count, edge
    assert len(edges.engine.requests) == len(WAITING)
    for edge in ("job", "cli"):
        assert (await edges.ask(edge)).picture, "whoever has no deadline is answered"


@pytest.mark.parametrize("edge", ["rest", "rpc", "oip_rest", "oip_rpc"])
async def test_a_service_that_takes_no_work_decodes_nothing(edges: Edges, edge: str) -> None:
    edges.previous = b"no picture"
    assert (await edges.ask(edge)).error in UNREADABLE
    edges.engine.not_ready = Readiness(False, "device_lost")
    assert (await edges.ask(edge)).error == "unavailable"
    edges.engine.not_ready = Readiness(False, "draining")
    assert (await edges.ask(edge)).error in UNREADABLE, "a while longer work is taken"
