"""The head of an answer goes out with its body, and alone where that takes longer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, ClassVar

import pytest

from service.rest.transport.answer_transport import AnswerTransport
from tests.unit.rest.wired import PatientProtocol, wired


class Recorder(asyncio.Transport):
    """A connection that keeps what each call writes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writes.append(bytes(data))

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.writes.append(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
async def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
async def answer(recorder: Recorder) -> AnswerTransport:
    return AnswerTransport(recorder, asyncio.get_running_loop())


async def test_a_head_goes_out_with_its_body(answer: AnswerTransport, recorder: Recorder) -> None:
    answer.write(b"head ")
    answer.write(b"body")
    answer.write(b"more")
    await asyncio.sleep(0)
    assert recorder.writes == [b"head body", b"more"]


async def test_a_head_whose_body_takes_longer_goes_out_alone(answer: AnswerTransport, recorder: Recorder) -> None:
    answer.write(b"head")
    await asyncio.sleep(0)
    assert recorder.writes == [b"head"]
    answer.write(b"body")
    assert recorder.writes == [b"head", b"body"]


async def test_a_head_goes_out_before_the_end(answer: AnswerTransport, recorder: Recorder) -> None:
    answer.write(b"head")
    answer.close()
    assert (recorder.writes, answer.is_closing()) == ([b"head"], True)


async def test_nothing_is_written_to_a_connection_that_broke(answer: AnswerTransport, recorder: Recorder) -> None:
    answer.write(b"head")
    recorder.is_closed = True
    await asyncio.sleep(0)
    assert recorder.writes == []


class Tap:
    """A real connection; keeps the bytes of each write to it."""

    def __init__(self, transport: asyncio.Transport, writes: list[bytes]) -> None:
        self._transport, self._writes = transport, writes

    def write(self, data: bytes) -> None:
        self._writes.append(data)
        self._transport.write(data)

    def writelines(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class TappedProtocol(PatientProtocol):
    """The protocol of the service on connections with a tap."""

    writes: ClassVar[list[bytes]] = []

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        tapped: Any = Tap(transport, self.writes)
        super().connection_made(tapped)


async def test_the_service_writes_an_answer_at_once() -> None:
    TappedProtocol.writes.clear()
    async with wired(protocol=TappedProtocol) as service, service.connect() as wire:
        await wire.send(b"GET /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n")
        body = (await wire.answer()).body
    (write,) = TappedProtocol.writes
    assert write.startswith(b"HTTP/1.1 200 ")
    assert write.endswith(b"\r\n\r\n" + body)


async def test_answers_without_and_with_a_body_keep_their_order() -> None:
    request = b"%s /v1/model HTTP/1.1\r\nHost: localhost\r\n\r\n"
    async with wired() as service, service.connect() as wire:
        await wire.send(request % b"HEAD" + request % b"GET" + request % b"HEAD")
        head = await wire.reader.readuntil(b"\r\n\r\n")
        answer = await wire.answer()
        assert answer.json()["version"]
        last = await wire.reader.readuntil(b"\r\n\r\n")
        assert b"content-length: %d\r\n" % len(answer.body) in head
        assert b"content-length: %d\r\n" % len(answer.body) in last
