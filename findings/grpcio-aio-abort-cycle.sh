#!/usr/bin/env bash
# grpcio 1.85.3, grpc.aio: a call ended by context.abort keeps its request until the cyclic collector runs.
#
# Twenty calls of 1 MiB each are refused, once by `await context.abort(...)` and once by set_code and a plain return.
# Clients see the same status both times. The cyclic collector is off, so what is freed is freed by counting references.
#
# Output seen (CPython 3.11.7):
#     grpcio 1.85.3
#     by_return: requests alive after 20 refusals 0, after a collection 0
#     by_abort: requests alive after 20 refusals 20, after a collection 2
#
# Why it surprises: abort is the usual way to refuse a request, and refusals are often of the largest ones. The state of
# the call keeps the AbortError, its traceback keeps the handler's frame, and that frame keeps the request and, by the
# context, the state: a ring. The collector's turns depend on how many objects are made, not on how large they are, so
# refusing a few large requests can hold all their memory for long. (After a collection the last two calls can still be
# there; the stop of the server frees those.) The threaded server had the same ring once and lost it in grpc/grpc pull
# request 17899; no report about grpc.aio was found.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check grpcio==1.85.3 typing-extensions==4.16.0
cat >"$work/find.py" <<'PY'
import asyncio
import gc
import importlib.metadata
import sys
import weakref

import grpc

gc.disable()
alive = weakref.WeakSet()


class Request:
    def __init__(self, data):
        self.data = data
        alive.add(self)


async def by_abort(request, context):
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "refused")


async def by_return(request, context):
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    context.set_details("refused")
    return b""


async def refuse(handler):
    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(handler, request_deserializer=Request)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("find.Find", {"Refuse": method})])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        for _ in range(20):
            try:
                await channel.unary_unary("/find.Find/Refuse")(bytes(1 << 20))
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        await asyncio.sleep(0.5)
        held = len(alive)
        gc.collect()
        collected = len(alive)
    await server.stop(None)
    gc.collect()
    print(f"{handler.__name__}: requests alive after 20 refusals {held}, after a collection {collected}")
    return held, collected


print("grpcio", importlib.metadata.version("grpcio"))
returned, _ = asyncio.run(refuse(by_return))
aborted, collected = asyncio.run(refuse(by_abort))
if returned > 2 or aborted < 18 or collected > 2:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
