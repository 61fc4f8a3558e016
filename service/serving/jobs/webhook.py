"""Sends signed webhooks. Whether, where to and when is decided in `service.serving.jobs.job`."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import logging
import math
import os
import random
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from service.serving.jobs.job import JobView, webhook_signature, webhook_wait
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds a delivery may take, from connecting to the answer's head.
TIMEOUT_S = 10.0
#: Of these, what one address of a receiver has to take the connection while its name has others: behind one that
#: nothing answers may be one that works.
CONNECT_S = 2.0
#: Webhooks on their way at once.
AT_ONCE = 16
HEADER = "DMVFN-Signature"


def body(view: JobView) -> bytes:
    """Write the body for a receiver: the job's id and how it ended; it asks for the result itself."""
    document: dict[str, Any] = {"id": view.id, "state": view.state.value, "items": view.items, "done": view.done}
    if view.failure is not None:
        document["error"] = {"code": view.failure.code, "message": view.failure.message}
    return json.dumps(document).encode()


class Delivery:
    """One try. It blocks in `send`, which `cut` ends from any thread: a socket's own time-out is of each read."""

    def __init__(self, url: str, secret: str, view: JobView, timeout_s: float) -> None:
        self._url, self._secret, self._view, self._timeout_s = url, secret, view, timeout_s
        self._deadline = math.inf  #: of this try, on the monotonic clock
        self._socket: socket.socket | None = None
        self._is_cut = False
        self._lock = threading.Lock()  #: over both

    def send(self) -> bool:
        """Post; return True for any 2xx answer. No redirect is followed and no proxy used: neither was allowed."""
        self._deadline = time.monotonic() + self._timeout_s
        payload = body(self._view)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "dmvfn-service",
            HEADER: webhook_signature(self._secret, int(time.time()), payload),
        }
        try:
            url = urlsplit(self._url)
            kind = _WatchedHTTPS if url.scheme == "https" else _Watched
            connection = kind(url.hostname or "", url.port, timeout=self._timeout_s)
            connection.delivery = self
            with contextlib.closing(connection):
                path = url.path or "/"
                connection.request("POST", f"{path}?{url.query}" if url.query else path, payload, headers)
                status = connection.getresponse().status  # also of a head that ends too early
                return 200 <= status < 300 and not self._is_cut
        except (OSError, http.client.HTTPException, ValueError, AttributeError) as error:  # the last: it was cut
            log.info("webhook of job %s failed: %s", self._view.id, error)
            return False
        finally:
            with self._lock:
                if self._socket is not None:
                    self._socket.close()
                    self._socket = None

    def connect(self, address: tuple[str, int], *settings: object) -> socket.socket:
        """Connect to the first address of (host, port) that answers, in what is left of the time for all of them.

        Raises OSError. Takes the place of `socket.create_connection`, which gives each of them the whole time.
        """
        failure: OSError = TimeoutError("its time is over")
        places = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        for number, (family, kind, protocol, _, place) in enumerate(places, 1):
            seconds_left = self._deadline - time.monotonic()
            if seconds_left <= 0:
                break
            attempt = socket.socket(family, kind, protocol)
            try:
                attempt.settimeout(seconds_left if number == len(places) else min(CONNECT_S, seconds_left))
                attempt.connect(place)
                attempt.settimeout(self._timeout_s)
                return attempt
            except OSError as error:
                attempt.close()
                failure = error
        raise failure

    def watch(self, connected: socket.socket) -> None:
        """Keep a handle on the connection's socket, which TLS will wrap. Raises TimeoutError if it was cut before."""
        with self._lock:
            self._socket = socket.socket(fileno=os.dup(connected.fileno()))
            if self._is_cut:
                raise TimeoutError("its time is over")

    def cut(self) -> None:
        """Shut the connection down, so that `send` fails at once in its thread."""
        with self._lock:
            self._is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it has ended
                    self._socket.shutdown(socket.SHUT_RDWR)


class _Watched(http.client.HTTPConnection):
    delivery: Delivery

    def connect(self) -> None:
        self._create_connection = self.delivery.connect
        super().connect()
        self.delivery.watch(self.sock)


class _WatchedHTTPS(http.client.HTTPSConnection, _Watched):
    """`HTTPSConnection.connect` calls that of `_Watched`, then speaks TLS."""


class Sender:
    """Sends from threads of its own: receivers that are slow or gone hold up nothing else of the process."""

    def __init__(self, secret: str, timeout_s: float | None = None) -> None:
        self._secret, self._timeout_s = secret, TIMEOUT_S if timeout_s is None else timeout_s
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")

    async def send(self, url: str, view: JobView) -> bool:
        """Post to `url`, for `timeout_s` at most once a thread is free; return True for any 2xx answer.

        Cancelled, it ends the delivery; one that no thread has begun is never sent.
        """
        delivery = Delivery(url, self._secret, view, self._timeout_s)
        loop = asyncio.get_running_loop()
        is_over = asyncio.Event()

        def give_up() -> None:
            delivery.cut()
            is_over.set()

        def deliver() -> bool:
            loop.call_soon_threadsafe(loop.call_later, self._timeout_s, give_up)
            return delivery.send()

        sending = loop.run_in_executor(self._pool, deliver)
        # Beside it: nothing cuts a thread short that waits for a name to be resolved. Both are ended below.
        overtime = asyncio.ensure_future(is_over.wait())  # awaited below
        try:
            waits: set[asyncio.Future[Any]] = {sending, overtime}
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            return sending.done() and sending.result()
        finally:
            sending.cancel()
            overtime.cancel()
            delivery.cut()

    def close(self) -> None:
        """Drop deliveries that have not begun; the others end by themselves."""
        self._pool.shutdown(wait=False, cancel_futures=True)


async def deliver(sender: Sender, url: str, view: JobView, metrics: Metrics, rng: random.Random) -> None:
    """Post until it is taken or given up, and count that; `rng` spreads the waits. For jobs that end with us."""
    tries = 0
    while not await sender.send(url, view):
        tries += 1
        wait = webhook_wait(tries, rng.random())
        if wait is None:
            metrics.webhook("failed")
            return
        await asyncio.sleep(wait)
    metrics.webhook("delivered")


__all__ = ["AT_ONCE", "HEADER", "Delivery", "Sender", "body", "deliver"]
