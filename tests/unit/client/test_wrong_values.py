"""Values that are none of those there are, before anything is sent; and moments in every form that numbers have."""

from __future__ import annotations

import contextlib
import io
import math
import socket
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from dmvfn_client import NEVER, AsyncClient, Client, ConnectionFailed, GrpcClient, InvalidInput
from dmvfn_client.options import Options

from tests.unit.client.serving import Serving

PAIR = np.random.default_rng(5).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
NOBODY = "http://127.0.0.1:9"
#: An answer that breaks off after three of them.
NINE_BYTES = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\nContent-Length: 9\r\n\r\nabc"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"encoding": "gif"}, "encoding"),
        ({"encoding": "JPEG", "maps": True}, "encoding"),
        ({"t": "0.5,1"}, "t"),
        ({"t": []}, "t"),
        ({"t": [[0.5, 1.0]]}, "t"),
        ({"t": "soon"}, "t"),
    ],
)
def test_a_wrong_value_of_a_prediction_is_refused_by_name(values: dict[str, Any], field: str) -> None:
    """GIF came back as PNG, no moment at all as the next frame, and others as errors of a format string."""
    with Client(NOBODY, retry=NEVER) as dmvfn, pytest.raises(InvalidInput) as refused:
        dmvfn.predict(PAIR[0], PAIR[1], **values)
    assert (refused.value.code, refused.value.field) == ("invalid_request", field)


def test_a_wrong_container_quality_or_policy_is_refused_by_name() -> None:
    wrong: Any = "gif"
    with Client(NOBODY, retry=NEVER) as dmvfn, pytest.raises(InvalidInput) as refused:
        dmvfn.predict_video(b"clip", io.BytesIO(), every=2, container=wrong)
    assert refused.value.field == "container"
    with GrpcClient("127.0.0.1:9", retry=NEVER) as rpc:
        with pytest.raises(InvalidInput) as refused:
            rpc.predict(PAIR[0], PAIR[1], quality=wrong)
        assert refused.value.field == "quality"
        with pytest.raises(InvalidInput) as refused:
            list(rpc.stream(iter(PAIR), policy=wrong))
        assert refused.value.field == "policy"


@pytest.mark.parametrize(
    ("t", "times"),
    [
        (0.5, (0.5,)),
        (2, (2.0,)),
        ([0.5, 1], (0.5, 1.0)),
        (range(1, 4), (1.0, 2.0, 3.0)),
        (np.array([0.25, 1.0]), (0.25, 1.0)),
        (np.float32(0.5), (0.5,)),
        (np.array(3), (3.0,)),
    ],
)
def test_moments_are_numbers_in_any_form(t: Any, times: tuple[float, ...]) -> None:
    assert Options(t=t).times == times
    assert Options(t=t).frames == len(times)


@pytest.mark.parametrize("key", ["k\u2026", "from-a-file\n", "a\tb"])
@pytest.mark.parametrize("kind", [Client, AsyncClient, GrpcClient])
def test_a_key_that_no_header_carries_is_refused_at_once(kind: Any, key: str) -> None:
    """It was an error of an encoding, or of the service's address."""
    with pytest.raises(InvalidInput) as refused:
        kind("localhost:8000", api_key=key)
    assert refused.value.field == "api_key"
    assert key not in str(refused.value)


def test_an_idempotency_key_that_no_header_carries_is_refused() -> None:
    with Client(NOBODY, retry=NEVER) as dmvfn, pytest.raises(InvalidInput) as refused:
        dmvfn.submit(list(PAIR), idempotency_key="f\u00fcr")
    assert refused.value.field == "idempotency_key"


@pytest.mark.parametrize("timeout", [3600.0, 1e9, 1e12, math.inf])
async def test_a_call_may_have_more_time_than_the_service_gives_one(running: Serving, timeout: float) -> None:
    """An hour was refused, for a header that the caller had not written."""
    with Client(running.url, timeout=timeout) as dmvfn:
        shape = dmvfn.predict(PAIR[0], PAIR[1]).pixels.shape
    async with AsyncClient(running.url, timeout=timeout) as other:
        assert (await other.predict(PAIR[0], PAIR[1])).pixels.shape == shape


@contextlib.contextmanager
def _answering(data: bytes) -> Iterator[str]:
    """A server that sends these bytes, and then no more."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(2**16)
                connection.sendall(data)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(2**16):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(60)


async def test_of_an_answer_that_breaks_off_nobody_says_that_the_service_does_not_run() -> None:
    with _answering(NINE_BYTES) as url, Client(url, retry=NEVER) as dmvfn:
        with pytest.raises(ConnectionFailed, match="broke off") as failed:
            dmvfn.predict_video(b"clip", io.BytesIO(), every=2)
        dmvfn.close()
    assert "running?" not in str(failed.value)
    with _answering(NINE_BYTES) as url:
        async with AsyncClient(url, retry=NEVER) as other:
            with pytest.raises(ConnectionFailed, match="broke off"):
                await other.predict_video(b"clip", io.BytesIO(), every=2)


@pytest.mark.parametrize("timeout", [math.nan, "5", [5]])
def test_a_timeout_that_is_no_number_is_refused_by_name(timeout: Any) -> None:
    """NaN ended as "cannot convert float NaN to integer", and in gRPC in a call without an end."""
    with Client(NOBODY, retry=NEVER) as dmvfn, pytest.raises(InvalidInput) as refused:
        dmvfn.predict(PAIR[0], PAIR[1], timeout=timeout)
    assert refused.value.field == "timeout"
    with GrpcClient("127.0.0.1:9", retry=NEVER) as rpc, pytest.raises(InvalidInput) as refused:
        rpc.predict(PAIR[0], PAIR[1], timeout=timeout)
    assert refused.value.field == "timeout"


@pytest.mark.parametrize("key", [" ", "abc ", b"abc"])
def test_a_key_of_blanks_or_bytes_is_refused_by_name(key: Any) -> None:
    """The first was told of the service's address, the last an AttributeError."""
    with pytest.raises(InvalidInput) as refused:
        Client(NOBODY, api_key=key)
    assert refused.value.field == "api_key"


@pytest.mark.parametrize("ident", ["a\nb", "\0", "..", "a/b", ""])
def test_what_is_no_jobs_id_is_refused(ident: str) -> None:
    with Client(NOBODY, retry=NEVER) as dmvfn, pytest.raises(InvalidInput, match="is no job's id"):
        dmvfn.job(ident)


@pytest.mark.parametrize("target", ["http://localhost:8001", "https://localhost:8001", "grpc://localhost:8001"])
def test_an_address_as_https_are_is_no_target_of_grpc(target: str) -> None:
    """It was "Misformatted domain name; is the service running?", after four tries."""
    with pytest.raises(InvalidInput, match="give HOST:PORT") as refused:
        GrpcClient(target)
    assert refused.value.field == "target"


def test_a_redirect_says_what_address_to_give() -> None:
    """As proxies answer that have https alone: it was "HTTP status 301, not from the service itself"."""
    answer = b"HTTP/1.1 308 Permanent Redirect\r\nLocation: https://dmvfn.example/v1/model\r\nContent-Length: 0\r\n\r\n"
    with _answering(answer) as url, Client(url, retry=NEVER) as dmvfn:
        with pytest.raises(InvalidInput, match=r"leads to https://dmvfn\.example/v1/model: give") as refused:
            dmvfn.model()
        assert refused.value.field == "url"
