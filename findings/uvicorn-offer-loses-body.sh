#!/usr/bin/env bash
# uvicorn 0.54.0 with httptools 0.9.0: a request that offers HTTP/2, as Java's HttpClient does, arrives without its body.
#
# A body of 16 bytes is posted to an application that answers how many bytes it was given: plainly, with the three fields by
# which clients offer HTTP/2 on an unencrypted connection (RFC 7540, 3.2), and with the offer of a protocol that nobody
# knows. The server reads requests by httptools, which it prefers where that is installed, and by h11.
#
# Output seen (CPython 3.11.7):
#     uvicorn 0.54.0, httptools 0.9.0, h11 0.16.0
#     plain            httptools: 200, 16 bytes   h11: 200, 16 bytes
#     offers HTTP/2    httptools: 200, 0 bytes   h11: 200, 16 bytes
#     offers other/1   httptools: 200, 0 bytes   h11: 200, 16 bytes
#
# Why it surprises: an offer may be ignored, and the request is then answered as if it were not there (RFC 9110, 7.8). Java's
# HttpClient makes it with what it posts to an http:// address, unless told otherwise, and so does `curl --http2`; their
# users are told that a field is missing, or that a body is empty which they have seen leave. "Unsupported upgrade request"
# in the log is all there is. Tests by Python's clients pass, which offer nothing. httptools takes the end of such a head
# for the end of the request; `--http h11` is the way around.
# Known upstream: Kludex/uvicorn issue 2722 and MagicStack/httptools issue 124, for chunked bodies, open since 2025.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0 \
    click==8.5.1 typing-extensions==4.16.0
cat >"$work/find.py" <<'PY'
import http.client
import importlib.metadata
import socket
import sys
import threading
import time

import uvicorn

BODY = b'{"frames": [12]}'
OFFERS = {
    "plain": b"",
    "offers HTTP/2": b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
    "offers other/1": b"Connection: Upgrade\r\nUpgrade: other/1\r\n",
}


async def app(scope, receive, send):
    count, more = 0, True
    while more:
        message = await receive()
        count, more = count + len(message.get("body", b"")), message.get("more_body", False)
    answer = b"%d bytes" % count
    fields = [(b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": fields})
    await send({"type": "http.response.body", "body": answer})


def serve(reader):
    """Serve in a thread, reading requests by this library; return the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, http=reader, lifespan="off", log_level="critical"))
    threading.Thread(target=server.run, daemon=True).start()
    while not server.started:
        time.sleep(0.01)
    return server.servers[0].sockets[0].getsockname()[1]


def post(port, offer):
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(BODY)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(head + offer + b"\r\n" + BODY)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return f"{answer.status}, {answer.read().decode()}"


versions = [f"{name} {importlib.metadata.version(name)}" for name in ("uvicorn", "httptools", "h11")]
print(", ".join(versions))
ports = {reader: serve(reader) for reader in ("httptools", "h11")}
seen = {}
for name, offer in OFFERS.items():
    seen[name] = {reader: post(port, offer) for reader, port in ports.items()}
    print(f"{name:16}", "   ".join(f"{reader}: {answer}" for reader, answer in seen[name].items()))
whole, empty = "200, 16 bytes", "200, 0 bytes"
lost = {"httptools": empty, "h11": whole}
if list(seen.values()) != [{"httptools": whole, "h11": whole}, lost, lost]:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
