"""`python -m service health`: asks the service on this machine whether it is ready. For container health checks."""

from __future__ import annotations

import argparse
import http.client
import ssl
import sys
import urllib.request
from collections.abc import Sequence

from service.addresses import authority
from service.settings import Settings

#: Seconds; a service that needs longer for this answer is not well.
TIMEOUT_S = 5.0


def main(arguments: Sequence[str], settings: Settings) -> int:
    """Print what the service says of itself; return 0 if it is ready, else 1."""
    parser = argparse.ArgumentParser(prog="python -m service health", description="Exit 0 if the service is ready.")
    parser.add_argument("--live", action="store_true", help="ask only whether it answers at all")
    path = "live" if parser.parse_args(arguments).live else "ready"
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.http_host, settings.http_host)
    url = f"http{'s' if settings.tls_cert else ''}://{authority(host, settings.http_port)}/healthz/{path}"
    if settings.health_port:
        url = f"http://{authority(host, settings.health_port)}/healthz/{path}"
    try:
        # The address is made above, so it is http(s) and this machine's own.
        with urllib.request.urlopen(url, timeout=TIMEOUT_S, context=_context(settings)) as answer:  # nosec B310
            print(answer.read().decode(errors="backslashreplace"))
            return 0
    except (OSError, http.client.HTTPException) as error:  # the latter of what answers in no HTTP: gRPC's port, say
        print(f"not {path}: {error or type(error).__name__}", file=sys.stderr)
        return 1


def _context(settings: Settings) -> ssl.SSLContext | None:
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    # It asks itself on loopback: the certificate names the outside, and nothing secret is sent.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if settings.tls_client_ca is not None:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    return context
