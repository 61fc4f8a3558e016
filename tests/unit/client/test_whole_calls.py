"""What a call is as a whole: its time, its pixels, many at once, clips, and answers that break off."""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from dmvfn_client import (
    NEVER,
    AsyncClient,
    Client,
    ConnectionFailed,
    DeadlineExceeded,
    InvalidInput,
)

from service.cli.video import main as video_command
from service.settings import Settings
from tests.system.e2e.process import tiny_weights
from tests.unit.client.scripted import Reply, scripted
from tests.unit.client.serving import Serving
from tests.unit.serving.video.clips import moving, y4m

SMALL = np.random.default_rng(5).integers(0, 256, (5, 32, 48, 3), dtype=np.uint8)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


@contextlib.contextmanager
def raw_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """One that reads a request's beginning on each connection and then does what a healthy server would not."""

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):
                    connection.recv(2**20)
                    answer(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)


#: Seconds that a server goes on unless its client leaves; a call that lasts until then has no timeout.
ENDLESS = 120.0


def trickle(connection: socket.socket) -> None:
    """A byte every 50 ms until the client leaves: each single read is in time."""
    connection.sendall(HEAD + b"Content-Length: 100000\r\n\r\n")
    for _ in range(round(ENDLESS / 0.05)):
        connection.sendall(b" ")
        time.sleep(0.05)


def trickle_head(connection: socket.socket) -> None:
    """A line of the head every 50 ms until the client leaves."""
    connection.sendall(HEAD)
    for number in range(round(ENDLESS / 0.05)):
        connection.sendall(b"X-%d: 1\r\n" % number)
        time.sleep(0.05)


def sip(connection: socket.socket) -> None:
    """Take a little of the request every 50 ms until the client leaves, and answer nothing."""
    for _ in range(round(ENDLESS / 0.05)):
        if not connection.recv(2**12):
            return
        time.sleep(0.05)


def stall(connection: socket.socket) -> None:
    """Some of the answer, and then nothing until the client leaves."""
    connection.sendall(HEAD + b"\r\n{")
    connection.settimeout(ENDLESS)
    while connection.recv(2**20):
        pass


def break_off(connection: socket.socket) -> None:
    """Half of what was announced."""
    connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\n" + bytes(500))


@pytest.mark.parametrize("answer", [trickle, trickle_head, stall])
def test_the_timeout_is_for_the_whole_call(answer: Callable[[socket.socket], None]) -> None:
    """It was for each read: one of a second returned after five and a half."""
    with raw_server(answer) as url, Client(url, timeout=0.4) as dmvfn:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"within 0\.4 s"):
            dmvfn.model()
        assert time.monotonic() - began < ENDLESS / 2


def test_the_timeout_is_for_what_is_sent_too(tmp_path: Path) -> None:
    """A server that takes a little now and then kept each single write in time."""
    with raw_server(sip) as url, Client(url, retry=NEVER) as dmvfn, pytest.raises(DeadlineExceeded):
        dmvfn.predict_video(bytes(2**25), tmp_path / "out.mp4", every=2, timeout=0.4)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", [trickle, trickle_head, stall])
async def test_the_async_clients_timeout_is_too(answer: Callable[[socket.socket], None]) -> None:
    with raw_server(answer) as url:
        async with AsyncClient(url) as dmvfn:
            began = time.monotonic()
            with pytest.raises(DeadlineExceeded):
                await dmvfn.model(timeout=0.4)
            assert time.monotonic() - began < ENDLESS / 2


def test_every_call_takes_a_timeout_of_its_own() -> None:
    with raw_server(stall) as url, Client(url) as dmvfn:
        for call in (dmvfn.job, dmvfn.cancel):
            with pytest.raises(DeadlineExceeded):
                call("an-id", timeout=0.1)
        with pytest.raises(DeadlineExceeded):
            dmvfn.submit(list(SMALL[:2]), timeout=0.1)


def test_an_answer_that_breaks_off_is_an_error(tmp_path: Path) -> None:
    with raw_server(break_off) as url, Client(url, retry=NEVER) as dmvfn:
        with pytest.raises(ConnectionFailed):
            dmvfn.model()
        output = tmp_path / "out.mp4"
        with pytest.raises(ConnectionFailed):
            dmvfn.predict_video(b"clip", output, every=2)
        assert list(tmp_path.iterdir()) == []


