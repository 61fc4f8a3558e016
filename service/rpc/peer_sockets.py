"""Tells how many bytes have come on this process's TCP connections, and cuts them, whoever opened their sockets.

grpcio shows neither its sockets nor these numbers; Linux shows both. Elsewhere nothing is told.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
import struct
from pathlib import Path
from urllib.parse import unquote

#: Where Linux lists a process's open files.
OPEN_FILES = Path("/proc/self/fd")
#: `tcpi_bytes_received` in struct tcp_info (linux/tcp.h): 64 bits, since Linux 4.1.
BYTES_RECEIVED = struct.Struct("@Q")
BYTES_RECEIVED_AT = 128

Address = tuple[str, int]


class PeerSockets:
    """Finds the sockets of connections by whom they lead to."""

    def __init__(self) -> None:
        self._numbers: dict[Address, int] = {}  #: file descriptors, as the last search saw them

    def socket_of(self, peer: str) -> PeerSocket | None:
        """Return the socket that leads to `peer` (`ipv4:127.0.0.1:1234`); None where none can be found."""
        address = parse_peer(peer)
        if address is None:
            return None
        for search in (False, True):
            if search:
                self._numbers = _connected_sockets()
            number = self._numbers.get(address)
            # The number may have become another's since the search.
            if number is not None and (handle := PeerSocket.of(number, address)) is not None:
                return handle
        return None


class PeerSocket:
    """A second handle on a connection's socket, for any thread. It is closed when nobody asks any more."""

    def __init__(self, handle: socket.socket) -> None:
        self._handle, self._received = handle, 0

    @classmethod
    def of(cls, number: int, address: Address) -> PeerSocket | None:
        """Return the socket with this file descriptor, if it leads to `address` and counts bytes."""
        with contextlib.suppress(OSError):
            peer_socket = cls(socket.socket(fileno=os.dup(number)))
            if _address(peer_socket._handle.getpeername()) == address and peer_socket.received():
                return peer_socket
        return None

    def received(self) -> int:
        """Return the bytes that have come in order so far; of a connection that has ended, as many as at last."""
        with contextlib.suppress(OSError, AttributeError):  # no such option outside Linux
            length = BYTES_RECEIVED_AT + BYTES_RECEIVED.size
            info = self._handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, length)
            if len(info) == length:
                (self._received,) = BYTES_RECEIVED.unpack_from(info, BYTES_RECEIVED_AT)
        return self._received

    def cut(self) -> None:
        """End the connection at once: nothing more is taken from it, and its owner is told that it has ended."""
        with contextlib.suppress(OSError):  # it has ended already
            self._handle.shutdown(socket.SHUT_RDWR)

    def __del__(self) -> None:
        self._handle.close()


def parse_peer(peer: str) -> Address | None:
    """Read grpcio's name of a client, `ipv4:HOST:PORT` or `ipv6:[HOST]:PORT` with %5B for brackets; None for others."""
    scheme, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    if scheme not in ("ipv4", "ipv6") or not port.isdecimal():
        return None
    return _address((host.strip("[]"), int(port)))


def _connected_sockets() -> dict[Address, int]:
    """Map whom this process's connections lead to to their file descriptors."""
    sockets: dict[Address, int] = {}
    with contextlib.suppress(OSError):
        for number in [int(file.name) for file in OPEN_FILES.iterdir()]:
            with contextlib.suppress(OSError, IndexError):  # no socket, or it leads nowhere, or not over IP
                connection = socket.socket(fileno=number)
                try:
                    address = _address(connection.getpeername())
                finally:
                    connection.detach()
                if address is not None:
                    sockets[address] = number
    return sockets


def _address(name: tuple[object, ...]) -> Address | None:
    """Return a socket's address in one form: that of an IPv4 client is the same whatever the listener's family."""
    try:
        host = ipaddress.ip_address(str(name[0]).partition("%")[0])
    except ValueError:
        return None
    ipv4 = getattr(host, "ipv4_mapped", None)
    return str(ipv4 or host), int(str(name[1]))
