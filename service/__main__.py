"""The command line: python -m service VERB. Each verb's own module knows its arguments."""

from __future__ import annotations

import argparse
import asyncio
import io
import logging
import os
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service import startup
from service.cli.endings import ended_in_order
from service.process_exit import leave
from service.settings import PREFIX, Settings, SettingsError, unknown
from service.telemetry import logging as service_logging

EXIT_FAILED, EXIT_BAD_SETTING = 1, 2


@dataclass(frozen=True, slots=True)
class Verb:
    """A command: `run` gets the words after the verb and the settings, and returns the exit status.

    `reads` names the settings that it reads; None: all of them. What others say does not keep it from running.
    """

    help: str
    run: Callable[[Sequence[str], Settings], int]
    reads: tuple[str, ...] | None = None
    #: Whether it runs until it is told to stop, and then ends in its own way.
    stops_itself: bool = False

    def environment(self, environment: Mapping[str, str]) -> Mapping[str, str]:
        """Return the part of an environment that it reads."""
        if self.reads is None:
            return environment
        names = (f"{PREFIX}{setting.upper()}" for setting in self.reads)
        return {name: environment[name] for name in names if name in environment}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb and return the process's exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are no UTF-8 go out as they are
    parser = argparse.ArgumentParser(
        prog="python -m service",
        description="Serves DMVFN: two video frames in, the next frames out.",
        epilog="\n".join(
            [
                "verbs:",
                *(f"  {name:<10} {verb.help}" for name, verb in VERBS.items()),
                "",
                "Each verb explains itself: python -m service VERB --help. Settings are DMVFN_* variables.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", metavar="VERB", choices=VERBS, help=f"one of {', '.join(VERBS)}")
    name = parser.parse_args(words[:1]).verb
    try:
        environment = VERBS[name].environment(os.environ)
        settings = Settings.from_env(environment)
        if settings.redis_url:
            from service.distributed.broker import connection_options

            connection_options.check(settings)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_SETTING
    service_logging.configure(settings.log_level, settings.log_format)
    for variable in unknown(environment):
        logging.getLogger("service").warning("%s is set but means nothing here", variable)
    verb = VERBS[name]
    if verb.stops_itself:
        return verb.run(words[1:], settings)
    return ended_in_order(name, lambda: verb.run(words[1:], settings))


def _run(name: str, description: str, begin: Callable[[Settings], Coroutine[Any, Any, int]]) -> Verb:
    """Build a verb that runs until it is told to stop; its only arguments are settings."""

    def run(arguments: Sequence[str], settings: Settings) -> int:
        sentence = f"{description[0].upper()}{description[1:]}. Settings: python -m service settings."
        parser = argparse.ArgumentParser(prog=f"python -m service {name}", description=sentence)
        parser.add_argument(
            "--engine", choices=["local", "redis"], help="overrides DMVFN_ENGINE: this process's device, or workers"
        )
        if name == "work":
            parser.add_argument(
                "--devices",
                metavar="all|0,1|cpu",
                help="one worker process for each of these devices: all GPUs, or their indices, UUIDs, and cpu",
            )
        words = parser.parse_args(arguments)
        if words.engine:
            try:
                settings = settings.replace(engine=words.engine)
            except SettingsError as error:
                print(error, file=sys.stderr)
                return EXIT_BAD_SETTING
        if name == "work" and words.devices is not None:
            from service.cli import devices

            if not settings.redis_url:
                print("cannot start: a worker needs DMVFN_REDIS_URL", file=sys.stderr)
                return EXIT_FAILED
            return devices.main(words.devices, settings)
        import uvloop

        from service.cli.settings import log_in_force

        log_in_force(settings, os.environ)
        startup.collect_seldom()
        startup.keep_freed_memory()
        startup.begin("loading the service")
        from service.greeting import announce_failure
        from service.http_server import StartFailed

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                status = runner.run(begin(settings))
        except StartFailed as error:
            announce_failure(error)
            status = EXIT_FAILED
        return leave(status)

    return Verb(description, run, stops_itself=True)


async def _serve(settings: Settings) -> int:
    from service import app

    return await app.serve(settings)


async def _work(settings: Settings) -> int:
    from service import app

    return await app.work(settings)


def _predict(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import predict

    return predict.main(arguments, settings)


def _video(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import video

    return video.main(arguments, settings)


def _jobs(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import jobs

    return jobs.main(arguments, settings)


def _health(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import health

    return health.main(arguments, settings)


def _settings(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import settings as in_force

    return in_force.main(arguments, settings, os.environ)


def _keys(arguments: Sequence[str], settings: Settings) -> int:
    from service.cli import keys

    return keys.main(arguments, settings)


VERBS = {
    "serve": _run("serve", "answer HTTP and gRPC until told to stop", _serve),
    "work": _run("work", "predict for front ends, through Redis, until told to stop", _work),
    "predict": Verb("predict from two image files, without a server", _predict),
    "video": Verb("predict frames of a video file, or by a service of a folder of them", _video),
    "jobs": Verb("look at, replay and purge what is queued in Redis", _jobs),
    # It asks a service that runs: a file of keys or a secret that is being replaced is no reason to call that unwell.
    "health": Verb(
        "exit 0 if the service on this machine is ready (for container checks)",
        _health,
        reads=("http_host", "http_port", "health_port", "tls_cert", "tls_key", "tls_client_ca"),
    ),
    "keys": Verb("make API keys for DMVFN_API_KEYS_FILE, and check such a file", _keys, reads=("api_keys_file",)),
    "settings": Verb("print the settings in force, where each comes from and its meaning", _settings),
}

if __name__ == "__main__":
    sys.exit(main())