async def test_the_async_client_leaves_no_half_file_either(tmp_path: Path) -> None:
    with raw_server(break_off) as url:
        async with AsyncClient(url, retry=NEVER) as dmvfn:
            with pytest.raises(ConnectionFailed):
                await dmvfn.predict_video(b"clip", tmp_path / "out.mp4", every=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://localhost", "//localhost"])
def test_a_url_that_cannot_be_called_is_told_at_once(url: str) -> None:
    """It was tried four times and then asked whether the service runs."""
    with Client(url) as dmvfn, pytest.raises(InvalidInput, match="cannot be called") as refused:
        dmvfn.model()
    assert refused.value.field == "url"


def test_pixels_go_raw_and_come_back_raw_as_the_same_frame(running: Serving) -> None:
    tensors = [torch.from_numpy(frame.copy()).permute(2, 0, 1) for frame in SMALL[:2]]
    with Client(running.url) as dmvfn:
        exact = dmvfn.predict(SMALL[0], SMALL[1], route="110000000", encoding="png")
        for pair in (SMALL[:2], tensors):
            answer = dmvfn.predict(pair[0], pair[1], route="110000000")
            assert np.array_equal(answer.pixels, exact.pixels)
            assert (answer.route, answer.flops, answer.model) == (exact.route, exact.flops, exact.model)
            assert {"decode", "queue", "route", "blocks", "encode"} <= set(answer.timings_ms)
            assert answer.request_id
        drawn = dmvfn.predict(SMALL[0], SMALL[1], route="sample", seed=3)
        assert drawn.seed == 3
        answer.pixels[0, 0] = 0  # its caller's own
    with scripted(Reply(200)) as server, Client(server.url) as dmvfn, contextlib.suppress(Exception):
        dmvfn.predict(SMALL[0], SMALL[1])
    [asked] = server.asked
    assert (asked["content-type"], asked["x-frame-shape"]) == ("application/octet-stream", "2,32,48,3")
    assert (asked["accept"], asked["content-length"]) == ("application/octet-stream", str(2 * 32 * 48 * 3))


async def test_many_pairs_come_back_in_their_order(running: Serving) -> None:
    pairs = [(SMALL[k], SMALL[k + 1]) for k in range(4)]
    with Client(running.url) as dmvfn:
        alone = [dmvfn.predict(*pair).pixels for pair in pairs]
        together = dmvfn.predict_many(pairs, at_once=3)
        with pytest.raises(InvalidInput):
            dmvfn.predict_many([*pairs, (b"no", b"pictures")], at_once=2)
        assert dmvfn.predict_many([]) == []
    async with AsyncClient(running.url) as dmvfn_:
        also = await dmvfn_.predict_many(pairs, at_once=3)
        with pytest.raises(InvalidInput):
            await dmvfn_.predict_many([*pairs, (b"no", b"pictures")], at_once=2)
    for answers in (together, also):
        assert all(np.array_equal(answer.pixels, one) for answer, one in zip(answers, alone, strict=True))


def test_a_clip_goes_in_and_a_clip_comes_out(running: Serving, tmp_path: Path) -> None:
    clip, output, memory = tmp_path / "in.y4m", tmp_path / "out.y4m", io.BytesIO()
    clip.write_bytes(y4m(moving(6)))
    with Client(running.url) as dmvfn:
        dmvfn.predict_video(clip, output, every=2, container="y4m")
        dmvfn.predict_video(clip.read_bytes(), memory, lost=[1, 3, 5], container="y4m")
        with pytest.raises(InvalidInput, match="say one of"):
            dmvfn.predict_video(clip, output)
        with pytest.raises(InvalidInput) as refused:
            dmvfn.predict_video(b"no clip", tmp_path / "none.mp4", ahead=1)
    assert output.read_bytes().startswith(b"YUV4MPEG2")
    assert len(output.read_bytes()) == len(memory.getvalue())
    assert refused.value.code in ("invalid_frame", "unsupported_media")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.y4m", "out.y4m"]


def test_a_clip_at_another_rate_is_the_same_by_command_line_and_http(running: Serving, tmp_path: Path) -> None:
    """To the byte; a frame that repeats the one before is found by both."""
    frames = moving(7)
    clip, local = tmp_path / "in.y4m", tmp_path / "local.y4m"
    clip.write_bytes(y4m([*frames[:4], frames[3], *frames[5:]]))
    settings = Settings(weights=tiny_weights(tmp_path), threads=1)
    assert video_command([str(clip), "-o", str(local), "--fps", "24000/1001", "--conceal", "-q"], settings) == 0
    remote, floated = io.BytesIO(), io.BytesIO()
    with Client(running.url) as dmvfn:
        dmvfn.predict_video(clip, remote, fps=Fraction(24000, 1001), conceal=True, container="y4m")
        dmvfn.predict_video(clip, floated, fps=12.5, container="y4m")
        with pytest.raises(InvalidInput, match="say one of"):
            dmvfn.predict_video(clip, floated, fps=60, ahead=1)
    assert remote.getvalue() == local.read_bytes()
    assert remote.getvalue().startswith(b"YUV4MPEG2 W48 H32 F24000:1001")
    assert floated.getvalue().startswith(b"YUV4MPEG2 W48 H32 F25:2")


async def test_the_async_client_converts_clips_too(running: Serving, tmp_path: Path) -> None:
    clip, output = tmp_path / "in.y4m", tmp_path / "out.mkv"
    clip.write_bytes(y4m(moving(6)))
    async with AsyncClient(running.url) as dmvfn:
        await dmvfn.predict_video(clip, output, ahead=1, container="mkv", timeout=60)
    assert output.read_bytes().startswith(b"\x1aE\xdf\xa3")


async def test_a_jobs_options_are_named_and_its_maps_come_with_its_frames(running: Serving) -> None:
    with Client(running.url) as dmvfn:
        job = await asyncio.to_thread(dmvfn.submit, list(SMALL[:3]), blocks=1, maps=True)
        answer = await asyncio.to_thread(dmvfn.result, job, 60, maps=True)
        with pytest.raises(InvalidInput, match="webhook"):
            dmvfn.submit(list(SMALL[:2]), webhook="https://hooks.example/x")
        with pytest.raises(TypeError, match="stepz"):
            dmvfn.submit(list(SMALL[:2]), stepz=2)  # type: ignore[call-arg]
    assert [frame.route.count("1") for frame in answer.frames] == [1, 1]
    flow = answer.frames[0].flow
    assert flow is not None
    assert flow.shape == (32, 48, 4)
