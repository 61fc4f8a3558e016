"""Loads the Lua of `lua/` and calls it: one script for each move of an item that must not be interrupted.

A script begins with a header of comments, which is read here: `-- KEYS[1] name` and `-- ARGV[1] name`, in order, a line
each, then what the value is; `-- KEYS[2...] names` for as many keys as the caller has. `bind` takes values by these
names. After the header, each line `-- include FILE` is replaced by the text of `lua/include/FILE`. A header that
names other keys or arguments than the code below it uses stops the import.

Scripts are written so that a full server can still drain. Redis refuses a script's growing commands (HSET, SET, XADD)
when memory is full *unless the script has written before*; every script that ends or withdraws work therefore begins
with a write that needs no memory (UNLINK, PEXPIRE). That holds on Redis 6.2 and 7 and on Valkey 8 and 9 alike, so none
needs the `#!lua flags=allow-oom` that 6.2 does not know. Scripts touch only the keys they are given (Cluster).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis
import redis.cluster

from service.distributed.broker.client import AsyncRedis, SyncRedis, classify, refused

LUA = Path(__file__).parent / "lua"
_DECLARATION = re.compile(r"-- (KEYS|ARGV)\[(\d+)(\.\.\.)?\] (\w+)")
_INCLUDE = re.compile(r"^-- include (\w+\.lua)$", re.MULTILINE)
_COMMENT = re.compile(r"--.*")


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script; `sha` names it to the server. `more_keys` follow `keys`, as many as a caller has, if `is_open`."""

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    is_open: bool = False

    def bind(self, *more_keys: str, **values: str | int | bytes) -> ScriptCall:
        """Give every key and argument of the header its value, by name. Raise TypeError for other names."""
        names = (*self.keys, *self.args)
        if values.keys() != set(names) or (more_keys and not self.is_open):
            wrong = sorted(values.keys() ^ set(names))
            raise TypeError(f"{self.name} takes {', '.join(names)}; not given or not taken: {', '.join(wrong)}")
        keys = (*(str(values[name]) for name in self.keys), *more_keys)
        return ScriptCall(self, keys, tuple(values[name] for name in self.args))


@dataclass(frozen=True, slots=True)
class ScriptCall:
    """A script with its keys and arguments in the header's order."""

    script: Script
    keys: tuple[str, ...]
    args: tuple[str | int | bytes, ...]

    @property
    def command(self) -> tuple[str | int | bytes, ...]:
        """Return the EVALSHA command, for a pipeline. The server answers NoScriptError where it lacks the script."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.args)


async def call(client: AsyncRedis, bound: ScriptCall) -> Any:
    """Run a script; send its text where the server does not know it yet (new, restarted, failed over).

    Raises WritesRefused beside what redis-py raises.
    """
    try:
        try:
            return await client.execute_command(*bound.command)
        except redis.exceptions.NoScriptError:
            return await client.eval(bound.script.text, len(bound.keys), *bound.keys, *bound.args)
    except redis.ResponseError as error:
        raise await refused(client, error) from error


def call_sync(client: SyncRedis, bound: ScriptCall) -> Any:
    """Run a script as `call` does, from a thread."""
    try:
        try:
            return client.execute_command(*bound.command)
        except redis.exceptions.NoScriptError:
            return client.eval(bound.script.text, len(bound.keys), *bound.keys, *bound.args)
    except redis.ResponseError as error:
        raise classify(error) from error


def call_many_sync(client: SyncRedis, calls: Sequence[ScriptCall]) -> list[Any]:
    """Run scripts as `call_sync` does, in one round trip; return their answers, errors among them.

    redis-py lets no script into a Cluster's pipeline, so there they go one after the other.
    """
    if not calls:
        return []
    if isinstance(client, redis.cluster.RedisCluster):
        return [call_sync(client, bound) for bound in calls]
    pipe = client.pipeline(transaction=False)
    for bound in calls:
        pipe.execute_command(*bound.command)
    answers = pipe.execute(raise_on_error=False)
    return [_answer_of(client, bound, answer) for bound, answer in zip(calls, answers, strict=True)]


def _answer_of(client: SyncRedis, bound: ScriptCall, answer: Any) -> Any:
    if isinstance(answer, redis.exceptions.NoScriptError):
        return call_sync(client, bound)
    return classify(answer) if isinstance(answer, Exception) else answer


def parse(name: str, source: str) -> Script:
    """Read a script's header and put its includes in. Raise ValueError where the code does not match the header."""
    lines = source.splitlines()
    header = next((lines[:i] for i, line in enumerate(lines) if not line.startswith("--")), lines)
    names: dict[str, list[str]] = {"KEYS": [], "ARGV": []}
    open_lists = []
    for declaration in filter(None, map(_DECLARATION.match, header)):
        which, number, dots, word = declaration.groups()
        if which in open_lists or int(number) != len(names[which]) + 1:
            raise ValueError(f"{name}: {which}[{number}] is out of order")
        if dots:
            open_lists.append(which)
        else:
            names[which].append(word)
    code = _COMMENT.sub("", source)
    for which, declared in names.items():
        numbers = {int(number) for number in re.findall(rf"\b{which}\[(\d+)\]", code)}
        uses_list = re.search(rf"\b{which}\b(?!\[\d+\])", code) is not None
        if numbers != set(range(1, len(declared) + 1)) or uses_list != (which in open_lists):
            raise ValueError(f"{name}: its header declares {len(declared)} {which}, its code uses {sorted(numbers)}")
    text = _INCLUDE.sub(lambda match: (LUA / "include" / match[1]).read_text("utf-8"), source)
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return Script(name, text, sha, tuple(names["KEYS"]), tuple(names["ARGV"]), "KEYS" in open_lists)


