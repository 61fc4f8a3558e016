"""No secret stands in anything a process prints or logs, at the most talkative level, whatever is done with it."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from tests.system.e2e.process import PATIENCE, ROOT, SAMPLES, Service, environment, free_port, service

KEY, MISTYPED, WEBHOOK, PASSWORD = "key-of-alice-6f1d", "key-of-mallory-77", "webhook-secret-c0ffee", "pass-word-4b1d"
SECRETS = (KEY, MISTYPED, WEBHOOK, PASSWORD)


def shown(text: str) -> list[str]:
    """The lines in which a secret, or a good part of one, can be read."""
    parts = [secret[:-2] for secret in SECRETS]
    return [line for line in text.splitlines() if any(part in line for part in parts)]


def test_the_check_itself_finds_a_secret() -> None:
    assert shown(f"fine\nAuthorization: Bearer {KEY}\n{WEBHOOK[:-1]}") == [f"Authorization: Bearer {KEY}", WEBHOOK[:-1]]


def over_http(running: Service, key: str) -> list[int]:
    """The key where it belongs and everywhere else a client may put it by mistake."""
    files = {"previous": (SAMPLES / "frame00.png").read_bytes(), "current": (SAMPLES / "frame01.png").read_bytes()}
    bearer = {"Authorization": f"Bearer {key}"}
    hook = {"webhook": f"http://127.0.0.1:9/hook/?token={key}"}
    with httpx.Client(base_url=running.http, timeout=60) as http:
        answers = [
            http.post("/v1/predict", files=files, headers=bearer),
            http.post("/v1/predict", files={**files, "current": key.encode()}, headers=bearer),
            http.post(f"/v1/predict?route={key}", files=files, headers=bearer),
            http.post("/v1/jobs", files=files, params=hook, headers=bearer),
            http.post("/v2/models/dmvfn/infer", json={"key": key, "inputs": key}, headers=bearer),
            http.get(f"/v1/model?key={key}", headers={"Authorization": f"Basic {key}"}),
            http.get(f"/v1/{key}", headers={"Authorization": key, "X-Api-Key": key, "Cookie": f"key={key}"}),
            http.get("/v1/model", headers={"traceparent": key, **bearer}),
            http.get("/metrics", headers=bearer),
            http.get("/debug/batcher", headers=bearer),
        ]
    assert shown(answers[-2].text) == []
    return [answer.status_code for answer in answers]


def over_websocket(running: Service, key: str) -> None:
    """As browsers do it, and as they should not."""
    address = running.http.replace("http", "ws")
    for path, protocols in (("/v1/stream", ["dmvfn", f"bearer.{key}"]), (f"/v1/stream?key={key}", ["dmvfn"])):
        with (
            contextlib.suppress(WebSocketException),
            connect(
                f"{address}{path}", subprotocols=[Subprotocol(word) for word in protocols], open_timeout=60
            ) as socket,
        ):
            socket.send(key)
            socket.recv(timeout=60)


def over_grpc(running: Service, key: str) -> None:
    """A right call, a wrong one, and bytes that are no message."""
    metadata = (("authorization", f"Bearer {key}"), ("x-api-key", key))
    with grpc.insecure_channel(running.grpc) as channel:
        stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
        asks: list[Callable[[], Any]] = [
            lambda: stub.Predict(pb.PredictRequest(), metadata=metadata, timeout=60),
            lambda: channel.unary_unary("/dmvfn.v1.PredictionService/Predict")(key.encode(), metadata=metadata),
            lambda: channel.unary_unary(f"/{key}/{key}")(b"", metadata=metadata),
        ]
        for ask in asks:
            with pytest.raises(grpc.RpcError):
                ask()


def test_keys_and_webhook_secrets_are_never_logged() -> None:
    settings = {
        "API_KEYS": f"alice:{KEY}",
        "WEBHOOK_SECRET": WEBHOOK,
        "WEBHOOK_PREFIXES": "http://127.0.0.1:9/hook/",
        "LOG_LEVEL": "debug",
    }
    with service("serve", wait=True, forked=True, **settings) as running:
        right, mistyped = over_http(running, KEY), over_http(running, MISTYPED)
        for key in (KEY, MISTYPED):
            over_websocket(running, key)
            over_grpc(running, key)
        running.terminate()
        assert running.exit_status() == 0
        printed = running.output()
    print(f"{len(printed.splitlines())} lines, statuses {right} and {mistyped}")
    assert right[0] == 200
    assert set(mistyped[:-2]) == {401}
    assert len(re.findall('"status": 401', printed)) >= 8, "the log lost what was refused"
    assert shown(printed) == []


@pytest.mark.parametrize("address", [f"redis://dmvfn:{PASSWORD}@127.0.0.1:PORT/0", f"redis://dmvfn:{PASSWORD}@h:x/0"])
def test_the_password_of_redis_is_never_printed(address: str, tmp_path: Path) -> None:
    """Neither while Redis cannot be reached nor where its address makes no sense."""
    url = address.replace("PORT", str(free_port()))
    with service(wait=False, forked=True, ENGINE="redis", REDIS_URL=url, LOG_LEVEL="debug") as running:
        end = time.monotonic() + PATIENCE  # it says so once, after its first try
        while running.process.poll() is None and "redis is away" not in running.output():
            assert time.monotonic() < end, running.output()
            time.sleep(0.1)
        time.sleep(1)  # where the address makes sense it stays, and tries again
        printed = running.output()
    done = subprocess.run(
        [sys.executable, "-m", "service", "jobs", "stats"],
        cwd=ROOT,
        env=environment(tmp_path, REDIS_URL=url),
        capture_output=True,
        timeout=60,
        text=True,
    )
    assert done.returncode != 0
    printed += done.stdout + done.stderr
    assert printed.strip(), "nothing was said"
    assert shown(printed) == []
