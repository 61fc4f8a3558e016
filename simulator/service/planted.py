"""Faults put into the service on purpose, each a few words of its own code, to see that the checker catches them.

    python -m simulator.service planted

Nothing on disk changes: a script or a function is replaced for the length of a block.
"""

from __future__ import annotations
import __future__

import contextlib
import dataclasses
import hashlib
import inspect
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from service.distributed.broker import scripts
from service.distributed.frontend.engine import QueuedEngine
from service.distributed.frontend.queue_client import QueueClient
from service.distributed.worker import outcomes
from service.distributed.worker.claims import Claims
from service.distributed.worker.runs import ItemRuns
from service.engine.device_thread import DeviceThread
from service.serving.streaming.session import Session
from simulator.service.run import Outcome, Plan, Simulation


@dataclass(frozen=True, slots=True)
class LuaEdit:
    """Words of a script, as sent, and what stands there instead."""

    script: str
    old: str
    new: str = ""


@dataclass(frozen=True, slots=True)
class PythonEdit:
    """Words of a function of `owner` (a class or a module), and what stands there instead."""

    owner: Any
    function: str
    old: str
    new: str = ""


@dataclass(frozen=True, slots=True)
class PlantedFault:
    """A fault, the kinds of harm under which it shows, and a seed that catches it."""

    name: str
    edits: tuple[LuaEdit | PythonEdit, ...]
    kinds: tuple[str, ...] = ("next release",)
    seed: int = 0

    def plan(self) -> Plan:
        """Return the plan of its seed, with its kinds of harm."""
        return dataclasses.replace(Plan.draw(self.seed), kinds=self.kinds)


KILLS = ("worker killed",)
PAUSES = ("process paused", "devices slow")
LOSSES = ("device breaks",)
DECREMENT = "redis.call('HINCRBY', load, '{}', {})"
#: What sets counts right that are wrong, once nothing is queued.
CORRECTION = (
    "if redis.call('SCARD', buckets) == 0 then "
    "redis.call('HSET', load, 'items', 0, 'bytes', 0, 'work', 0, 'live', 0) end"
)
UNCORRECTED = tuple(LuaEdit(script, CORRECTION) for script in ("SETTLE", "CANCEL"))

