"""A gRPC server in a process of its own, so that its memory is nobody else's. Prints its port; ends with its input."""

from __future__ import annotations

import asyncio
import json
import sys

from service.rpc.server import start
from tests.unit.rpc.small import SmallEngine, parts


async def main() -> None:
    """Serve with the settings in the first argument, JSON."""
    joined = parts(SmallEngine(), **json.loads(sys.argv[1]))
    server = await start(joined)
    print(server.port, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.drain(0)
    joined.codecs.close()


if __name__ == "__main__":
    asyncio.run(main())
