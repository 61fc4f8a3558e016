"""`python -m service work --devices`: one worker process for each device of this machine, kept running.

A process that ends is started again, after a pause that grows while it keeps ending; the others go on. Each listens for
metrics and health on a port of its own. Knows nothing of Redis or of what a worker does.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from service.addresses import words_of
from service.settings import PREFIX, Settings, SettingsError

log = logging.getLogger("service.devices")

#: Seconds before a process that ended is started again: the first pause, and the longest of those that double.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
#: A process that ran for so many seconds starts again after the first pause.
SETTLED_S = 60.0
#: Seconds beyond the grace that the processes get to end, before they are killed.
LAST_S = 10.0
#: The status by which a worker says that its settings are wrong: to start it again is of no use.
EXIT_BAD_SETTING = 2
#: The status of one that cannot be started at all.
EXIT_FAILED = 1
#: Prints how many GPUs there are, in a process that then gives its memory back.
COUNT_GPUS = "import torch; print(torch.cuda.device_count())"


@dataclass(frozen=True, slots=True)
class DeviceProcess:
    """A worker's device as people call it, the port of its metrics, and what its environment has beyond ours."""

    device: str
    port: int
    environment: Mapping[str, str]


def plan(text: str, settings: Settings, visible: str, gpus: Callable[[], int], cores: int) -> list[DeviceProcess]:
    """List a process for each device in `text`: `all`, or GPUs' indices, UUIDs (`GPU-…`, `MIG-…`) and `cpu`.

    `visible`: CUDA_VISIBLE_DEVICES, whose order indices follow; `gpus` counts what CUDA sees; the CPU's `cores` are
    shared by its processes. Ports follow one another from the settings' on. Raises SettingsError for what is no device,
    and where two processes would listen on one port.
    """
    names = [str(index) for index in range(gpus())] if text.strip() == "all" else list(words_of(text))
    if not names:
        raise SettingsError("--devices all: CUDA sees no GPU here" if text.strip() == "all" else "--devices is empty")
    duplicates = sorted({name for name in names if name != "cpu" and names.count(name) > 1})
    if duplicates:
        raise SettingsError(f"--devices names {', '.join(duplicates)} twice")
    _check_ports(settings, len(names))
    threads = settings.threads or max(1, cores // max(1, names.count("cpu")))
    metrics_port = settings.metrics_port or settings.health_port or settings.http_port
    processes = []
    for number, name in enumerate(names):
        environment = {f"{PREFIX}{port}": str(value + number) for port, value in _ports(settings) if value}
        environment |= _device(name, words_of(visible))
        if name == "cpu":
            environment[f"{PREFIX}THREADS"] = str(threads)
        processes.append(DeviceProcess(name, metrics_port and metrics_port + number, environment))
    return processes


def _ports(settings: Settings) -> tuple[tuple[str, int], ...]:
    """Return the first port of each kind that a worker listens on, by its setting; 0: any, or none."""
    return (
        ("HTTP_PORT", settings.http_port),
        ("HEALTH_PORT", settings.health_port),
        ("METRICS_PORT", settings.metrics_port),
    )


def _check_ports(settings: Settings, count: int) -> None:
    """Raise SettingsError where the ports of `count` processes overlap. One process may have two kinds on one port."""
    for (name, first), (other, second) in itertools.combinations(_ports(settings), 2):
        is_one_port = first == second and "HTTP_PORT" not in (name, other)
        if first and second and abs(first - second) < count and not is_one_port:
            raise SettingsError(
                f"--devices: {count} workers need {count} ports from {PREFIX}{name} ({first}) on, and as many from "
                f"{PREFIX}{other} ({second}) on: put them further apart"
            )


def _device(name: str, visible: Sequence[str]) -> dict[str, str]:
    """Return the variables by which a process sees this device alone, so that it takes no memory on others."""
    if name == "cpu":
        return {f"{PREFIX}DEVICE": "cpu"}
    if name.isascii() and name.isdigit():
        if visible and int(name) >= len(visible):
            raise SettingsError(f"--devices {name}: CUDA_VISIBLE_DEVICES names {len(visible)}")
        name = visible[int(name)] if visible else name
    elif not name.startswith(("GPU-", "MIG-")):
        raise SettingsError(f"--devices {name[:40]!r}: must be all, or indices, GPU-… or MIG-… UUIDs and cpu")
    return {f"{PREFIX}DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": name}


class DeviceSupervisor:
    """Keeps a process of `command` running for each device until it is told to stop."""

    def __init__(self, command: Sequence[str], grace_s: float, first_pause_s: float = FIRST_PAUSE_S) -> None:
        """Take the command, and the seconds that processes get to finish what they accepted."""
        self._command, self._grace_s, self._first_pause_s = command, grace_s, first_pause_s
        self._stop = asyncio.Event()
        self._running: set[asyncio.subprocess.Process] = set()
        self._status = 0

    def signalled(self, number: int) -> None:
        """Pass a signal on to every process, and start none again. A second one reaches them as a second one."""
        self._stop.set()
        for process in self._running:
            _send(process, number)

    async def run(self, processes: Sequence[DeviceProcess]) -> int:
        """Run until signalled, or until a process finds its settings wrong; return the highest exit status at the end.

        A status by a signal counts as 128 and its number, as shells count.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.signalled, number)
        try:
            await asyncio.gather(*(self._keep(process) for process in processes))
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
        return self._status

    async def _keep(self, place: DeviceProcess) -> None:
        pause = self._first_pause_s
        while not self._stop.is_set():
            start = time.monotonic()
            status = await self._once(place)
            if self._stop.is_set():
                # Ended by the signal itself: it had not begun to listen for it, nor to work.
                is_unbegun = status in (128 + signal.SIGTERM, 128 + signal.SIGINT)
                self._status = max(self._status, 0 if is_unbegun else status)
                return
            if status == EXIT_BAD_SETTING:
                self._status = status
                self.signalled(signal.SIGTERM)
                return
            if time.monotonic() - start >= SETTLED_S:
                pause = self._first_pause_s
            log.error("the worker on %s ended with status %d; again in %.1f s", place.device, status, pause)
            await self._rest(pause * random.uniform(0.8, 1.2))
            pause = min(LONGEST_PAUSE_S, 2 * pause)

    async def _once(self, place: DeviceProcess) -> int:
        """Run the process to its end; once it is to stop, for the grace at most. Return its exit status."""
        # A session of its own: Ctrl-C on a terminal reaches us alone, and them once, by us.
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command, env={**os.environ, **place.environment}, start_new_session=True
            )
        except OSError as error:  # no memory for one more, say
            log.error("the worker on %s cannot be started: %s", place.device, error)
            return EXIT_FAILED
        self._running.add(process)
        log.info("the worker on %s is process %d, metrics on port %d", place.device, process.pid, place.port)
        if self._stop.is_set():  # signalled while it started
            _send(process, signal.SIGTERM)
        ending = asyncio.ensure_future(process.wait())  # awaited below
        stopping = asyncio.ensure_future(self._stop.wait())  # ended below
        try:
            await asyncio.wait({ending, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({ending}, timeout=self._grace_s + LAST_S)
            if not ending.done():
                log.error("the worker on %s did not end in time and is killed", place.device)
                _send(process, signal.SIGKILL)
            status = await ending
        finally:
            stopping.cancel()
            self._running.discard(process)
        return 128 - status if status < 0 else status

    async def _rest(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return


def _send(process: asyncio.subprocess.Process, number: int) -> None:
    """Send a signal to a process that has not ended.

    Its own `send_signal` polls first, and takes the exit status from asyncio, which then reports 255.
    """
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def main(devices: str, settings: Settings) -> int:
    """Run a worker for each device until told to stop; return the exit status."""
    try:
        visible, cores = os.environ.get("CUDA_VISIBLE_DEVICES", ""), len(os.sched_getaffinity(0))
        processes = plan(devices, settings, visible, _count_gpus, cores)
    except SettingsError as error:
        print(error, file=sys.stderr)
        return EXIT_BAD_SETTING
    supervisor = DeviceSupervisor([sys.executable, "-m", "service", "work"], settings.shutdown_grace_s)
    return asyncio.run(supervisor.run(processes))


def _count_gpus() -> int:
    import subprocess

    answer = subprocess.run([sys.executable, "-c", COUNT_GPUS], capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SettingsError(f"--devices all: the GPUs cannot be counted: {answer.stderr.strip()[-200:]}")
    return int(answer.stdout)
