"""The server around the services: health, reflection, keys, TLS, limits, drain."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import CollectorRegistry

from proto.dmvfn.v1 import dmvfn_pb2 as pb
from proto.dmvfn.v1 import dmvfn_pb2_grpc
from proto.inference import inference_pb2
from service.core.errors import Unavailable
from service.core.interfaces import Readiness
from service.rpc.health import HealthService
from service.rpc.oip import InferenceService
from service.rpc.predict import PredictionService
from service.rpc.server import QUIET_S, start
from service.supervision import Supervisor
from service.telemetry.metrics import Metrics, Outcome, Transport
from tests.unit.rpc.serving import served
from tests.unit.rpc.small import SmallEngine, parts, picture

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def _request(side: int = 32) -> pb.PredictRequest:
    pixels = picture(0, side, side).tobytes()
    frame = pb.Frame(raw=pb.RawPicture(pixels=pixels, height=side, width=side))
    return pb.PredictRequest(previous=frame, current=frame)


@pytest.mark.parametrize("service", ["", "dmvfn.v1.PredictionService", "inference.GRPCInferenceService"])
async def test_health_follows_the_engine(service: str) -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        health = health_pb2_grpc.HealthStub(s.channel)
        asked = health_pb2.HealthCheckRequest(service=service)
        assert (await health.Check(asked)).status == SERVING
        watch = health.Watch(asked)
        assert (await watch.read()).status == SERVING
        engine.state = Readiness(False, "device_lost")
        assert (await health.Check(asked)).status == NOT_SERVING
        assert (await watch.read()).status == NOT_SERVING
        engine.state = Readiness(True)
        assert (await watch.read()).status == SERVING
        watch.cancel()


async def test_health_lists_every_service() -> None:
    """Without an answer of its own the library wrote a traceback into the log for each who asked."""
    engine = SmallEngine()
    async with served(engine) as s:
        health = health_pb2_grpc.HealthStub(s.channel)
        for readiness, status in ((Readiness(True), SERVING), (Readiness(False, "draining"), NOT_SERVING)):
            engine.state = readiness
            statuses = (await health.List(health_pb2.HealthListRequest())).statuses
            names = {"", "dmvfn.v1.PredictionService", "inference.GRPCInferenceService"}
            assert {name: answer.status for name, answer in statuses.items()} == dict.fromkeys(names, status)


def test_no_method_that_is_offered_is_left_to_the_library() -> None:
    """Its own answer is an exception, and a traceback in the log for each who asks."""
    for servicer in (HealthService, PredictionService, InferenceService):
        generated = servicer.__mro__[1]
        offered = {name for name in vars(generated) if name[0].isupper()}
        assert offered
        assert offered <= set(vars(servicer)), servicer


async def test_a_service_nobody_knows_is_not_found() -> None:
    async with served(SmallEngine()) as s:
        health = health_pb2_grpc.HealthStub(s.channel)
        asked = health_pb2.HealthCheckRequest(service="other")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health.Check(asked)
        watch = health.Watch(asked)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


async def test_reflection_lists_the_services() -> None:
    async with served(SmallEngine()) as s:
        stub = reflection_pb2_grpc.ServerReflectionStub(s.channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"dmvfn.v1.PredictionService", "inference.GRPCInferenceService", "grpc.health.v1.Health"} <= names


async def test_where_keys_are_set_a_call_needs_one_and_health_does_not() -> None:
    engine = SmallEngine()
    async with served(engine, api_keys=(("anna", "correct-horse"),)) as s:
        for metadata in ((), (("authorization", "Bearer wrong-horse"),)):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await s.ours.Predict(_request(), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await s.v2.ModelMetadata(inference_pb2.ModelMetadataRequest(name="dmvfn"), metadata=metadata)
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        await s.ours.Predict(_request(), metadata=(("authorization", "Bearer correct-horse"),))
        assert (await health_pb2_grpc.HealthStub(s.channel).Check(health_pb2.HealthCheckRequest())).status == SERVING
        assert (await s.v2.ServerLive(inference_pb2.ServerLiveRequest())).live
    assert [asked.client for asked in engine.asked] == ["anna"]


async def test_bytes_that_are_no_message_are_the_callers_fault() -> None:
    async with served(SmallEngine()) as s:
        for method in ("dmvfn.v1.PredictionService/Predict", "inference.GRPCInferenceService/ModelInfer"):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await s.channel.unary_unary(f"/{method}")(b"\xff\xff\xff\xff")
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        await s.ours.Predict(_request())


async def test_a_message_beyond_the_limit_is_refused_also_when_it_is_small_until_inflated() -> None:
    bomb = pb.PredictRequest(previous=pb.Frame(encoded=b"\0" * 2**22))
    async with served(SmallEngine(), max_body_bytes=2**20) as s:
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await s.ours.Predict(bomb, compression=compression)
            assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        await s.ours.Predict(_request(), compression=grpc.Compression.Gzip)


async def test_the_default_limit_admits_a_raw_pair_in_4k() -> None:
    pixels = bytes(2160 * 3840 * 3)
    frame = pb.Frame(raw=pb.RawPicture(pixels=pixels, height=2160, width=3840))
    async with served(SmallEngine()) as s:
        answer = await s.ours.Predict(pb.PredictRequest(previous=frame, current=frame))
    assert answer.prediction.frames[0].raw.pixels == pixels


async def test_a_request_id_comes_back_and_one_that_is_not_sane_is_replaced() -> None:
    async with served(SmallEngine()) as s:
        call = s.ours.Predict(_request(), metadata=(("x-request-id", "abc-1"),))
        assert (await call).request_id == "abc-1"
        assert ("x-request-id", "abc-1") in [tuple(pair) for pair in await call.trailing_metadata()]
        replaced = await s.ours.Predict(_request(), metadata=(("x-request-id", "a b"),))
        assert len(replaced.request_id) == 32


async def test_requests_are_counted_by_outcome() -> None:
    engine = SmallEngine()
    async with served(engine) as s:
        await s.ours.Predict(_request())
        with pytest.raises(grpc.aio.AioRpcError):
            await s.ours.Predict(pb.PredictRequest())
        registry = s.parts.metrics.registry

        def counted(outcome: str) -> float | None:
            labels = {"transport": "grpc", "endpoint": "Predict", "outcome": outcome}
            return registry.get_sample_value("dmvfn_requests_total", labels)

        # A refusal reaches the client before the server's own handler has ended and counted it.
        async with asyncio.timeout(60):
            while counted("invalid") is None:
                await asyncio.sleep(0)
        assert (counted("ok"), counted("invalid")) == (1.0, 1.0)


async def test_an_answer_is_counted_behind_the_handler_that_returns_it() -> None:
    """In the handler's task counting would come before the answer; outside of it gRPC has the answer by then."""
    counting_tasks: list[asyncio.Task[Any] | None] = []

    class WatchedMetrics(Metrics):
        def request_done(self, transport: Transport, endpoint: str, outcome: Outcome, seconds: float) -> None:
            counting_tasks.append(asyncio.current_task())
            super().request_done(transport, endpoint, outcome, seconds)

    joined = dataclasses.replace(parts(SmallEngine()), metrics=WatchedMetrics(CollectorRegistry()))
    server = await start(joined)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        await dmvfn_pb2_grpc.PredictionServiceStub(channel).Predict(_request())  # type: ignore[no-untyped-call]
    await server.drain(5)
    joined.codecs.close()
    assert counting_tasks == [None]


