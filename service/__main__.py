"""The command line: python -m service serve | predict | settings | health."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Sequence

from service import logs
from service.settings import Settings, SettingsError, table, unknown

EXIT_BAD_SETTING = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the process's exit status."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.verb == "settings":
        print(table())
        return 0
    try:
        settings = Settings.from_env(os.environ)
    except SettingsError as error:
        print(f"{error}", file=sys.stderr)
        return EXIT_BAD_SETTING
    logs.configure(settings.log_level, settings.log_format)
    for name in unknown(os.environ):
        logging.getLogger("service").warning("%s is set but means nothing here", name)
    return int(asked.run(asked, settings))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves DMVFN: two video frames in, the next frames out.",
        epilog="Settings are DMVFN_* variables: python -m service settings",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    serve = verbs.add_parser("serve", help="answer HTTP and gRPC until told to stop")
    serve.set_defaults(run=_serve)
    verbs.add_parser("settings", help="print every setting, its default and its meaning")
    health = verbs.add_parser("health", help="exit 0 if the service on this machine is ready (for container checks)")
    health.set_defaults(run=_health)
    from service import predict

    predict.add_arguments(verbs.add_parser("predict", help="predict from two image files, without a server"))
    return parser


def _serve(asked: argparse.Namespace, settings: Settings) -> int:
    import uvloop

    from service import app

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(app.serve(settings))
    except app.StartFailed as error:
        print(f"cannot start: {error}", file=sys.stderr)
        return app.EXIT_FAILED


def _health(asked: argparse.Namespace, settings: Settings) -> int:
    import ssl
    import urllib.error
    import urllib.request

    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(settings.http_host, settings.http_host)
    scheme = "https" if settings.tls_cert else "http"
    # It asks itself: the certificate is for the outside name, and nothing secret is sent.
    context = ssl._create_unverified_context() if settings.tls_cert else None
    url = f"{scheme}://{host}:{settings.http_port}/healthz/ready"
    try:
        with urllib.request.urlopen(url, timeout=5, context=context) as answer:
            print(answer.read().decode())
            return 0
    except (urllib.error.URLError, OSError) as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
