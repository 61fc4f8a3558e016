"""A fleet of real processes to be killed, stopped and replaced."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from service.settings import Settings
from tests.system.chaos import processes


class Fleet:
    """Workers and front ends. A killed one is replaced at once, as an orchestrator would."""

    def __init__(self, settings: Settings, folder: Path, workers: int, fronts: int, rng: random.Random) -> None:
        self._settings = settings
        self._orders = folder / "orders"
        self._orders.mkdir()
        self._rng = rng
        # Faults and `tend` come from two threads: both would replace one dead worker, and one of the two be forgotten.
        self._lock = threading.RLock()
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.system.chaos.processes"])
        self.sockets = [str(folder / f"f{k}") for k in range(fronts)]
        self.fronts = [self._front(socket) for socket in self.sockets]
        self.workers = [self._worker() for _ in range(workers)]
        self.exits: list[int | None] = []  #: of workers that ended by themselves
        self._stopped: dict[int, float] = {}

    def _worker(self) -> BaseProcess:
        process = self._context.Process(
            target=processes.worker_main, args=(self._settings, str(self._orders)), daemon=True
        )
        process.start()
        return process

    def _front(self, socket: str) -> BaseProcess:
        Path(socket).unlink(missing_ok=True)
        process = self._context.Process(target=processes.front_main, args=(self._settings, socket), daemon=True)
        process.start()
        return process

    def kill_worker(self) -> None:
        """SIGKILL to one that runs."""
        with self._lock:
            k = self._rng.randrange(len(self.workers))
            self._kill(self.workers[k])
            self.workers[k] = self._worker()

    def kill_front(self) -> None:
        """SIGKILL to one."""
        k = self._rng.randrange(len(self.fronts))
        self._kill(self.fronts[k])
        self.fronts[k] = self._front(self.sockets[k])

    def stop_worker(self, seconds: float) -> bool:
        """SIGSTOP to one for so long; False if all others are stopped already."""
        running = [w for w in self.workers if w.pid not in self._stopped and w.is_alive()]
        if len(running) < 2:
            return False
        process = self._rng.choice(running)
        assert process.pid
        os.kill(process.pid, signal.SIGSTOP)
        self._stopped[process.pid] = time.monotonic() + seconds
        return True

    def order(self, what: str, *, of_all: bool = False) -> None:
        """Tells the device of one worker, or of all, what to do from now on: see `processes.HarmedDevice`."""
        for worker in self.workers if of_all else [self._rng.choice(self.workers)]:
            temporary = self._orders / "next"
            temporary.write_text(what)
            temporary.replace(self._orders / str(worker.pid))

    def tend(self) -> None:
        """Wakes the stopped whose time is over, replaces those that ended."""
        with self._lock:
            for pid, until in list(self._stopped.items()):
                if time.monotonic() >= until:
                    del self._stopped[pid]
                    if any(w.pid == pid and w.is_alive() for w in self.workers):
                        os.kill(pid, signal.SIGCONT)
            for k, worker in enumerate(self.workers):
                if not worker.is_alive():
                    self.exits.append(worker.exitcode)
                    self.workers[k] = self._worker()

    def wake_all(self) -> None:
        """No one stays stopped."""
        self._stopped = dict.fromkeys(self._stopped, 0.0)
        self.tend()

    def drain(self) -> list[int | None]:
        """SIGTERM to the workers; their exit codes."""
        for worker in self.workers:
            worker.terminate()
        for worker in self.workers:
            worker.join(30)
        return [worker.exitcode for worker in self.workers]

    def end(self) -> None:
        """All of them, however they are."""
        for process in (*self.workers, *self.fronts):
            if process.is_alive():
                self._kill(process)

    def _kill(self, process: BaseProcess) -> None:
        self._stopped.pop(process.pid or 0, None)
        process.kill()
        process.join(10)
