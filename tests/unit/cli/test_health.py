"""What a container's health check says of whatever answers at the service's port."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from service.cli.health import main
from service.settings import Settings


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A port at which one connection gets this answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05",  # HTTP/2, as gRPC's port speaks it
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_does_not_answer_as_the_service_is_not_ready(answer: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(answer) as port:
        assert main([], Settings(http_port=port)) == 1
    told = capsys.readouterr().err
    assert told.startswith("not ready: ")
    assert told.count("\n") == 1


def test_what_a_service_says_is_printed_whatever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with answering(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok \xff\xfe") as port:
        assert main(["--live"], Settings(http_port=port)) == 0
    assert capsys.readouterr().out == "ok \\xff\\xfe\n"
