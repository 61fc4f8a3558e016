"""Threads that wait on virtual time: greenlets which give way to the event loop wherever a thread would block.

`Threads` has the names of `threading` that the service uses, so that its modules can be handed one instead.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty
from typing import Any

import greenlet

from simulator.service.virtual_loop import PROCESS, VirtualLoop


class Waiter:
    """A greenlet that waits; `wake` once, from the loop or another thread."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop, self._greenlet = loop, greenlet.getcurrent()
        self._process = PROCESS.get()  # which waits
        self._is_over = False
        self.is_woken = False

    def wait(self, seconds: float | None) -> bool:
        """Give way until `wake`, or for so long; tell which."""
        timer = None
        if seconds is not None:
            timer = self._loop.call_bare(max(0.0, seconds), self._process, self._switch)
        parent = self._greenlet.parent
        assert parent is not None, "only threads may wait"
        parent.switch()
        if timer is not None:
            timer.cancel()
        return self.is_woken

    def wake(self) -> None:
        """Let it go on soon."""
        if not self.is_woken:
            self.is_woken = True
            self._loop.call_bare(0.0, self._process, self._switch)

    def _switch(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._greenlet.switch()


class VirtualThread:
    """Runs `target` in a greenlet of the process that starts it."""

    def __init__(self, loop: VirtualLoop, target: Callable[[], object], name: str = "") -> None:
        self._loop, self._target, self.name = loop, target, name
        self._process: Any = None
        self._greenlet: Any = None
        self._joining: list[Waiter] = []
        self._has_ended = False

    def start(self) -> None:
        """Begin at the next turn of the loop."""
        self._process = PROCESS.get()
        if self._process is not None:
            self._process.on_death[self] = self._die
        self._loop.call_soon(self._begin)

    def is_alive(self) -> bool:
        """Tell whether it runs still."""
        return self._greenlet is not None and not self._has_ended

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end; to be called from a thread."""
        if not self._has_ended:
            waiter = Waiter(self._loop)
            self._joining.append(waiter)
            waiter.wait(timeout)

    def _begin(self) -> None:
        if self._has_ended:
            return
        self._greenlet = greenlet.greenlet(self._main)
        if self._process is not None:
            self._greenlet.gr_context = self._process.context.copy()
        self._greenlet.switch()

    def _main(self) -> None:
        try:
            self._target()
        finally:
            self._has_ended = True
            if self._process is not None:
                self._process.on_death.pop(self, None)
            for waiter in self._joining:
                waiter.wake()

    def _die(self) -> None:
        """Unwind, as a killed process's thread never gets to do."""
        started, self._has_ended = self._greenlet, True
        if started is not None and not started.dead and started is not greenlet.getcurrent():
            started.throw(greenlet.GreenletExit)


class VirtualEvent:
    """`threading.Event`."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop, self._is_set = loop, False
        self._waiters: list[Waiter] = []

    def is_set(self) -> bool:
        """Tell whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Wake all that wait."""
        self._is_set = True
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            waiter.wake()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, at most `timeout` seconds."""
        if not self._is_set:
            waiter = Waiter(self._loop)
            self._waiters.append(waiter)
            waiter.wait(timeout)
        return self._is_set


class VirtualQueue:
    """`queue.SimpleQueue`, for one reader."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._items: deque[None] = deque()
        self._waiter: Waiter | None = None

    def put(self, item: None) -> None:
        """Append an item and wake the reader."""
        self._items.append(item)
        if self._waiter is not None:
            self._waiter.wake()

    def get(self, block: bool = True, timeout: float | None = None) -> None:
        """Take the next item; raises queue.Empty after `timeout` seconds."""
        if not self._items:
            self._waiter = Waiter(self._loop)
            self._waiter.wait(timeout)
            self._waiter = None
        if not self._items:
            raise Empty
        return self._items.popleft()


class Threads:
    """What stands for the module `threading`, and for a loop's executor."""

    Lock = staticmethod(threading.Lock)
    RLock = staticmethod(threading.RLock)

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        loop.run_in_thread = self.run

    def Thread(self, *, target: Callable[[], object], name: str = "", daemon: bool = True) -> VirtualThread:
        """Make a thread."""
        return VirtualThread(self._loop, target, name)

    def Event(self) -> VirtualEvent:
        """Make an event."""
        return VirtualEvent(self._loop)

    def queue(self) -> VirtualQueue:
        """Make a queue."""
        return VirtualQueue(self._loop)

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass in a thread."""
        Waiter(self._loop).wait(seconds)

    def run(self, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Run a function in a thread and return what waits for its result."""
        outcome = self._loop.create_future()

        def work() -> None:
            try:
                result = func(*args)
            except Exception as error:
                if not outcome.done():
                    outcome.set_exception(error)
            else:
                if not outcome.done():
                    outcome.set_result(result)

        self.Thread(target=work).start()
        return outcome
