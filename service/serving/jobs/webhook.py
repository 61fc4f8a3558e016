"""Sends signed webhooks. Whether, where to and when is decided in `service.serving.jobs.job`."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import random
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from service.serving.jobs.job import JobView, webhook_signature, webhook_wait
from service.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: Seconds a receiver may take.
TIMEOUT_S = 10.0
#: Webhooks on their way at once.
AT_ONCE = 16
HEADER = "DMVFN-Signature"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        # A redirect would lead past the allowed prefixes, into the cluster perhaps: it counts as a failure.
        return None


# No proxy handlers: what the environment names is not what the settings allow.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)


def body(view: JobView) -> bytes:
    """Write the body for a receiver: the job's id and how it ended; it asks for the result itself."""
    document: dict[str, Any] = {"id": view.id, "state": view.state.value, "items": view.items, "done": view.done}
    if view.failure is not None:
        document["error"] = {"code": view.failure.code, "message": view.failure.message}
    return json.dumps(document).encode()


class Sender:
    """Sends from threads of its own: receivers that are slow or gone hold up nothing else of the process."""

    def __init__(self, secret: str) -> None:
        self._secret = secret
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")

    async def send(self, url: str, view: JobView) -> bool:
        """Post to `url`; return True for any 2xx answer."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, send, url, self._secret, view)

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


def send(url: str, secret: str, view: JobView) -> bool:
    """Post to `url`; return True for any 2xx answer. Blocks up to TIMEOUT_S."""
    payload = body(view)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "dmvfn-service",
        HEADER: webhook_signature(secret, int(time.time()), payload),
    }
    request = urllib.request.Request(url, data=payload, headers=headers, method="POST")
    try:
        with _OPENER.open(request, timeout=TIMEOUT_S) as answer:
            return bool(200 <= answer.status < 300)
    except (urllib.error.URLError, OSError, http.client.HTTPException, ValueError) as error:
        log.info("webhook of job %s failed: %s", view.id, error)
        return False


__all__ = ["AT_ONCE", "HEADER", "Sender", "body", "deliver", "send"]
