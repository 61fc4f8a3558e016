"""Redis' password is changed under load, as docs/deploy.md says: both are valid for a while, and no call fails."""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from service.settings import Settings
from tests.unit.distributed.conftest import Bench, bench_of, until
from tests.unit.distributed.engines import Adder, alike, answer
from tests.unit.distributed.frontend.test_engine import request
from tests.unit.distributed.servers import NEVER, SHIPPED_CONF, Server, binaries

SCRIPT = Path(__file__).parents[3] / "scripts" / "deploy-secrets"


class Install:
    """What `kubectl` keeps of an installation, and its Redis: Secrets, changed by scripts/deploy-secrets."""

    def __init__(self) -> None:
        self.secrets: dict[str, Any] = {}
        for item in json.loads(_script())["items"]:
            data = {key: base64.b64encode(value.encode()).decode() for key, value in item.pop("stringData").items()}
            self.secrets[item["metadata"]["name"]] = item | {"data": data}
        # Valkey closes no connection at ACL LOAD whose user is there still; Redis up to 7.0 closes all.
        self.server = Server(binaries()["valkey-9"], str(SHIPPED_CONF), acl="")
        self._mount()
        self.server.start()

    def _mount(self) -> None:
        """Put the ACL where Redis reads it, with a user for the harness."""
        acl = self.value("dmvfn-redis-acl", "users.acl") + "user tester on nopass ~* &* +@all\n"
        (self.server.folder / "users.acl").write_text(acl)

    def value(self, secret: str, key: str) -> str:
        return base64.b64decode(self.secrets[secret]["data"][key]).decode()

    def change_password(self, how: str) -> None:
        """Change the Secrets as an operator does; Redis reads its ACL file at `reload` only."""
        stored = {"items": [self.secrets[name] for name in ("dmvfn-secrets", "dmvfn-redis-acl")]}
        for item in json.loads(_script("--redis-password", how, stored=json.dumps(stored)))["items"]:
            self.secrets[item["metadata"]["name"]] = item
        self._mount()

    def client(self, user: str, password: str) -> Any:
        return redis.Redis(unix_socket_path=str(self.server.socket), username=user, password=password, retry=NEVER)

    def reload(self) -> None:
        """Run ACL LOAD, as the user that may do nothing else."""
        with self.client("reload", self.value("dmvfn-redis-acl", "reload-password")) as client:
            client.acl_load()

    def lets_in(self, password: str) -> bool:
        """Tell whether user `dmvfn` gets in by a password."""
        with self.client("dmvfn", password) as client:
            try:
                return bool(client.ping())
            except redis.AuthenticationError:
                return False

    def settings(self) -> Settings:
        """Return what a process that starts now reads."""
        return Settings(
            engine="redis",
            redis_url=f"unix://{self.server.socket}",
            redis_username=self.value("dmvfn-secrets", "DMVFN_REDIS_USERNAME"),
            redis_password=self.value("dmvfn-secrets", "DMVFN_REDIS_PASSWORD"),
            lease_ms=5000,
        )


def _script(*words: str, stored: str = "") -> str:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, input=stored, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def install() -> Iterator[Install]:
    install = Install()
    yield install
    install.server.remove()


class Callers:
    """Four callers, each of which asks the front end in service, one call after the other, until `end`."""

    def __init__(self, front: Bench) -> None:
        self.front, self.answered = front, 0
        self._under_way: Counter[str] = Counter()
        self._over = False
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(4)]

    async def _call(self, first: int) -> None:
        for number in itertools.count(first, 4):
            front, asked = self.front, request(number % 200)
            self._under_way[front.front.name] += 1
            assert alike(await front.engine.predict(asked), answer(asked))
            self._under_way[front.front.name] -= 1
            self.answered += 1
            if self._over:
                return

    async def some_more(self) -> None:
        """Return after eight more answers. Raises what a call failed with."""
        goal = self.answered + 8
        await until(lambda: self.answered >= goal or any(task.done() for task in self._tasks))
        for task in self._tasks:
            if task.done():
                task.result()

    async def go_to(self, front: Bench) -> None:
        """Ask another front end, and return once the one before owes no answer."""
        before, self.front = self.front, front
        await until(lambda: self._under_way[before.front.name] == 0)

    async def end(self) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)


async def test_servers_and_workers_take_a_new_password_without_a_failed_call(install: Install) -> None:
    old_password = install.settings().redis_password
    async with AsyncExitStack() as old_fleet, AsyncExitStack() as new_fleet:
        old_front = await old_fleet.enter_async_context(bench_of(install.settings()))
        await old_fleet.enter_async_context(old_front.work(Adder()))
        callers = Callers(old_front)
        await callers.some_more()

        install.change_password("new")
        new_password = install.settings().redis_password
        # It starts before Redis knows its password, and is not ready until it does.
        new_front = await new_fleet.enter_async_context(bench_of(install.settings()))
        assert (new_front.front.readiness().ready, install.lets_in(new_password)) == (False, False)
        await callers.some_more()
        install.reload()
        assert (install.lets_in(old_password), install.lets_in(new_password)) == (True, True)
        await until(lambda: new_front.front.readiness().ready)
        await callers.some_more()

        adder = Adder()
        await new_fleet.enter_async_context(new_front.work(adder))
        await callers.go_to(new_front)
        await old_fleet.aclose()
        await callers.some_more()
        install.change_password("single")
        install.reload()
        assert (install.lets_in(old_password), install.lets_in(new_password)) == (False, True)
        await callers.some_more()
        await callers.end()
        assert adder.seen, "the new worker had nothing to do"


def test_an_acl_file_of_before_gets_the_user_that_reads_it_again(install: Install) -> None:
    acl = install.value("dmvfn-redis-acl", "users.acl")
    before = "\n".join(line for line in acl.splitlines() if not line.startswith("user reload"))
    data = install.secrets["dmvfn-redis-acl"]["data"]
    data["users.acl"] = base64.b64encode(before.encode()).decode()
    del data["reload-password"]
    install.change_password("new")
    install.server.stop()  # nobody can tell it to read the file yet
    install.server.start()
    install.reload()


def test_the_user_that_reads_the_acl_again_may_do_nothing_else(install: Install) -> None:
    with install.client("reload", install.value("dmvfn-redis-acl", "reload-password")) as client:
        forbidden = (
            "PING",
            "INFO",
            "ACL LIST",
            "ACL SETUSER reload +@all",
            "ACL SAVE",
            "GET {dmvfn}:x",
            "FLUSHALL",
            "SHUTDOWN",
        )
        for command in forbidden:
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command.split())
        client.acl_load()