FAULTS = (
    PlantedFault(
        "settle: anyone may end an item",
        (LuaEdit("SETTLE", "if owner ~= worker and not may_bury then return {0} end"),),
        PAUSES,
        3,
    ),
    PlantedFault(
        "settle: an answered item stays, and is answered again",
        (
            LuaEdit("SETTLE", "leave()\nif new_state == 'failed'", "if new_state == 'failed'"),
            LuaEdit("SETTLE", "if not is_open or answered or how", "if not is_open or how"),
            LuaEdit("BEGIN", "if answered then return {'done'} end"),
        ),
        ("devices slow",),
    ),
    PlantedFault(
        "settle: items are not counted down", (LuaEdit("SETTLE", DECREMENT.format("items", -1)), *UNCORRECTED)
    ),
    PlantedFault(
        "settle: bytes are not counted down",
        (LuaEdit("SETTLE", DECREMENT.format("bytes", "0 - tonumber(entry['b'])")), *UNCORRECTED),
    ),
    PlantedFault(
        "settle: a job ends one item too late",
        (LuaEdit("SETTLE", "== tonumber(items) then", "> tonumber(items) then"),),
    ),
    PlantedFault(
        "settle: the front end is not told", (LuaEdit("SETTLE", "redis.call('XADD', reply, '*', 'j', job_id)"),)
    ),
    PlantedFault(
        "settle: frames of what is done stay",
        (LuaEdit("SETTLE", "  else\n    redis.call('UNLINK', payload)\n  end", "  end"),),
    ),
    PlantedFault(
        "cancel: frames of what is withdrawn stay", (LuaEdit("CANCEL", "redis.call('UNLINK', payload)"),), KILLS
    ),
    PlantedFault(
        "submit: no worker is woken", (LuaEdit("SUBMIT", "redis.call('LPUSH', wake, unpack(tokens))"),), seed=1
    ),
    PlantedFault(
        "claim: turns do not move on",
        (LuaEdit("CLAIM", "math.max(least_us, tonumber(fields(entry[2])['w']) or 0)", "0"),),
    ),
    PlantedFault(
        "lapsed: a dead worker's items are not seen", (LuaEdit("LAPSED", "rows.err and {} or rows", "{}"),), KILLS, 2
    ),
    PlantedFault(
        "settle: frames of a call withdrawn before it came stay",
        (
            LuaEdit(
                "SETTLE",
                "if state == 'cancelled' then\n  redis.call('UNLINK', payload)",
                "if state == 'cancelled' then",
            ),
        ),
        ("link cut", "link slow"),
    ),
    PlantedFault(
        "engine: a caller who leaves is not withdrawn",
        (PythonEdit(QueuedEngine, "predict", "elif may_be_queued:", "elif False:"),),
    ),
    PlantedFault(
        "worker: withdrawals are not heard",
        (PythonEdit(ItemRuns, "withdraw", "if item.job in jobs:", "if False:"),),
        seed=2,
    ),
    PlantedFault(
        "engine: calls outlive their deadline",
        (PythonEdit(QueuedEngine, "predict", "asyncio.timeout(seconds)", "asyncio.timeout(None)"),),
        ("server hangs", "worker killed"),
    ),
    PlantedFault(
        "scripts: a server that forgot them is not told again",
        (PythonEdit(scripts, "call", "except redis.exceptions.NoScriptError:", "except ZeroDivisionError:"),),
        ("server restarts",),
    ),
    PlantedFault(
        "front end: the sign of life is given once",
        (PythonEdit(QueueClient, "_live", "asyncio.sleep(PULSE_S)", "asyncio.sleep(1e6)"),),
    ),
    PlantedFault(
        "device: answers of a batch change places",
        (PythonEdit(DeviceThread, "_run_batch", "run_isolated(run, active,", "run_isolated(run, active[::-1],"),),
    ),
    PlantedFault(
        "worker: an item gets its neighbour's frame",
        (PythonEdit(Claims, "_frames_command", "str(index + 1)", "str(index)"),),
    ),
    PlantedFault(
        "stream: what is ready first is sent first",
        (
            PythonEdit(
                Session,
                "finish",
                "self._open.pop(sequence).outcome = outcome",
                "entry = self._open.pop(sequence); entry.outcome = outcome; "
                "self._entries.remove(entry); self._entries.appendleft(entry)",
            ),
        ),
        ("link slow", "worker killed"),
    ),
    PlantedFault(
        "fate: given up at once, not after the last run",
        (PythonEdit(outcomes, "fate", "run.delivery >= run.max_deliveries", "run.delivery <= run.max_deliveries"),),
        LOSSES,
    ),
    PlantedFault(
        "fate: a lost device is the item's fault",
        (PythonEdit(outcomes, "fate", "(RunEnd.ANSWERED,", "(RunEnd.DEVICE_LOST,"),),
        LOSSES,
    ),
)


@contextlib.contextmanager
def planted(fault: PlantedFault) -> Iterator[None]:
    """Let the service have this fault in the block. Raises ValueError where its code has changed since."""
    with contextlib.ExitStack() as stack:
        for edit in fault.edits:
            if isinstance(edit, LuaEdit):
                owner, name, value = scripts, edit.script, _edited_script(edit)
                owners = [owner]
            else:
                name, value = edit.function, _edited_function(edit)
                owners = [edit.owner]
            for owner in owners:
                stack.callback(setattr, owner, name, inspect.getattr_static(owner, name))
                setattr(owner, name, value)
        yield


def caught(fault: PlantedFault, seed: int | None = None) -> Outcome:
    """Play the fault's seed, or another, with the fault in place."""
    plan = fault.plan() if seed is None else dataclasses.replace(fault, seed=seed).plan()
    with planted(fault):
        return Simulation(plan).run()


def _edited_script(edit: LuaEdit) -> scripts.Script:
    script: scripts.Script = getattr(scripts, edit.script)
    text = _replaced(script.text, edit)
    return dataclasses.replace(script, text=text, sha=hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def _edited_function(edit: PythonEdit) -> Any:
    function = getattr(edit.owner, edit.function)
    text = _replaced(textwrap.dedent(inspect.getsource(function)), edit)
    names: dict[str, Any] = {}
    code = compile(text, f"<planted in {edit.function}>", "exec", flags=__future__.annotations.compiler_flag)
    exec(code, function.__globals__, names)  # nosec B102  # the text of our own function, with one planted edit
    return names[edit.function]


def _replaced(text: str, edit: LuaEdit | PythonEdit) -> str:
    if edit.old not in text:
        raise ValueError(f"{edit.old!r} is not there any more")
    return text.replace(edit.old, edit.new, 1)
