"""Tells the person who started the service that it is ready, or why not, and the log where there is no such person."""

from __future__ import annotations

import logging
import sys

from service.addresses import authority
from service.core.errors import Unavailable
from service.core.interfaces import Engine
from service.settings import Settings
from service.version import RELEASE

log = logging.getLogger("service")


def announce(text: str) -> None:
    """Print `text` on a terminal; elsewhere log it as one line, so that a container's output is JSON throughout."""
    if sys.stdout.isatty():
        print(text, flush=True)
    else:
        log.info("; ".join(line.strip() for line in text.splitlines()))


def announce_failure(error: Exception) -> None:
    """Print on a terminal why the service cannot start; elsewhere log it, so that the last line is JSON, too."""
    if sys.stderr.isatty():
        print(f"cannot start: {error}", file=sys.stderr)
    else:
        log.error("cannot start: %s", error)


def greeting(settings: Settings, http_port: int, grpc_port: int | None, engine: Engine) -> str:
    """Describe the running service: release, addresses, weights and their scores."""
    scheme = "https" if settings.tls_cert else "http"
    lines = [f"DMVFN {RELEASE} is ready: {scheme}://{authority(_reachable(settings.http_host), http_port)}"]
    if grpc_port:
        lines[0] += f", gRPC on {authority(_reachable(settings.grpc_host), grpc_port)}"
    try:
        model = engine.model()
    except Unavailable as error:
        return "\n".join([*lines, f"  {error.message}"])
    lines.append(f"  weights {model.version} on {model.device} ({model.dtype})")
    if {"psnr_t1", "psnr_t1_repeat"} <= model.scores.keys():
        ours, repeat = model.scores["psnr_t1"], model.scores["psnr_t1_repeat"]
        lines[-1] += f": {ours:.2f} dB on held-out video, where repeating the last frame gives {repeat:.2f} dB"
    lines.append(f"  where a request names no method, {model.default_method} predicts")
    default = model.scores.get(f"psnr_t1_{model.default_method}")
    if default is not None:
        lines[-1] += f": {default:.2f} dB on the same video"
    if model.warning:
        lines.append(f"  note: {model.warning}")
    return "\n".join(lines)


def _reachable(host: str) -> str:
    return {"0.0.0.0": "localhost", "::": "localhost", "127.0.0.1": "localhost"}.get(host, host)
