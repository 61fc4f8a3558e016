"""Starts and drains the gRPC server: both contracts, health, reflection, TLS, limits."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2_grpc
from service.addresses import authority
from service.app_state import AppState
from service.certificates import CertificateFiles
from service.rpc import oip, predict
from service.rpc.half_sent import WINDOW
from service.rpc.health import HealthService
from service.rpc.message_reading import ReadingInterceptor, half_sent_bytes
from service.settings import Settings
from service.supervision import Supervisor
from service.telemetry.tracing import Tracer

log = logging.getLogger("service.rpc")

HEALTH = "grpc.health.v1.Health"
#: Seconds a peer has to answer a ping.
PING_TIMEOUT_S = 20
#: Clients may ping as often as this, seconds; more often is an attack and closes the connection.
LEAST_PING_S = 5
#: Before it stops, the server waits until no call has come for QUIET_S, MOST_QUIET_S in all, seconds.
QUIET_S, MOST_QUIET_S = 0.25, 2.0
#: How often it looks meanwhile, seconds.
NAP_S = 0.025
#: Calls open at once on a connection, at least and at most, and connections.
LEAST_CALLS, MOST_CALLS, MOST_CONNECTIONS = 100, 1000, 4096
#: Part of the bytes of unread messages that the calls of one connection may send before any of them is looked at.
CONNECTION_SHARE = 0.25


@dataclass(slots=True)
class RunningServer:
    """A server that listens on `port`."""

    port: int
    _server: Any
    _health: HealthService
    _reader: ReadingInterceptor
    _state: AppState

    async def drain(self, grace: float) -> None:
        """Stop serving; streams say goodbye, calls finish; what is left after `grace` seconds is cancelled.

        Callers are to be refused before, by the engine: a server that stops drops, without a word, each call that has
        reached its socket and not yet its code. Hence the wait for a moment in which none comes.
        """
        deadline = asyncio.get_running_loop().time() + grace
        self._health.stop()
        self._state.streams.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._state.streams.ended()
        await self._quiet(deadline)
        remaining = max(0.0, deadline - asyncio.get_running_loop().time())
        cutting = asyncio.get_running_loop().call_later(remaining, self._state.work.cut)
        if not remaining:
            self._state.work.cut()
        await self._server.stop(remaining)
        cutting.cancel()

    async def _quiet(self, deadline: float) -> None:
        """Wait until no call has come for QUIET_S, until `deadline` (the loop's clock) and MOST_QUIET_S at most.

        A nap counts for its length however long it lasted: a machine that was busy elsewhere meanwhile has held up
        calls, too, and they are read in the naps that follow.
        """
        clock = asyncio.get_running_loop().time
        end = min(deadline, clock() + MOST_QUIET_S)
        quiet_s = 0.0
        while quiet_s < QUIET_S and (left_s := end - clock()) > 0:
            last_call = self._reader.last_call
            await asyncio.sleep(min(NAP_S, left_s))
            quiet_s = quiet_s + NAP_S if self._reader.last_call == last_call else 0.0


async def start(state: AppState, tracer: Tracer | None = None) -> RunningServer:
    """Listen as the settings say; RuntimeError if the port is taken, ValueError if the certificates are not usable."""
    settings = state.settings
    reader = ReadingInterceptor(state)
    server = grpc.aio.server(interceptors=(reader,), options=_options(settings))
    health = HealthService(state.engine, (predict.NAME, oip.NAME), Supervisor(state.metrics))
    add: Any = dmvfn_pb2_grpc.add_PredictionServiceServicer_to_server  # generated code has no types
    add(predict.PredictionService(state, tracer), server)
    add = inference_pb2_grpc.add_GRPCInferenceServiceServicer_to_server
    add(oip.InferenceService(state, tracer), server)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((predict.NAME, oip.NAME, HEALTH, reflection.SERVICE_NAME), server)
    address = authority(settings.grpc_host, settings.grpc_port)
    credentials = _credentials(settings)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    if not port:
        raise RuntimeError(f"gRPC cannot listen on {address}")
    await server.start()
    return RunningServer(port, server, health, reader, state)


def _options(settings: Settings) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", settings.message_bytes),
        # Answers are as long as their frames; what a request may ask for is bounded elsewhere.
        ("grpc.max_send_message_length", -1),
        ("grpc.keepalive_time_ms", int(settings.grpc_keepalive_s * 1000)),
        ("grpc.keepalive_timeout_ms", PING_TIMEOUT_S * 1000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_S * 1000),
        ("grpc.max_concurrent_streams", _most_calls(settings)),
        ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
        # What a call may send before its message is asked for: 64 KiB, not what the link could carry.
        ("grpc.http2.bdp_probe", 0),
        # A second server on the same port must fail to start, not share the calls.
        ("grpc.so_reuseport", 0),
    ]


def _most_calls(settings: Settings) -> int:
    return min(MOST_CALLS, max(LEAST_CALLS, int(CONNECTION_SHARE * half_sent_bytes(settings)) // WINDOW))


def _credentials(settings: Settings) -> Any:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    files = CertificateFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)

    def in_force() -> Any:
        pair = (files.key.read_bytes(), files.chain.read_bytes())
        authorities = files.authorities.read_bytes() if files.authorities is not None else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=authorities)

    # Asked at each handshake.
    return grpc.dynamic_ssl_server_credentials(
        in_force(),
        lambda: in_force() if files.renewed() else None,
        require_client_authentication=files.authorities is not None,
    )