async def test_a_drained_server_finishes_calls_refuses_new_ones_and_tells_health() -> None:
    engine = SmallEngine()
    engine.gate.clear()
    async with served(engine) as s:
        call = s.ours.Predict(_request())
        watch = health_pb2_grpc.HealthStub(s.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == SERVING
        async with asyncio.timeout(60):
            while engine.running == 0:
                await asyncio.sleep(0)
        draining = asyncio.create_task(s.server.drain(30))
        assert (await watch.read()).status == NOT_SERVING
        engine.gate.set()
        assert (await call).prediction.model_version == "small-1"
        await draining
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await s.ours.Predict(_request())
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE


async def test_a_watch_is_told_of_a_stop_that_begins_while_it_is_told_of_health() -> None:
    """It ended without that: a drained server looked healthy to its last, where the machine was busy."""
    told: list[int] = []
    health = HealthService(SmallEngine(), (), Supervisor(parts(SmallEngine()).metrics))

    class Watcher:
        async def write(self, message: Any) -> None:
            told.append(message.status)
            health.stop()

    await asyncio.wait_for(health.Watch(health_pb2.HealthCheckRequest(), Watcher()), 60)
    assert told == [SERVING, NOT_SERVING]


async def test_callers_who_keep_calling_are_refused_by_a_drain_and_never_cut_off() -> None:
    """Of calls that reach the socket as gRPC's asyncio server stops, it tells the caller CANCELLED and us nothing."""
    endings = list[tuple[grpc.StatusCode, str]]()
    answered = Counter[int]()
    engine = SmallEngine()
    async with served(engine) as s:

        async def caller(number: int) -> None:
            async with grpc.aio.insecure_channel(s.address) as channel:
                stub = dmvfn_pb2_grpc.PredictionServiceStub(channel)  # type: ignore[no-untyped-call]
                while True:
                    try:
                        await stub.Predict(_request(), timeout=60)
                        answered[number] += 1
                    except grpc.aio.AioRpcError as error:
                        endings.append((error.code(), error.details() or ""))
                        return

        async with asyncio.TaskGroup() as callers:
            for number in range(8):
                callers.create_task(caller(number))
            # Each is connected and at it: who still connects as the server stops is refused by the socket.
            while not endings and (len(answered) < 8 or min(answered.values()) < 2):
                await asyncio.sleep(0.001)
            engine.failure = Unavailable("shutting down", reason="draining")
            await s.server.drain(20)
    assert endings == [(grpc.StatusCode.UNAVAILABLE, "shutting down")] * 8


async def test_a_machine_that_was_busy_elsewhere_during_a_drain_leaves_calls_time_to_be_read() -> None:
    """Whoever is held up for half a second has seen no call in it; those that came lie in the socket."""
    async with served(SmallEngine()) as s:
        drain = asyncio.create_task(s.server.drain(20))
        for _ in range(5):
            await asyncio.sleep(0)
        time.sleep(2 * QUIET_S)  # noqa: ASYNC251  # as if the machine had stood still
        held_up_until = time.monotonic()
        await drain
        assert time.monotonic() - held_up_until >= QUIET_S / 5  # it stopped at once


async def test_two_servers_do_not_share_a_port() -> None:
    async with served(SmallEngine()) as s:
        with pytest.raises(RuntimeError):
            await start(parts(SmallEngine(), grpc_port=s.server.port))


async def test_an_idle_connection_is_pinged_so_that_a_dead_client_is_noticed() -> None:
    """HTTP/2 by hand: gRPC's own clients answer pings without showing them."""
    nothing_to_say = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # an empty SETTINGS frame
    async with served(SmallEngine(), grpc_keepalive_s=1.0) as s:
        reader, writer = await asyncio.open_connection("127.0.0.1", s.server.port)
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + nothing_to_say)
        async with asyncio.timeout(60):
            while True:
                head = await reader.readexactly(9)
                kind, flags = head[3], head[4]
                await reader.readexactly(int.from_bytes(head[:3], "big"))
                if (kind, flags) == (6, 0):
                    break
        writer.close()
        await writer.wait_closed()


