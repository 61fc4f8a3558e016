"""An event loop whose time is a number: it jumps to the next timer when nothing is left to do now.

Everything runs in one thread, in an order that depends on nothing but what was asked of the loop. Each callback belongs
to a simulated process, which can be stopped for a while or for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

#: Callbacks that may run at one instant; more are a loop that never waits.
MOST_AT_ONCE = 200_000


class EndlessLoop(Exception):
    """Virtual time stands still, or nothing will ever happen again, while something is waited for."""


class SimulatedProcess:
    """What is started together and stops together. `context` marks its callbacks."""

    def __init__(self, name: str, loop: VirtualLoop) -> None:
        self.name, self._loop = name, loop
        self.is_paused = self.is_dead = False
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.on_death: dict[object, Callable[[], None]] = {}
        self._held: list[asyncio.Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as this process."""
        return self.context.copy().run(self._loop.create_task, work)

    def hold(self, handle: asyncio.Handle) -> None:
        """Keep a callback for when the process goes on."""
        self._held.append(handle)

    def pause(self) -> None:
        """Run nothing of it, as SIGSTOP does; what reaches it waits."""
        self.is_paused = True

    def go_on(self) -> None:
        """Run again, what was held first."""
        self.is_paused = False
        held, self._held = self._held, []
        self._loop.run_soon(held)

    def kill(self) -> None:
        """End it as SIGKILL does: from now on nothing that it does reaches anybody.

        Its tasks are ended one by one, so that nothing of it stays behind in memory.
        """
        if not self.is_dead:
            self.is_dead = True
            for callback in list(self.on_death.values()):
                callback()
            if self.is_paused:
                self.go_on()
            self._bury()

    def _bury(self) -> None:
        open_tasks = [task for task in self.tasks if not task.done()]
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            self._loop.call_later(0.01, self._bury, context=self.context)


PROCESS: contextvars.ContextVar[SimulatedProcess | None] = contextvars.ContextVar("process", default=None)


class OrderedTask(asyncio.Task[T]):
    """A task whose place in a set depends on when it was made, not on where it lies in memory."""

    def __init__(self, coro: Generator[Any, None, T] | Coroutine[Any, Any, T], **options: Any) -> None:
        self._number = next(_NUMBERS)
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class OrderedFuture(asyncio.Future[T]):
    """A future whose place in a set depends on when it was made."""

    def __init__(self, **options: Any) -> None:
        self._number = next(_NUMBERS)
        super().__init__(**options)

    def __hash__(self) -> int:
        return self._number


_NUMBERS = itertools.count()


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop on virtual time, seconds from `start`."""

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self.now = start
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._at_once = 0
        self._ready: Any
        self.steps = 0  #: callbacks run
        self.run_in_thread: Callable[..., asyncio.Future[Any]] | None = None  #: what `run_in_executor` does
        self.set_task_factory(self._make_task)

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    def call_at(  # type: ignore[override]  # typeshed binds the arguments to the callback's
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """Call at a virtual time; what was asked for first comes first among equal times."""
        self._check_closed()  # type: ignore[attr-defined]
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that is ordered by its age."""
        return OrderedFuture(loop=self)

    def run_in_executor(  # type: ignore[override]  # as above
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function as a thread would, which may wait on virtual time."""
        assert self.run_in_thread is not None
        return self.run_in_thread(func, *args)

    def call_soon_threadsafe(  # type: ignore[override]  # as above
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """Call soon: all threads of a simulation are one."""
        return self.call_soon(callback, *args, context=context)

    def run_soon(self, handles: list[asyncio.Handle]) -> None:
        """Run callbacks that were held back, in their order."""
        self._ready.extend(handles)

    def _make_task(self, loop: Any, work: Any, context: contextvars.Context | None = None) -> asyncio.Task[Any]:
        task: OrderedTask[Any] = OrderedTask(work, loop=self, context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(lambda ended: process.tasks.pop(ended, None))
        return task

    def _run_once(self) -> None:
        ready, timers = self._ready, self._timers
        if not ready:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            if not timers and not self._stopping:  # type: ignore[attr-defined]
                raise EndlessLoop("nothing will ever happen again")
            if timers and timers[0][0] > self.now:
                self.now, self._at_once = timers[0][0], 0
        while timers and timers[0][0] <= self.now:
            ready.append(heapq.heappop(timers)[2])
        self._at_once += len(ready)
        if self._at_once > MOST_AT_ONCE:
            raise EndlessLoop(f"{self._at_once} callbacks at one instant, {self.now:.6f}; the next is {ready[0]!r}")
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:
                continue
            process = handle._context.get(PROCESS)
            if process is not None and process.is_paused:
                process.hold(handle)
                continue
            self.steps += 1
            handle._run()

    def _write_to_self(self) -> None:
        """Wake nobody: there is one thread."""

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there are no sockets."""

    def _timer_handle_cancelled(self, handle: Any) -> None:
        """Do nothing: cancelled timers are passed over when their time comes."""