def _load(name: str) -> Script:
    return parse(name, (LUA / name).read_text("utf-8"))


#: Fields that every record of a job or call has until it is gone. One that lacks some is what a server that lost writes
#: left: it is answered as no job, and may be written anew. `record` in lua/include/entries.lua names the same.
RECORD = frozenset({b"s", b"n", b"done", b"c", b"fp", b"f", b"at"})

# What enters the queue, and the way of an item through it.
SUBMIT = _load("submit.lua")
LOOK = _load("look.lua")
CLAIM = _load("claim.lua")
SWEEP = _load("sweep.lua")
LAPSED = _load("lapsed.lua")
BEGIN = _load("begin.lua")
RENEW = _load("renew.lua")
ANNOUNCE = _load("announce.lua")
HAND_BACK = _load("hand_back.lua")
KEEP = _load("keep.lua")
AHEAD = _load("ahead.lua")
# What ends it, or queues it once more.
SETTLE = _load("settle.lua")
CANCEL = _load("cancel.lua")
REPLAY = _load("replay.lua")
# Results and webhooks.
FETCHED = _load("fetched.lua")
FORGET = _load("forget.lua")
RECKON = _load("reckon.lua")
TAKE_WEBHOOK = _load("take_webhook.lua")
COUNT_WEBHOOK_TRY = _load("count_webhook_try.lua")
# Clips.
CLIP_ACCEPT = _load("clip_accept.lua")
CLIP_LOOK = _load("clip_look.lua")
CLIP_TAKE = _load("clip_take.lua")
CLIP_RENEW = _load("clip_renew.lua")
CLIP_KEEP = _load("clip_keep.lua")
CLIP_FINISH = _load("clip_finish.lua")
CLIP_RELEASE = _load("clip_release.lua")
CLIP_SENT = _load("clip_sent.lua")
CLIP_FORGET = _load("clip_forget.lua")
# What is looked at only.
CLOCK = _load("clock.lua")
AGES = _load("ages.lua")
# Callers' budgets.
TAKE_ALLOWANCE = _load("take_allowance.lua")
CHARGE_ALLOWANCE = _load("charge_allowance.lua")