# --- TLS ----------------------------------------------------------------------------------------------------------


def _certificate(name: str, issuer: tuple[Any, Any] | None = None) -> tuple[Any, Any]:
    """A certificate for localhost and its key, signed by `issuer` or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


def _pem(pair: tuple[Any, Any]) -> tuple[bytes, bytes]:
    certificate, key = pair
    return (
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
        certificate.public_bytes(serialization.Encoding.PEM),
    )


async def test_tls_and_client_certificates(tmp_path: Path) -> None:
    ca, other = _certificate("ca"), _certificate("other ca")
    key, chain = _pem(_certificate("server", ca))
    root = _pem(ca)[1]
    for name, data in (("key", key), ("cert", chain), ("ca", root)):
        (tmp_path / name).write_bytes(data)
    joined = parts(SmallEngine(), tls_cert=tmp_path / "cert", tls_key=tmp_path / "key", tls_client_ca=tmp_path / "ca")
    server = await start(joined)

    async def ask(*identity: bytes) -> grpc.StatusCode:
        credentials = grpc.ssl_channel_credentials(root, *identity)
        async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials) as channel:
            try:
                await dmvfn_pb2_grpc.PredictionServiceStub(channel).Predict(_request(), timeout=60)  # type: ignore[no-untyped-call]
            except grpc.aio.AioRpcError as error:
                return error.code()
        return grpc.StatusCode.OK

    try:
        assert await ask(*_pem(_certificate("client", ca))) == grpc.StatusCode.OK
        assert await ask(*_pem(_certificate("stranger", other))) == grpc.StatusCode.UNAVAILABLE
        assert await ask() == grpc.StatusCode.UNAVAILABLE
        (tmp_path / "ca").write_bytes(_pem(other)[1])  # a new authority, and no restart
        assert await ask(*_pem(_certificate("client", ca))) == grpc.StatusCode.UNAVAILABLE
        assert await ask(*_pem(_certificate("stranger", other))) == grpc.StatusCode.OK
    finally:
        await server.drain(0)
        joined.codecs.close()


async def test_a_renewed_certificate_is_served_without_a_restart(tmp_path: Path) -> None:
    """And until both files fit each other, the one before: they are replaced one after the other."""
    first, second = _certificate("first"), _certificate("second")
    key, chain = _pem(first)
    for name, data in (("key", key), ("cert", chain)):
        (tmp_path / name).write_bytes(data)
    joined = parts(SmallEngine(), tls_cert=tmp_path / "cert", tls_key=tmp_path / "key")
    server = await start(joined)

    async def trusted(pair: tuple[Any, Any]) -> bool:
        credentials = grpc.ssl_channel_credentials(_pem(pair)[1])
        options = (("grpc.use_local_subchannel_pool", 1),)
        async with grpc.aio.secure_channel(f"localhost:{server.port}", credentials, options) as channel:
            try:
                await dmvfn_pb2_grpc.PredictionServiceStub(channel).Predict(_request(), timeout=60)  # type: ignore[no-untyped-call]
            except grpc.aio.AioRpcError:
                return False
        return True

    try:
        assert (await trusted(first), await trusted(second)) == (True, False)
        (tmp_path / "key").write_bytes(_pem(second)[0])
        assert (await trusted(first), await trusted(second)) == (True, False)
        (tmp_path / "cert").write_bytes(_pem(second)[1])
        assert (await trusted(second), await trusted(first)) == (True, False)
    finally:
        await server.drain(0)
        joined.codecs.close()
