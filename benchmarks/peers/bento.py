"""BentoML: a batchable service behind one that takes raw bodies, as its documentation pairs them.

`python -m bentoml serve benchmarks.peers.bento:Front`, with the address and port on the command line.
"""

from __future__ import annotations

from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from benchmarks.peers.handler import Handler, Tuned

TUNED = Tuned.from_env()
Raw = Annotated[bytes, ContentType("application/octet-stream")]


@bentoml.service(workers=1, traffic={"timeout": 60})  # type: ignore[untyped-decorator,unused-ignore]
class Network:
    """Bodies through the handler, in batches whose size and wait BentoML adapts."""

    def __init__(self) -> None:
        self._handler = Handler(TUNED)

    @bentoml.api(batchable=True, max_batch_size=TUNED.batch, max_latency_ms=int(1000 * TUNED.deadline))  # type: ignore[untyped-decorator,unused-ignore]
    def predict(self, bodies: list[bytes]) -> list[bytes]:
        """BentoML's."""
        return self._handler(bodies)


@bentoml.service(workers=1, traffic={"timeout": 60})  # type: ignore[untyped-decorator,unused-ignore]
class Front:
    """One body a request."""

    network: Any = bentoml.depends(Network)

    @bentoml.api(route="/predict")  # type: ignore[untyped-decorator,unused-ignore]
    async def predict(self, body: Raw, /) -> Raw:
        """BentoML's."""
        (answer,) = await self.network.to_async.predict([body])
        return bytes(answer)
