"""Ends a command as shells expect: in order when it is told to stop, and in one line where its output can go nowhere.

Knows no verb. What runs until it is told to stop (`serve`, `work`) has an end of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from types import FrameType

#: What tells a command to stop, beside Ctrl-C: a supervisor or a time limit, and a terminal that is closed.
STOPPING = (signal.SIGTERM, signal.SIGHUP)
#: What a shell reports of a command that a signal ended is this and the signal's number.
SIGNALLED = 128
FAILED = 1


def ended_in_order(name: str, work: Callable[[], int]) -> int:
    """Run a command and return its exit status; what it leaves behind is removed by itself, as after Ctrl-C.

    Returns 128 and the number of the signal that stopped it, and 1 where standard output takes nothing more.
    """
    with _stopped_by_signals() as numbers:
        try:
            status = work()
            _flush()
        except BrokenPipeError:
            _give_up_output()
            return FAILED
        except OSError as error:
            if error.filename is not None:
                raise
            _give_up_output()
            print(f"{name}: {error.strerror or error}", file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:
            print(f"{name}: stopped", file=sys.stderr)
            status = SIGNALLED + signal.SIGINT
    return SIGNALLED + numbers[0] if numbers else status


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Treat STOPPING as Ctrl-C during the block; yield the numbers of those that came."""
    numbers: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        numbers.append(number)
        signal.raise_signal(signal.SIGINT)

    # What nohup has ignored stays ignored.
    taken = [number for number in STOPPING if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, interrupt)
    try:
        yield numbers
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _flush() -> None:
    if sys.stdout is not None:  # closed by who started it
        sys.stdout.flush()


def _give_up_output() -> None:
    """Let what is not yet written go nowhere: Python tries once more at its end, and would complain."""
    if sys.stdout is not None:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, sys.stdout.fileno())
            os.close(nowhere)
