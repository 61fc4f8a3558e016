"""A certificate renewed on disk is served to new connections."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from service.certificates import CertificateFiles
from tests.unit.rpc.test_server import _certificate, _pem


def _write(folder: Path, pair: tuple[Any, Any]) -> CertificateFiles:
    key, chain = _pem(pair)
    (folder / "key").write_bytes(key)
    (folder / "chain").write_bytes(chain)
    return CertificateFiles(folder / "chain", folder / "key")


async def _served(port: int) -> str:
    """The certificate that a new connection is shown, as PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return ssl.DER_cert_to_PEM_cert(shown)


async def _is_let_in(port: int, identity: CertificateFiles) -> bool:
    """Whether a caller with that certificate is answered."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(identity.chain, identity.key)
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        answer = await reader.read()  # under TLS 1.3 it is here that a refusal is seen
        writer.close()
    except OSError:
        return False
    return answer == b"in"


async def _let_in(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"in")
    writer.close()


class _Resuming:
    """A caller that goes on with its last session, as far as the server gave it one: shows no certificate again."""

    def __init__(self, port: int, identity: CertificateFiles, latest: ssl.TLSVersion) -> None:
        self._port = port
        self._session: ssl.SSLSession | None = None
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._context.maximum_version = latest
        self._context.load_cert_chain(identity.chain, identity.key)

    def is_let_in(self) -> bool:
        try:
            with (
                socket.create_connection(("127.0.0.1", self._port), 60) as plain,
                self._context.wrap_socket(plain, session=self._session) as connection,
            ):
                answer = connection.recv(2)
                self._session = connection.session
        except OSError:
            return False
        return answer == b"in"


@pytest.mark.parametrize("latest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_session_that_is_resumed_outlives_no_authority(tmp_path: Path, latest: ssl.TLSVersion) -> None:
    """Whoever resumes shows no certificate: the one that was looked at once was signed by who is believed no more."""
    signers = [_certificate("first authority"), _certificate("second authority")]
    (tmp_path / "caller").mkdir()
    identity = _write(tmp_path / "caller", _certificate("caller", signers[0]))
    pair = _write(tmp_path, _certificate("server"))
    bundle = tmp_path / "authorities"
    bundle.write_bytes(_pem(signers[0])[1])
    files = CertificateFiles(pair.chain, pair.key, bundle)
    context = files.context()
    server = await asyncio.start_server(_let_in, "127.0.0.1", 0, ssl=context)
    keeping = asyncio.ensure_future(files.keep(context, 0.01))
    caller = _Resuming(server.sockets[0].getsockname()[1], identity, latest)
    try:
        assert [await asyncio.to_thread(caller.is_let_in) for _ in range(2)] == [True, True]
        bundle.write_bytes(_pem(signers[1])[1])
        async with asyncio.timeout(60):
            while await _is_let_in(server.sockets[0].getsockname()[1], identity):
                await asyncio.sleep(0.01)
        assert not await asyncio.to_thread(caller.is_let_in)
    finally:
        keeping.cancel()
        server.close()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_an_authority_that_is_replaced_signs_for_nobody_any_more(tmp_path: Path) -> None:
    """One that was added is believed, and one that is gone is not: callers of neither need a restart."""
    signers = [_certificate("first authority"), _certificate("second authority")]
    callers = []
    for number, signer in enumerate(signers):
        (tmp_path / str(number)).mkdir()
        callers.append(_write(tmp_path / str(number), _certificate("caller", signer)))
    pair = _write(tmp_path, _certificate("server"))
    bundle = tmp_path / "authorities"
    bundle.write_bytes(_pem(signers[0])[1])
    files = CertificateFiles(pair.chain, pair.key, bundle)
    context = files.context()
    server = await asyncio.start_server(_let_in, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    keeping = asyncio.ensure_future(files.keep(context, 0.01))
    try:
        assert [await _is_let_in(port, caller) for caller in callers] == [True, False]
        for number, outcome in ((1, [False, True]), (0, [True, False])):
            bundle.write_bytes(_pem(signers[number])[1])
            async with asyncio.timeout(60):
                while not await _is_let_in(port, callers[number]):
                    await asyncio.sleep(0.01)
            assert [await _is_let_in(port, caller) for caller in callers] == outcome
    finally:
        keeping.cancel()
        server.close()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_new_connections_get_the_renewed_certificate(tmp_path: Path) -> None:
    files = _write(tmp_path, _certificate("first"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.chain, files.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    keeping = asyncio.ensure_future(files.keep(context, 0.01))
    try:
        assert await _served(port) == files.chain.read_text()
        before = files.chain.read_text()
        _write(tmp_path, _certificate("second"))
        async with asyncio.timeout(60):
            while await _served(port) == before:
                await asyncio.sleep(0.01)
        assert await _served(port) == files.chain.read_text()
    finally:
        keeping.cancel()
        server.close()
        await asyncio.gather(keeping, return_exceptions=True)


def test_half_a_renewal_is_none_and_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = _write(tmp_path, _certificate("first"))
    assert not files.renewed()
    second = _certificate("second")
    files.key.write_bytes(_pem(second)[0])
    with caplog.at_level(logging.WARNING):
        assert [files.renewed(), files.renewed()] == [False, False]
    assert len(caplog.records) == 1
    files.chain.unlink()
    assert not files.renewed()
    files.chain.write_bytes(_pem(second)[1])
    assert [files.renewed(), files.renewed()] == [True, False]
