"""Which port shows what: health and metrics on plain ports of their own, and metrics then nowhere else."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.asyncio.client import connect

from service.app_state import AppState
from service.cli import health
from service.http_server import StartFailed, listen, plain_ports, serving
from service.rest.app import build, operations
from service.rest.formats import stream_messages
from service.rest.routes import stream
from service.settings import Settings, SettingsError
from tests.unit.rpc.small import SmallEngine, parts, picture
from tests.unit.rpc.test_server import _certificate, _pem


def _under_a_passphrase() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"a passphrase")
    return key.private_bytes(serialization.Encoding.PEM, *form)


PATHS = ("/healthz/live", "/metrics", "/v1/model")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def _fail(why: str) -> None:
    raise AssertionError(why)


async def _statuses(http: httpx.AsyncClient, port: int) -> list[int]:
    return [(await http.get(f"http://127.0.0.1:{port}{path}")).status_code for path in PATHS]


async def _inside(app: Any) -> list[int]:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as http:
        return [(await http.get(path)).status_code for path in PATHS]


def _state(**settings: Any) -> AppState:
    return parts(SmallEngine(), **settings)


async def test_metrics_have_a_port_of_their_own_and_are_on_no_other() -> None:
    health, metrics = free_ports(2)
    state = _state(health_port=health, metrics_port=metrics)
    async with plain_ports(state, _fail), httpx.AsyncClient() as http:
        assert await _statuses(http, health) == [200, 404, 404]
        assert await _statuses(http, metrics) == [404, 200, 404]
    assert await _inside(build(state)) == [200, 404, 200]
    assert await _inside(operations(state)) == [200, 404, 404]  # a worker's


@pytest.mark.parametrize(
    ("broken", "variables"),
    [
        ({"tls_cert": b"no certificate"}, "DMVFN_TLS_CERT and DMVFN_TLS_KEY"),
        ({"tls_key": _pem(_certificate("another"))[0]}, "DMVFN_TLS_CERT and DMVFN_TLS_KEY"),
        ({"tls_key": _under_a_passphrase()}, "DMVFN_TLS_CERT and DMVFN_TLS_KEY"),
        ({"tls_client_ca": b"no authority"}, "DMVFN_TLS_CLIENT_CA"),
        ({"tls_client_ca": b""}, "DMVFN_TLS_CLIENT_CA"),
    ],
)
async def test_tls_files_of_no_use_stop_the_start_by_their_names(
    broken: dict[str, bytes], variables: str, tmp_path: Path
) -> None:
    """One line, as of any other setting, instead of a traceback in a loop."""
    key, chain = _pem(_certificate("server"))
    contents = {"tls_cert": chain, "tls_key": key, "tls_client_ca": chain, **broken}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    paths: dict[str, Any] = {name: tmp_path / name for name in contents}
    settings = Settings(http_port=0, **paths)
    with (
        contextlib.closing(listen(settings)) as listener,
        pytest.raises(StartFailed, match=f"^{variables} cannot be used"),
    ):
        async with serving(settings, operations(_state()), listener, _fail):
            pass


async def test_every_interface_of_ipv6_is_every_interface() -> None:
    """As for gRPC: probes and callers come by either kind of address where a cluster has both."""
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    (port,) = free_ports(1)
    state = _state(health_port=port, http_host="::")
    async with plain_ports(state, _fail), httpx.AsyncClient() as http:
        hosts = ("127.0.0.1", "[::1]")
        assert [(await http.get(f"http://{host}:{port}/healthz/live")).status_code for host in hosts] == [200, 200]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::", "localhost"])
async def test_the_check_of_the_image_asks_where_the_service_listens(host: str) -> None:
    if ":" in host and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    (port,) = free_ports(1)
    async with plain_ports(_state(health_port=port, http_host=host), _fail):
        assert await asyncio.to_thread(health.main, ["--live"], Settings(health_port=port, http_host=host)) == 0


async def test_both_may_share_a_port() -> None:
    (port,) = free_ports(1)
    state = _state(health_port=port, metrics_port=port)
    async with plain_ports(state, _fail), httpx.AsyncClient() as http:
        assert await _statuses(http, port) == [200, 200, 404]
    assert (await _inside(build(state)))[1] == 404


async def test_without_a_port_of_their_own_metrics_stay_where_they_were() -> None:
    (health,) = free_ports(1)
    state = _state(health_port=health)
    async with plain_ports(state, _fail), httpx.AsyncClient() as http:
        assert await _statuses(http, health) == [200, 200, 404]
    assert await _inside(build(state)) == [200, 200, 200]


async def test_a_port_that_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, pytest.raises(StartFailed, match="DMVFN_METRICS_PORT"):
        async with plain_ports(_state(metrics_port=listener.getsockname()[1]), _fail):
            pass


@pytest.mark.parametrize(("proxies", "caller"), [((), "127.0.0.1"), (("127.0.0.0/8",), "198.51.100.1")])
async def test_a_caller_is_believed_of_its_address_only_behind_a_trusted_proxy(
    proxies: tuple[str, ...], caller: str
) -> None:
    engine = SmallEngine()
    state = parts(engine, trusted_proxies=proxies)
    headers = {
        "X-Forwarded-For": "203.0.113.9, 198.51.100.1",
        "Content-Type": "application/octet-stream",
        "X-Frame-Shape": "2,32,48,3",
    }
    with listen(state.settings) as listener:
        async with serving(state.settings, build(state), listener, _fail), httpx.AsyncClient() as http:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1/predict"
            answer = await http.post(url, content=bytes(2 * 32 * 48 * 3), headers=headers)
    assert answer.status_code == 200
    assert [request.client for request in engine.asked] == [f"address {caller}"]


@pytest.mark.parametrize("is_secure", [False, True])
async def test_a_stream_is_answered_and_bounded_with_tls_and_without(is_secure: bool, tmp_path: Path) -> None:
    """TLS has marks of its own for what waits to be read; large answers pass them, and half a message is counted."""
    key, chain = _pem(_certificate("server"))
    (tmp_path / "key").write_bytes(key)
    (tmp_path / "chain").write_bytes(chain)
    files = {"tls_cert": tmp_path / "chain", "tls_key": tmp_path / "key"} if is_secure else {}
    state = _state(**files)
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    start = json.dumps({"type": "start", "format": "raw", "policy": "all", "horizon": 16, "scene_cuts": False})
    with listen(state.settings) as listener:
        web = build(state, [stream.router(state)])
        async with serving(state.settings, web, listener, _fail, state.budget):
            url = f"{'wss' if is_secure else 'ws'}://127.0.0.1:{listener.getsockname()[1]}/v1/stream"
            opening = connect(url, ssl=context if is_secure else None, max_size=None, compression=None)
            async with asyncio.timeout(60), opening as stream_socket:
                await stream_socket.send(start)
                for n in range(4):
                    pixels = picture(n, 256, 256)
                    header = {"frame_id": str(n), "height": 256, "width": 256}
                    await stream_socket.send(stream_messages.packed(header, pixels.tobytes()))
                answers = [await stream_socket.recv() for _ in range(4)]
                assert [len(answer) > 16 * 256 * 256 * 3 for answer in answers] == [False, True, True, True]
                head = struct.pack("!BBQ", 0x82, 0xFF, 4_000_000) + bytes(4)
                stream_socket.transport.write(head + bytes(3_000_000))
                while state.budget.held < 1_900_000:
                    await asyncio.sleep(0.01)
                stream_socket.transport.abort()
            while state.budget.held:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize("port", ["8000", "8001"])
def test_callers_ports_are_not_for_metrics(port: str) -> None:
    with pytest.raises(SettingsError, match="DMVFN_METRICS_PORT"):
        Settings.from_env({"DMVFN_METRICS_PORT": port})
