"""Streams whose clients have sent most of a message hold a bounded number of bytes, whoever they are."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import AsyncExitStack, ExitStack

import pytest

from service.core.errors import QueueFull
from service.rpc.half_sent import WINDOW, Arrival, HalfSentMessages
from service.rpc.peer_sockets import PeerSockets, parse_peer
from tests.measured import UpperBounds
from tests.unit.memory import peak_mib
from tests.unit.rpc.half_sent import half_sender
from tests.unit.rpc.test_message_reading import PREDICT, process

MIB = 2**20
STREAMS = ("/dmvfn.v1.PredictionService/StreamPredict", "/inference.GRPCInferenceService/ModelStreamInfer")


#: The budget of the servers below, and the bytes that what is not read may add to an idle process: twice as many are
#: promised, and a machine that is busy otherwise needs some of them.
BUDGET, PROMISED_MIB = 64 * MIB, 96.0


async def flood(port: int, paths: tuple[str, ...], calls: int, connections: int, sends: int) -> None:
    """Open `calls` at once, each of which sends `sends` bytes of a message that may have a quarter of the budget."""
    async with AsyncExitStack() as stack, asyncio.timeout(60):
        senders = [await stack.enter_async_context(half_sender(port)) for _ in range(connections)]
        for k in range(calls):
            senders[k % connections].begin(paths[k % len(paths)], BUDGET // 4, sends)
        while not all(one.settled for one in senders) or sum(one.held for one in senders) > BUDGET // 2:
            await asyncio.sleep(0.02)


async def judge_growth(paths: tuple[str, ...], calls: int, connections: int, sends: int) -> None:
    """Judge what a server of its own grows by during a flood."""
    limits = {"max_inflight_bytes": BUDGET, "max_body_bytes": BUDGET, "max_queue_bytes": BUDGET}
    bounds = UpperBounds(growth_mib=PROMISED_MIB)
    while bounds.unmet():  # each time in a process that has given nothing back yet
        async with process(**limits, max_stream_bytes=BUDGET, max_streams=1000) as (pid, port):
            idle = peak_mib(pid, reset=True)
            await flood(port, paths, calls, connections, sends)
            bounds.measured(growth_mib=peak_mib(pid) - idle)


@pytest.mark.measured
async def test_two_hundred_streams_that_each_send_most_of_a_message_at_once_take_no_more_than_is_promised() -> None:
    """They send 3.2 GB; grpcio holds all that it is sent and says nothing."""
    await judge_growth(STREAMS, 200, 12, BUDGET // 4 - 1)


@pytest.mark.measured
async def test_calls_that_wait_to_be_read_take_no_more_than_is_promised_however_many() -> None:
    """Each may send HTTP/2's window before anybody asks for its message: 112 MB of these."""
    await judge_growth((PREDICT,), 1800, 3, WINDOW - 10)


class Peer:
    """A client's connection: `total` bytes have come; `cut` is heard of."""

    def __init__(self, is_any_cut: threading.Event) -> None:
        self.total, self.is_cut, self._is_any_cut = 1, False, is_any_cut

    def received(self) -> int:
        return self.total

    def cut(self) -> None:
        self.is_cut = True
        self._is_any_cut.set()


class Peers:
    """Clients by name."""

    def __init__(self) -> None:
        self.connections: dict[str, Peer] = {}
        self.is_any_cut = threading.Event()

    def socket_of(self, peer: str) -> Peer:
        return self.connections.setdefault(peer, Peer(self.is_any_cut))

    def send(self, peer: str, nbytes: int) -> None:
        self.connections[peer].total += nbytes

    def cut(self) -> list[str]:
        return [name for name, peer in self.connections.items() if peer.is_cut]


def ended(*arrivals: Arrival) -> list[bool]:
    return [arrival.error is not None for arrival in arrivals]


def guard(peers: Peers, limit: int = 10 * MIB) -> HalfSentMessages:
    return HalfSentMessages(limit, 4 * MIB, peers.socket_of)


