"""Where the bytes of clips are kept: bodies, ranges of predicted frames, results. Here in Redis, in pieces.

What makes a range or a result the clip's is the script that notes it, which asks whether its maker still has it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from service.core.errors import NotFound
from service.distributed.broker import scripts
from service.distributed.broker.client import AsyncRedis, pipeline
from service.distributed.broker.keys import Keys
from service.serving.video.clip_disk import ClipFile

#: Bytes of a body or a result in one value.
PIECE = 2**20
#: An upload that is not accepted by then is gone.
UPLOAD_MS = 600_000
BODY, RANGE, RESULT = "b", "k", ""
#: What `put` answers: the clip is another's; there is no room.
NOT_OURS, NO_ROOM = 0, -1


@dataclass(frozen=True, slots=True)
class ClipClaim:
    """What names a maker's right to a clip. `most_bytes` of all results; `ttl_ms` of what it keeps."""

    clip: str
    token: str
    most_bytes: int
    ttl_ms: int


class ClipObjects(Protocol):
    """Keeps bytes by clip. Verbs raise what redis-py raises; Unavailable where a store elsewhere fails."""

    def held(self, nbytes: int) -> int:
        """Return how many of `nbytes` take room in Redis."""
        ...

    def pieces_of(self, clip: str, name: str, nbytes: int) -> list[str]:
        """Name the keys in Redis of a body or a result."""
        ...

    def ranges_of(self, clip: str, ranges: int) -> list[str]:
        """Name the keys in Redis of this many ranges."""
        ...

    async def put_body(self, clip: str, body: ClipFile) -> None:
        """Keep a clip that is not accepted yet."""
        ...

    async def put_result(self, claim: ClipClaim, result: ClipFile) -> int:
        """Keep a result: 1, NOT_OURS or NO_ROOM."""
        ...

    async def put_range(self, claim: ClipClaim, number: int, data: bytes) -> int:
        """Keep a range and count it in the record: 1, NOT_OURS or NO_ROOM."""
        ...

    async def get_range(self, clip: str, number: int) -> bytes | None:
        """Return a range; None where it is gone."""
        ...

    def get(self, clip: str, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield bytes `start` to `stop` of a body or a result (`name`). Raises NotFound where they are gone."""
        ...

    def object_name(self, claim: ClipClaim) -> str:
        """Name the result that `put_result` keeps; "" for the pieces in Redis."""
        ...

    async def remove(self, clip: str) -> None:
        """Remove what is kept elsewhere than in Redis."""
        ...

    async def trim(self, clip: str, result: str) -> None:
        """Remove what is kept elsewhere but for the result of this name: the clip is done."""
        ...

    async def sweep(self) -> None:
        """Remove what is kept elsewhere of clips that are gone."""
        ...


class RedisClipObjects:
    """`ClipObjects` in Redis: values of a megabyte, and one for each range."""

    def __init__(self, client: AsyncRedis, keys: Keys) -> None:
        self._client, self._keys = client, keys

    def held(self, nbytes: int) -> int:
        """Return all of them."""
        return nbytes

    def pieces_of(self, clip: str, name: str, nbytes: int) -> list[str]:
        """Name as `ClipObjects.pieces_of`."""
        return [self._keys.piece(clip, name, k) for k in range(-(-nbytes // PIECE))]

    def ranges_of(self, clip: str, ranges: int) -> list[str]:
        """Name as `ClipObjects.ranges_of`."""
        return [self._keys.piece(clip, RANGE, k) for k in range(ranges)]

    async def put_body(self, clip: str, body: ClipFile) -> None:
        """Keep as `ClipObjects.put_body`."""
        for k, key in enumerate(self.pieces_of(clip, BODY, body.nbytes)):
            data = await body.read_at(k * PIECE, PIECE)
            answers = await pipeline(self._client, [("SET", key, data, "PX", UPLOAD_MS)])
            if isinstance(answers[0], Exception):
                raise answers[0]

    async def put_result(self, claim: ClipClaim, result: ClipFile) -> int:
        """Keep as `ClipObjects.put_result`."""
        for k, key in enumerate(self.pieces_of(claim.clip, RESULT, result.nbytes)):
            data = await result.read_at(k * PIECE, PIECE)
            if (code := await note_piece(self._client, self._keys, claim, key, data)) != 1:
                return code
        return 1

    async def put_range(self, claim: ClipClaim, number: int, data: bytes) -> int:
        """Keep as `ClipObjects.put_range`."""
        key = self._keys.piece(claim.clip, RANGE, number)
        return await note_piece(self._client, self._keys, claim, key, data, ranges=number + 1)

    async def get_range(self, clip: str, number: int) -> bytes | None:
        """Return as `ClipObjects.get_range`."""
        data: bytes | None = await self._client.get(self._keys.piece(clip, RANGE, number))
        return data

    async def get(self, clip: str, name: str, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Yield as `ClipObjects.get`."""
        while start < stop:
            number, offset = divmod(start, PIECE)
            count = min(PIECE - offset, stop - start)
            data = await self._client.getrange(self._keys.piece(clip, name, number), offset, offset + count - 1)
            if len(data) < count:
                raise NotFound("the clip was deleted while it was read", field="job")
            yield data
            start += count

    def object_name(self, claim: ClipClaim) -> str:
        """Return "": its pieces are the clip's alone."""
        return ""

    async def remove(self, clip: str) -> None:
        """Do nothing: the scripts remove what is here."""

    async def trim(self, clip: str, result: str) -> None:
        """Do nothing: the scripts remove what is here."""

    async def sweep(self) -> None:
        """Do nothing: what is here has a time of its own."""


async def note_piece(
    client: AsyncRedis, keys: Keys, claim: ClipClaim, key: str, data: bytes, ranges: int | None = None
) -> int:
    """Keep `data` (b"": it is kept elsewhere) if the clip is still its maker's: 1, NOT_OURS or NO_ROOM."""
    bound = scripts.CLIP_KEEP.bind(
        job=keys.job(claim.clip),
        piece=key,
        results=keys.results,
        job_id=claim.clip,
        token=claim.token,
        data=data,
        ttl_ms=claim.ttl_ms,
        most_result_bytes=claim.most_bytes,
        ranges="" if ranges is None else ranges,
    )
    return int(await scripts.call(client, bound))
