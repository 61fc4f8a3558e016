#!/usr/bin/env bash
# uvicorn 0.54.0: after a graceful stop by SIGTERM nothing of the program that awaited Server.serve() runs any more.
#
# A program awaits uvicorn.Server(...).serve() in a try block with a finally, and has an atexit function. Sent SIGINT,
# it runs all of that. Sent SIGTERM, uvicorn does its own orderly shutdown, and then the process is gone.
#
# Output seen (CPython 3.11.7):
#     uvicorn 0.54.0
#     SIGINT: exit -2, steps: startup serving shutdown after-serve finally atexit
#     SIGTERM: exit -15, steps: startup serving shutdown
#
# Why it surprises: SIGTERM is how supervisors ask for an orderly stop, and uvicorn itself does that, with its lifespan;
# yet the caller's cleanup is skipped just for that signal, without a warning, and the exit status says killed.
# Uvicorn puts the old handlers back and raises the signal again inside serve(): for SIGINT that ends in a
# KeyboardInterrupt, for SIGTERM the system's own handling, which ends the process on the spot. A program that needs its
# own cleanup has to set a SIGTERM handler of its own before serve().
# Known upstream in part: raising the signal again, and the exit status, are wanted (Kludex/uvicorn pull request 1600);
# that child processes are left behind was reported in issue 2289.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check uvicorn==0.54.0 click==8.5.1 h11==0.16.0
cat >"$work/program.py" <<'PY'
import asyncio
import atexit

import uvicorn


async def app(scope, receive, send):
    while scope["type"] == "lifespan":
        step = (await receive())["type"].removeprefix("lifespan.")
        print(step, flush=True)
        await send({"type": f"lifespan.{step}.complete"})
        if step == "shutdown":
            return


class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print("serving", flush=True)


async def main():
    try:
        await Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning")).serve()
        print("after-serve", flush=True)
    finally:
        print("finally", flush=True)


atexit.register(print, "atexit", flush=True)
asyncio.run(main())
PY
cat >"$work/find.py" <<'PY'
import importlib.metadata
import pathlib
import signal
import subprocess
import sys

PROGRAM = pathlib.Path(__file__).with_name("program.py")


def stop_by(number):
    with subprocess.Popen(
        [sys.executable, PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        steps = []
        while not steps or steps[-1] != "serving":
            steps.append(process.stdout.readline().strip() or sys.exit("the program did not start"))
        process.send_signal(number)
        steps += process.stdout.read().split()
    print(f"{number.name}: exit {process.returncode}, steps: {' '.join(steps)}")
    return steps, process.returncode


print("uvicorn", importlib.metadata.version("uvicorn"))
orderly = ["startup", "serving", "shutdown"]
steps, _ = stop_by(signal.SIGINT)
whole = steps == [*orderly, "after-serve", "finally", "atexit"]
steps, code = stop_by(signal.SIGTERM)
if not whole or steps != orderly or code != -signal.SIGTERM:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