async def test_who_holds_most_for_longest_is_ended_and_not_who_just_sends_a_large_frame() -> None:
    peers = Peers()
    halves = guard(peers)
    with ExitStack() as stack:
        slow, large, idle, other = (
            stack.enter_context(halves.stream(peer)) for peer in ("slow", "large", "idle", "other")
        )
        for second in range(5):
            peers.connections["slow"].total = peers.connections["other"].total = 3 * MIB
            halves.end_excess(float(second))
        assert ended(slow, large, idle, other) == [False] * 4
        peers.send("large", 4 * MIB + 1000)
        peers.send("other", MIB // 2)
        halves.end_excess(5.02)
        assert ended(slow, large, idle, other) == [False, False, False, True]


async def test_a_connection_that_holds_too_much_loses_all_its_streams_and_no_other_any() -> None:
    peers = Peers()
    halves = guard(peers)
    with ExitStack() as stack:
        streams = [stack.enter_context(halves.stream(peer)) for peer in ("one", "one", "one", "two")]
        peers.send("one", 11 * MIB)
        peers.send("two", 4 * MIB)
        halves.end_excess(1.0)
        assert ended(*streams) == [True, True, True, False]


async def test_whole_messages_hold_nothing_however_many_come_with_whatever_around_them() -> None:
    """Heads of frames and calls are in no message: a thousandth here, which must not add up."""
    peers = Peers()
    halves = guard(peers)
    with halves.stream("busy") as busy, halves.stream("busy") as beside:
        for number in range(20_000):
            peers.send("busy", 1001 * 1000)
            halves.whole("busy", 1000 * 1000, busy if number % 2 else beside)
        halves.end_excess(1.0)
        assert halves.cut_excess(2.0) <= 2 * 1001 * 1000
        assert ended(busy, beside) == [False, False]


async def test_a_call_beside_a_stream_on_its_connection_is_not_taken_for_the_streams() -> None:
    peers = Peers()
    halves = guard(peers, limit=WINDOW)
    with halves.stream("shared") as arrival:
        peers.send("shared", 3 * MIB + 70)
        halves.whole("shared", 3 * MIB)
        halves.end_excess(1.0)
        assert ended(arrival) == [False]


async def test_what_grows_faster_than_the_loop_answers_is_cut_and_nobody_else() -> None:
    """By a thread of its own: here the event loop does nothing else than open streams."""
    peers = Peers()
    halves = guard(peers)
    with ExitStack() as stack:
        streams = [stack.enter_context(halves.stream(f"peer {k}")) for k in range(5)]
        for k in range(5):
            peers.send(f"peer {k}", 2 * MIB if k < 4 else 5 * MIB)
        peers.is_any_cut.wait(60)
        assert peers.cut() == ["peer 4"]
        assert ended(*streams) == [False] * 5
        assert halves.cut_excess(time.monotonic()) < 9 * MIB, "what was cut holds nothing"


async def test_its_thread_ends_when_nobody_can_send_too_much() -> None:
    peers = Peers()
    halves = guard(peers)
    with halves.stream("one"), halves.stream("two"):
        threads = [halves._thread]  # two messages are within the bound
        with halves.stream("three"):
            threads.append(halves._thread)
    none, thread = threads
    assert none is None
    assert thread is not None
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()


async def test_who_waits_for_a_message_that_is_given_up_is_told_why() -> None:
    arrival, error = Arrival(), QueueFull("too much", retry_after=1.0)
    reading = asyncio.create_task(arrival.wait(asyncio.Event().wait))
    await asyncio.sleep(0)
    arrival.end(error)
    with pytest.raises(QueueFull, match="too much"):
        await reading
    with pytest.raises(QueueFull, match="too much"):  # and so is who asks later
        await arrival.wait(asyncio.Event().wait)


async def test_who_leaves_while_it_waits_is_cancelled_and_nothing_else() -> None:
    reading = asyncio.create_task(Arrival().wait(asyncio.Event().wait))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:127.0.0.1:5", ("127.0.0.1", 5)),
        ("ipv6:%5B::1%5D:80", ("::1", 80)),
        ("ipv6:[::ffff:10.0.0.1]:80", ("10.0.0.1", 80)),
        ("ipv6:[fe80::1%25eth0]:80", ("fe80::1", 80)),
        ("unix:/run/s", None),
        ("ipv4:localhost:5", None),
        ("ipv4:127.0.0.1", None),
        ("", None),
    ],
)
def test_a_clients_name_is_read(peer: str, address: tuple[str, int] | None) -> None:
    assert parse_peer(peer) == address


async def test_bytes_are_told_by_the_clients_address_and_of_nobody_else() -> None:
    accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1")
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    host, port = writer.get_extra_info("sockname")
    sockets = PeerSockets()
    assert sockets.socket_of(f"ipv4:{host}:{port}") is None, "nothing has come yet: no byte can be told"
    writer.write(bytes(1000))
    connection = await accepted
    async with asyncio.timeout(60):
        while (peer := sockets.socket_of(f"ipv4:{host}:{port}")) is None or peer.received() < 1000:
            await asyncio.sleep(0.001)
    assert peer.received() == 1000
    assert sockets.socket_of(f"ipv4:127.0.0.2:{port}") is None
    assert sockets.socket_of("unix:") is None
    peer.cut()
    async with asyncio.timeout(60):
        assert await reader.read() == b"", "its client sees the end at once"
    for one in (writer, connection):
        one.close()
    server.close()
    await server.wait_closed()
    assert peer.received() == 1000, "what is known stays"
