"""The service as a process: what a user's first minutes, a load balancer and a supervisor see."""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest
from PIL import Image

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from service.rpc.errors import DETAILS_KEY
from tests.measured import UpperBounds
from tests.system.e2e.forks import ForkedService
from tests.system.e2e.process import ROOT, SAMPLES, Service, environment, service, until_memory_is_moved


@pytest.fixture(scope="module")
def running() -> Iterator[Service]:
    with service() as found:
        yield found


def _png(height: int, width: int, seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _files(height: int, width: int, seed: int) -> dict[str, bytes]:
    return {"previous": _png(height, width, seed), "current": _png(height, width, seed + 1)}


def test_the_readmes_curl_answers_the_next_frame(running: Service, tmp_path: Path) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not installed")
    command = re.search(r"^(curl -sS -F previous=.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert command is not None, "the README lost its example"
    words = command[1].replace("localhost:8000", running.http).replace("next.png", str(tmp_path / "next.png")).split()
    subprocess.run([curl, *words[1:]], cwd=ROOT, check=True, timeout=60)
    with Image.open(tmp_path / "next.png") as image, Image.open(SAMPLES / "frame01.png") as current:
        assert image.format == "PNG"
        assert image.size == current.size


async def test_two_hundred_requests_of_mixed_sizes_at_once_are_all_answered(running: Service) -> None:
    sizes = [(32, 48), (64, 64), (40, 100), (96, 128)]
    async with httpx.AsyncClient(base_url=running.http, timeout=600, limits=httpx.Limits(max_connections=200)) as http:
        bodies = [_files(*size, seed) for seed, size in enumerate(sizes)]
        answers = await asyncio.gather(
            *(http.post("/v1/predict?deadline_ms=600000", files=bodies[i % len(sizes)]) for i in range(200))
        )
    assert [answer.status_code for answer in answers] == [200] * 200
    contents = [{answer.content for answer in answers[i :: len(sizes)]} for i in range(len(sizes))]
    assert [len(same) for same in contents] == [1] * len(sizes), "the same request got different frames"


def test_a_lone_adaptive_request_of_three_milliseconds_is_answered(running: Service) -> None:
    """A busy machine may not let the service run for that long: one such answer shows the way to it."""
    headers = {"Content-Type": "application/octet-stream", "X-Frame-Shape": "2,256,448,3"}
    headers["Accept"] = "application/octet-stream"
    frames, status, deadline = bytes(2 * 256 * 448 * 3), 504, time.monotonic() + 60
    with httpx.Client(base_url=running.http, timeout=60) as http:
        while status == 504 and time.monotonic() < deadline:
            answer = http.post("/v1/predict?quality=adaptive&deadline_ms=3", content=frames, headers=headers)
            status = answer.status_code
    assert status == 200, answer.text
    if "x-dmvfn-shortened" in answer.headers:  # else the device was quick enough
        assert answer.headers["x-dmvfn-shares"] == "repeated=1.000", "nothing moves"


def test_every_line_of_the_log_is_json_and_the_request_can_be_found_by_its_id(running: Service) -> None:
    answer = httpx.post(f"{running.http}/v1/predict", files=_files(32, 48, 5), headers={"X-Request-Id": "find-me-7"})
    assert answer.headers["x-request-id"] == "find-me-7"
    # The line is written when the last byte has left, so the client may be here first.
    end = time.monotonic() + 60
    while "find-me-7" not in running.output() and time.monotonic() < end:
        time.sleep(0.01)
    lines = [json.loads(line) for line in running.output().splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines if line.get("request_id") == "find-me-7"] == [200]


async def test_sigterm_under_load_fails_no_accepted_request_and_exits_0() -> None:
    """Readiness falls first; whatever was accepted is answered; only what came later is refused or not connected."""
    with service(forked=True, DRAIN_DELAY_S="2") as running:
        codes: list[int] = []
        stopped = asyncio.Event()

        async def caller(seed: int) -> None:
            files = _files(64, 96, seed)
            async with httpx.AsyncClient(base_url=running.http, timeout=60) as http:
                while not stopped.is_set():
                    try:
                        answer = await http.post("/v1/predict?steps=2&deadline_ms=60000", files=files)
                    except httpx.ConnectError:
                        return
                    codes.append(answer.status_code)
                    if answer.status_code == 503:
                        assert "retry-after" in answer.headers
                        return

        callers = [asyncio.create_task(caller(seed)) for seed in range(8)]
        while len(codes) < 20:
            await asyncio.sleep(0.01)
        running.terminate()
        async with httpx.AsyncClient(base_url=running.http, timeout=60) as http:
            while (ready := await http.get("/healthz/ready")).status_code == 200:
                await asyncio.sleep(0.01)
            assert ready.json()["reason"] == "draining"
            assert (await http.get("/healthz/live")).status_code == 200
        status = await asyncio.to_thread(running.exit_status)
        stopped.set()
        await asyncio.gather(*callers)
        print(f"drain: {codes.count(200)} answered, {codes.count(503)} refused, exit status {status}")
        assert status == 0
        assert set(codes) <= {200, 503}
        assert codes.count(200) >= 20


async def test_sigterm_under_load_cuts_no_grpc_call() -> None:
    """A call is answered, or refused with when to come back, or never connected; none is cut off."""
    frame = pb.Frame(raw=pb.RawPicture(pixels=bytes(64 * 96 * 3), height=64, width=96))
    asked = pb.PredictRequest(previous=frame, current=frame)
    with service(forked=True, DRAIN_DELAY_S="1") as running:
        answered, refused, cut = 0, 0, list[str]()

        async def caller() -> None:
            nonlocal answered, refused
            async with grpc.aio.insecure_channel(running.grpc) as channel:
                stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
                while True:
                    try:
                        await stub.Predict(asked, timeout=60)
                        answered += 1
                    except grpc.aio.AioRpcError as error:
                        told = {key for key, _ in error.trailing_metadata() or ()}
                        gone = "connect" in (error.details() or "").lower()
                        refused += DETAILS_KEY in told
                        if error.code() is not grpc.StatusCode.UNAVAILABLE or not (DETAILS_KEY in told or gone):
                            cut.append(str(error))
                        return

        callers = [asyncio.create_task(caller()) for _ in range(6)]
        while answered < 20:
            await asyncio.sleep(0.01)
        running.terminate()
        status = await asyncio.to_thread(running.exit_status)
        await asyncio.gather(*callers)
    print(f"gRPC drain: {answered} answered, {refused} refused, {len(cut)} cut, exit status {status}")
    assert (status, cut) == (0, [])


def test_a_second_sigterm_leaves_at_once_with_status_1() -> None:
    """The drain of the first would last a minute."""
    with service(forked=True, DRAIN_DELAY_S="60") as running:
        running.terminate()
        end = time.monotonic() + 60
        while httpx.get(f"{running.http}/healthz/ready").status_code == 200 and time.monotonic() < end:
            time.sleep(0.01)
        assert running.process.poll() is None, "the first signal ended it"
        running.terminate()
        assert running.exit_status(20) == 1
        assert "second SIGTERM" in running.output()


def test_a_bad_setting_stops_the_start_with_status_2(tmp_path: Path) -> None:
    env = environment(tmp_path, MAX_BATCH="none")
    done = subprocess.run(
        [sys.executable, "-m", "service", "serve"], cwd=ROOT, env=env, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert b"DMVFN_MAX_BATCH='none'" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_port_that_is_taken_ends_the_start_with_one_line() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        service(HTTP_PORT=str(taken.getsockname()[1]), wait=False, forked=True) as s,
    ):
        assert s.exit_status() == 1
        assert "DMVFN_HTTP_PORT" in s.output()
        assert "Traceback" not in s.output()


def test_weights_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not weights")
    with service(WEIGHTS=str(broken), wait=False, forked=True) as running:
        assert running.exit_status() == 1
        assert "broken.safetensors" in running.output()
        assert "Traceback" not in running.output()


def test_predict_without_a_server_writes_one_file_a_step(tmp_path: Path) -> None:
    env = environment(tmp_path)
    command = [sys.executable, "-m", "service", "predict", str(SAMPLES / "frame00.png"), str(SAMPLES / "frame01.png")]
    command += ["-o", str(tmp_path / "out.webp"), "--steps", "2", "--route", "full"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, timeout=120, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.webp")) == ["out-1.webp", "out-2.webp"]
    assert done.stdout.count("route 111111111") == 2
    log = tmp_path / "log"
    again = ForkedService(command[3:], env, ROOT, log)
    assert again.wait(120) == 1
    assert "--force" in log.read_text()


def test_an_idle_service_uses_almost_no_processor_time(running: Service) -> None:
    until_memory_is_moved(running)
    httpx.get(f"{running.http}/healthz/live")
    bounds = UpperBounds(cores=0.02)
    while bounds.unmet():
        before, begun = running.cpu_seconds(), time.monotonic()
        time.sleep(2)
        bounds.measured(cores=(running.cpu_seconds() - before) / (time.monotonic() - begun))
