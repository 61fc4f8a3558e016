#!/usr/bin/env bash
# grpcio 1.85.3: from 8 KiB on, it is by chance whether a refusal arrives as it was sent or as RESOURCE_EXHAUSTED.
#
# A server refuses every call with INVALID_ARGUMENT and a text: of so many letters, or of Chinese characters. Three hundred
# calls are made for each length. Printed is how many of them a client saw refused by each code, then the same for a
# client with the channel option grpc.max_metadata_size of 64 KiB.
#
# Output seen (CPython 3.11.7; the counts vary from run to run):
#     grpcio 1.85.3
#     text                 INVALID_ARGUMENT  RESOURCE_EXHAUSTED
#      7500 letters                     300                   0
#      9000 letters                     251                  49
#     12000 letters                     148                 152
#     15000 letters                      48                 252
#     17000 letters                       0                 300
#      1300 Chinese                     162                 138
#     with 64 KiB:
#     17000 letters                     300                   0
#
# Why it surprises: the request is the same, the server's answer is the same, and one try in two says that the argument is
# wrong, the other that something is used up, which retry policies take for "later". A test that refuses with a text of
# 9 kB passes five times in six. gRPC has two limits, of 8 and 16 KiB, and throws dice in between, so that senders notice
# that their metadata grow. But a refusal's text is metadata to it as well, which no caller of `abort` sees, and each
# byte beyond ASCII counts as three (percent-encoded: 1,300 Chinese characters are 11,700 bytes). Validators put their
# input into such texts. A server has to cut them, counting the bytes as they are sent.
# Known upstream in part: grpc/grpc issue 37852 is about texts beyond the limit of 16 KiB, which never arrive.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check grpcio==1.85.3 typing-extensions==4.16.0
cat >"$work/find.py" <<'PY'
import collections
import importlib.metadata
import sys
from concurrent import futures

import grpc

CALLS = 300


def refuse(request, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.decode())


def outcomes(address, text, options=()):
    with grpc.insecure_channel(address, options=options) as channel:
        call, codes = channel.unary_unary("/example.Service/Refuse"), collections.Counter()
        for _ in range(CALLS):
            try:
                call(text.encode())
            except grpc.RpcError as error:
                codes[error.code().name] += 1
                assert error.code() is not grpc.StatusCode.INVALID_ARGUMENT or error.details() == text
    return codes


server = grpc.server(futures.ThreadPoolExecutor(1))
methods = {"Refuse": grpc.unary_unary_rpc_method_handler(refuse)}
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("example.Service", methods),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
address = f"127.0.0.1:{port}"
print("grpcio", importlib.metadata.version("grpcio"))
print("text                 INVALID_ARGUMENT  RESOURCE_EXHAUSTED")


def row(name, codes):
    print(f"{name:20} {codes['INVALID_ARGUMENT']:16} {codes['RESOURCE_EXHAUSTED']:19}")
    return codes["INVALID_ARGUMENT"]


arrived = {}
for length in (7500, 9000, 12000, 15000, 17000):
    arrived[length] = row(f"{length:5} letters", outcomes(address, "x" * length))
chinese = row(" 1300 Chinese", outcomes(address, "例" * 1300))
print("with 64 KiB:")
raised = row("17000 letters", outcomes(address, "x" * 17000, [("grpc.max_metadata_size", 65536)]))
server.stop(None)
by_chance = all(0 < count < CALLS for count in (arrived[12000], chinese))
if arrived[7500] != CALLS or arrived[17000] != 0 or not by_chance or raised != CALLS:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
