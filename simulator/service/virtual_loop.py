"""An event loop whose time is a number: it jumps to the next timer when nothing is left to do now.

Everything runs in one thread, in an order that depends on nothing but what was asked of the loop. Each callback belongs
to a simulated process, which can be stopped for a while or for ever.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Coroutine
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
        self._held: list[Callback] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def run(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run `work` as this process."""
        return self.context.copy().run(self._loop.create_task, work)

    def hold(self, callback: Callback) -> None:
        """Keep a callback for when the process goes on."""
        self._held.append(callback)

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

    def forget(self, ended: asyncio.Task[Any]) -> None:
        """Let go of a task that has ended."""
        self.tasks.pop(ended, None)

    def _bury(self) -> None:
        open_tasks = [task for task in self.tasks if not task.done()]
        for task in open_tasks:
            task.cancel()
        if open_tasks:
            self._loop.call_later(0.01, self._bury, context=self.context)


PROCESS: contextvars.ContextVar[SimulatedProcess | None] = contextvars.ContextVar("process", default=None)


class Callback:
    """What a loop is to call, instead of asyncio's handles, which take longer to make than most of it takes to run.

    `context` None: it is called in the loop's own.
    """

    __slots__ = ("arguments", "context", "function", "is_cancelled", "process", "time")

    def __init__(
        self,
        function: Callable[..., object],
        arguments: tuple[Any, ...],
        context: contextvars.Context | None,
        process: SimulatedProcess | None,
        time: float = 0.0,
    ) -> None:
        self.function, self.arguments, self.context, self.process = function, arguments, context, process
        self.time = time
        self.is_cancelled = False

    def cancel(self) -> None:
        """Do not call it."""
        self.is_cancelled = True

    def cancelled(self) -> bool:
        """Tell whether it will not be called."""
        return self.is_cancelled

    def when(self) -> float:
        """Return the virtual time at which it is to be called."""
        return self.time


_NUMBERS = itertools.count()


class OrderedTask(asyncio.Task[T]):
    """A task whose place in a set depends on when it was first put into one, not on where it lies in memory."""

    _number = -1

    def __hash__(self) -> int:
        if self._number < 0:
            self._number = next(_NUMBERS)
        return self._number


class OrderedFuture(asyncio.Future[T]):
    """A future whose place in a set depends on when it was first put into one."""

    _number = -1

    def __hash__(self) -> int:
        if self._number < 0:
            self._number = next(_NUMBERS)
        return self._number


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop on virtual time, seconds from `start`."""

    def __init__(self, start: float = 1000.0) -> None:
        super().__init__()
        self.now = start
        self._timers: list[tuple[float, int, Callback]] = []
        self._timer_count = 0
        self._at_once = 0
        self._ready: deque[Callback]
        self._stopping: bool
        self.steps = 0  #: callbacks run
        self.run_in_thread: Callable[..., asyncio.Future[Any]] | None = None  #: what `run_in_executor` does

    def time(self) -> float:
        """Return the virtual time."""
        return self.now

    # --- what is to be called ---------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]  # typeshed binds the arguments to the callback's
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """Call in the order of asking, before time moves on."""
        if context is None:
            context = contextvars.copy_context()
        handle = Callback(callback, args, context, context.get(PROCESS))
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # all threads of a simulation are one

    def call_later(  # type: ignore[override]  # as above
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """Call in so many virtual seconds."""
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as above
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> Callback:
        """Call at a virtual time; what was asked for first comes first among equal times."""
        if context is None:
            context = contextvars.copy_context()
        return self._add_timer(Callback(callback, args, context, context.get(PROCESS), when))

    def call_bare(
        self, delay: float, process: SimulatedProcess | None, function: Callable[..., object], *arguments: Any
    ) -> Callback:
        """Call in so many virtual seconds, in no context; it waits while `process` stands still."""
        return self._add_timer(Callback(function, arguments, None, process, self.now + delay))

    def run_soon(self, held: list[Callback]) -> None:
        """Run callbacks that were held back, in their order."""
        self._ready.extend(held)

    def _add_timer(self, callback: Callback) -> Callback:
        self._timer_count += 1
        heapq.heappush(self._timers, (callback.time, self._timer_count, callback))
        return callback

    # --- what is waited for -----------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        """Return a future that is ordered by its age."""
        return OrderedFuture(loop=self)

    def create_task(
        self, coro: Any, *, name: object = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Return a task that is ordered by its age, and ends with its process."""
        task: OrderedTask[Any] = OrderedTask(coro, loop=self, name=name, context=context)  # type: ignore[arg-type]
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks[task] = None
            task.add_done_callback(process.forget)
        return task

    def run_in_executor(  # type: ignore[override]  # as above
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Run a function as a thread would, which may wait on virtual time."""
        assert self.run_in_thread is not None
        return self.run_in_thread(func, *args)

    # --- turns ------------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Run turns until the loop is told to stop: one at least, as asyncio's own loop does."""
        ready, timers = self._ready, self._timers
        while True:
            if not ready:
                self._jump()
            while timers and timers[0][0] <= self.now:
                ready.append(heapq.heappop(timers)[2])
            self._at_once += len(ready)
            if self._at_once > MOST_AT_ONCE:
                what = f"{self._at_once} callbacks at one instant, {self.now:.6f}"
                raise EndlessLoop(f"{what}; the next is {ready[0].function!r}")
            for _ in range(len(ready)):
                callback = ready.popleft()
                if callback.is_cancelled:
                    continue
                process = callback.process
                if process is not None and process.is_paused:
                    process.hold(callback)
                    continue
                self.steps += 1
                context = callback.context
                try:
                    if context is None:
                        callback.function(*callback.arguments)
                    else:
                        context.run(callback.function, *callback.arguments)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    self.call_exception_handler({"message": f"in {callback.function!r}", "exception": error})
            if self._stopping:
                return

    def _jump(self) -> None:
        """Let time pass until the next timer. Raises EndlessLoop where there is none."""
        timers = self._timers
        while timers and timers[0][2].is_cancelled:
            heapq.heappop(timers)
        if not timers and not self._stopping:
            raise EndlessLoop("nothing will ever happen again")
        if timers and timers[0][0] > self.now:
            self.now, self._at_once = timers[0][0], 0

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there are no sockets."""
