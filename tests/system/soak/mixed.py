"""Requests of every kind, good, wrong and broken off, in an order that a seed decides; what each may be answered."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.system.soak.frames import raw
from tests.system.soak.wire import Connections, request
from tests.unit.engine.tiny import frames
from tests.unit.imaging.pictures import file_of, png

SIZES = ((32, 48), (48, 32), (40, 56), (64, 64), (33, 47), (16, 96))
ROUTES = ("route=auto", "route=full", "seed=7", "blocks=3", "route=100110001", "quality=adaptive", "scale=0.5")
PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "PPM")
ACCEPTS = ("image/png", "image/jpeg", "image/webp", "application/json", "application/octet-stream", "multipart/mixed")
#: One of so many callers leaves before its answer.
LEAVES = 12


@dataclass(frozen=True, slots=True)
class Ask:
    """A request and the statuses that are right for it."""

    kind: str
    data: bytes
    right: frozenset[int]


@dataclass(slots=True)
class Outcomes:
    """By kind and status; `left` were broken off, `wrong` should have been answered otherwise."""

    seen: Counter[tuple[str, int]] = field(default_factory=Counter)
    left: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Requests sent."""
        return self.left + sum(self.seen.values())


def form(query: str, accept: str, **parts: bytes) -> bytes:
    """A request with these form parts."""
    body = b"".join(
        b'--X\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (name.encode(), data)
        for name, data in parts.items()
    )
    kind = "multipart/form-data; boundary=X"
    return request(f"/v1/predict?{query}", body + b"--X--\r\n", Content_Type=kind, Accept=accept)


def good(dice: random.Random) -> Ask:
    """A form of two pictures of any size, format, route and answer."""
    previous, current = frames(dice.randrange(50), *dice.choice(SIZES))
    format = dice.choice(PICTURES)
    files = {"previous": file_of(previous.pixels, format), "current": file_of(current.pixels, format)}
    return Ask("form", form(dice.choice(ROUTES), dice.choice(ACCEPTS), **files), frozenset({200}))


def pixels(dice: random.Random) -> Ask:
    """Raw pixels."""
    return Ask("raw", raw(dice.randrange(50), *dice.choice(SIZES), dice.choice(ROUTES)), frozenset({200}))


def document(dice: random.Random) -> Ask:
    """JSON in and out, two steps or maps."""
    previous, current = (base64.b64encode(file_of(f.pixels, "PNG")).decode() for f in frames(3, *dice.choice(SIZES)))
    more = dice.choice(({"steps": 2}, {"maps": "float16"}, {"seed": 5, "route": "sample"}))
    body = json.dumps({"previous": previous, "current": current, **more}).encode()
    data = request("/v1/predict", body, Content_Type="application/json", Accept="application/json")
    return Ask("json", data, frozenset({200}))


def tensors(dice: random.Random) -> Ask:
    """The Open Inference Protocol, its tensor behind the JSON."""
    height, width = dice.choice(SIZES)
    data = np.stack([frame.pixels for frame in frames(dice.randrange(50), height, width)]).tobytes()
    tensor = {"name": "FRAMES", "datatype": "UINT8", "shape": [1, 2, height, width, 3]}
    head = json.dumps({"inputs": [{**tensor, "parameters": {"binary_data_size": len(data)}}]}).encode()
    asked = request("/v2/models/dmvfn/infer", head + data, Inference_Header_Content_Length=len(head))
    return Ask("v2", asked, frozenset({200}))


def hurried(dice: random.Random) -> Ask:
    """Less time than it takes, or hardly enough."""
    query = f"route=full&deadline_ms={dice.choice((1, 2, 5, 20))}"
    return Ask("hurried", raw(dice.randrange(50), *dice.choice(SIZES), query), frozenset({200, 504}))


def wrong(dice: random.Random) -> Ask:
    """A caller's mistake of some kind."""
    one, other = file_of(frames(1, 32, 48)[0].pixels, "PNG"), file_of(frames(1, 48, 32)[0].pixels, "PNG")
    bomb = png(8000, 8000, data=bytes(100))
    kinds: list[Callable[[], tuple[bytes, set[int]]]] = [
        lambda: (form("", "*/*", previous=one, current=other), {422}),
        lambda: (form("", "*/*", previous=one, current=one[: dice.randrange(len(one))]), {415, 422}),
        lambda: (form("", "*/*", previous=one, current=bomb), {413, 422}),
        lambda: (form("", "*/*", previous=one), {400}),
        lambda: (form("steps=-1", "*/*", previous=one, current=one), {400}),
        lambda: (form("", "audio/ogg", previous=one, current=one), {406}),
        lambda: (request("/v1/predict", b"{" * 5000, Content_Type="application/json"), {413}),
        lambda: (request("/v1/predict", b"<x/>", Content_Type="text/xml"), {415}),
        lambda: (request(f"/v1/{dice.randrange(10**9)}", method="GET"), {404}),
        lambda: (request("/v2/models/dmvfn/infer", dice.randbytes(300)), {400}),
    ]
    data, right = dice.choice(kinds)()
    return Ask("wrong", data, frozenset(right))


def looks(dice: random.Random) -> Ask:
    """What people and machines look at beside."""
    path = dice.choice(("/v1/model", "/metrics", "/healthz/ready", "/problems", "/v2/models/dmvfn/stats"))
    return Ask("look", request(path, method="GET"), frozenset({200}))


KINDS = (good, good, good, pixels, pixels, document, tensors, hurried, wrong, wrong, looks)


async def run(address: str, count: int, *, seed: int = 1, callers: int = 8) -> Outcomes:
    """`count` requests from so many callers, one in LEAVES of whom leaves before the answer."""
    outcomes, dice = Outcomes(), random.Random(seed)
    connections = Connections(address)
    numbers = iter(range(count))

    async def caller() -> None:
        for _ in numbers:
            ask = dice.choice(KINDS)(dice)
            if dice.randrange(LEAVES) == 0:
                connection = await connections.take()
                connection.send(ask.data if dice.random() < 0.7 else ask.data[: dice.randrange(len(ask.data))])
                await asyncio.sleep(dice.uniform(0, 0.05))
                connection.abort()
                outcomes.left += 1
                continue
            reply = await connections.ask(ask.data)
            outcomes.seen[ask.kind, reply.status] += 1
            if reply.status not in ask.right:
                outcomes.wrong.append(f"{ask.kind}: {reply.status} {reply.body[:300]!r}, right were {set(ask.right)}")

    await asyncio.gather(*(caller() for _ in range(callers)))
    connections.close()
    return outcomes
