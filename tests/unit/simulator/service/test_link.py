"""The simulated network and server: what is asked over it is answered, times out, or waits for its own key."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from service.distributed.broker.client import SOCKET_TIMEOUT
from simulator.service.clients import SimulatedClient
from simulator.service.link import Link
from simulator.service.server import SimulatedServer
from simulator.service.virtual_loop import VirtualLoop


def played(work: Callable[[VirtualLoop, SimulatedServer, Link, SimulatedClient], Awaitable[Any]]) -> Any:
    """Run `work` with a server and one process's link to it."""
    loop = VirtualLoop(start=0.0)
    server = SimulatedServer(loop)
    link = Link(loop, server, random.Random(1))
    try:
        return loop.run_until_complete(work(loop, server, link, SimulatedClient(loop, link)))
    finally:
        loop.close()


def test_what_a_cut_link_swallows_times_out_each_in_its_own_time_and_not_what_was_answered() -> None:
    async def work(loop: VirtualLoop, server: SimulatedServer, link: Link, client: SimulatedClient) -> list[Any]:
        answers: list[Any] = [await client.ping()]
        link.cut()

        async def ask(after: float) -> None:
            await asyncio.sleep(after)
            with pytest.raises(redis.TimeoutError):
                await client.ping()
            answers.append(round(loop.time() - SOCKET_TIMEOUT, 1))

        await asyncio.gather(ask(0.0), ask(0.5), ask(3.0))
        link.heal()
        return [*answers, await client.ping()]

    assert played(work) == [True, 0.0, 0.5, 3.0, True]


def test_a_blocked_read_wakes_for_its_own_key_the_oldest_first_and_ends_with_its_time() -> None:
    async def work(loop: VirtualLoop, server: SimulatedServer, link: Link, client: SimulatedClient) -> Any:
        first, second = (asyncio.ensure_future(client.blpop(["wake"], timeout=3)) for _ in range(2))
        stream = asyncio.ensure_future(client.xread({"news": "$"}, block=2000))
        await asyncio.sleep(1.0)
        await client.lpush("other", "x")
        await client.lpush("wake", "token")
        early = await first
        return early, second.done(), await stream, round(loop.time()), await second, round(loop.time())

    assert played(work) == ((b"wake", b"token"), False, [], 2, None, 3)


def test_a_command_whose_link_broke_on_the_way_is_lost_or_runs_unseen() -> None:
    async def work(loop: VirtualLoop, server: SimulatedServer, link: Link, client: SimulatedClient) -> int:
        for _ in range(20):
            asking = asyncio.ensure_future(client.ping())
            await asyncio.sleep(0)
            link.reset()
            with pytest.raises(redis.ConnectionError):
                await asking
        return server.commands

    assert 0 < played(work) < 20
