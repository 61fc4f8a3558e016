"""A file of keys that is replaced while the service runs: good content is used, bad content changes nothing."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from service.app import _keys
from service.backends import DrainingEngine
from service.core.api_keys import KeyRing
from service.core.errors import Unauthenticated
from service.key_file import KeyFile
from service.settings import Settings, SettingsError
from tests.unit.rest.wired import until
from tests.unit.rpc.small import SmallEngine, parts

FIRST, SECOND = "first-key-1", "second-key-2"


def replace_file(path: Path, text: str) -> None:
    """As editors and Kubernetes do: another file under the same name."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "keys.toml"
    file.write_text(f'[web]\nkey = "{FIRST}"')
    return file


def names(file: KeyFile) -> list[str]:
    return [key.name for key in file.keys.keys]


def test_a_replaced_file_is_read_again(path: Path) -> None:
    file = KeyFile(path)
    assert (names(file), file.renewed()) == (["web"], False)
    replace_file(path, f'[web]\nkey = "{SECOND}"\n[more]\nkey = "{FIRST}"')
    assert file.renewed()
    assert names(file) == ["web", "more"]
    assert not file.renewed()


@pytest.mark.parametrize("content", [f'[next]\r\nkey = "{SECOND}"\r\n', f"next:{SECOND}\r\n"])
def test_a_mark_at_the_files_begin_is_no_part_of_a_name(path: Path, content: str) -> None:
    """As Windows' editors write it."""
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    file = KeyFile(path)
    assert names(file) == ["next"]
    assert file.keys.identify(SECOND).name == "next"


@pytest.mark.parametrize("content", ["", "[web]\nkey = ", "\xff\xfe"])
def test_content_that_cannot_be_used_keeps_the_old_keys_and_says_so(
    path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = KeyFile(path)
    replace_file(path, content)
    assert [file.renewed(), file.renewed()] == [False, False]
    assert names(file) == ["web"]
    (record,) = caplog.records  # once, not at every look
    assert record.levelno == logging.ERROR
    assert "the keys before stay in force" in record.message
    assert FIRST not in record.message
    assert file.warnings() == (record.message,)
    replace_file(path, f'[again]\nkey = "{SECOND}"')
    assert file.renewed()
    assert (names(file), file.warnings()) == (["again"], ())


def test_a_file_that_is_gone_keeps_the_old_keys(path: Path) -> None:
    file = KeyFile(path)
    path.unlink()
    assert not file.renewed()
    assert names(file) == ["web"]
    assert "cannot be read" in file.problem


def test_links_are_followed_as_kubernetes_moves_them(tmp_path: Path) -> None:
    for name, key in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(f"{name}:{key}")
    link = tmp_path / "data"
    link.symlink_to("one")
    file = KeyFile(link / "keys")
    (tmp_path / "fresh").symlink_to("two")
    (tmp_path / "fresh").replace(link)
    assert file.renewed()
    assert names(file) == ["two"]


async def test_who_follows_the_file_gets_its_keys(path: Path) -> None:
    rings: asyncio.Queue[KeyRing] = asyncio.Queue()
    keeping = asyncio.ensure_future(KeyFile(path).keep(rings.put_nowait, check_s=0.001))
    replace_file(path, f'[next]\nkey = "{SECOND}"')
    async with asyncio.timeout(60):
        ring = await rings.get()
    assert ring.identify(SECOND).name == "next"
    keeping.cancel()
    await asyncio.wait((keeping,))


def test_the_start_is_stopped_by_a_file_that_cannot_be_used(path: Path) -> None:
    """An empty one above all: it must not open the service to everybody."""
    assert Settings.from_env({"DMVFN_API_KEYS_FILE": str(path)}).api_keys_file == path
    path.write_text("")
    with pytest.raises(SettingsError, match=r"DMVFN_API_KEYS_FILE=.*: holds no key"):
        Settings.from_env({"DMVFN_API_KEYS_FILE": str(path)})
    path.write_text(f'[web]\nkey = "{FIRST}"')
    with pytest.raises(SettingsError, match="are both set"):
        Settings.from_env({"DMVFN_API_KEYS_FILE": str(path), "DMVFN_API_KEYS": f"web:{FIRST}"})


async def test_the_service_follows_its_file_and_says_what_is_wrong_with_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.key_file.CHECK_S", 0.001)
    state = parts(SmallEngine(), api_keys_file=path)
    gate = DrainingEngine(state.engine)

    def is_bad() -> bool:
        return state.metrics.registry.get_sample_value("dmvfn_api_keys_file_bad") == 1

    async with _keys(state, gate):
        assert (await state.access.admit(FIRST, None)).client == "web"
        assert (is_bad(), gate.readiness().warnings) == (False, ())
        replace_file(path, "[web]")
        await until(is_bad)
        assert "needs sha256 or key" in gate.readiness().warnings[0]
        assert (await state.access.admit(FIRST, None)).client == "web"
        replace_file(path, f'[next]\nkey = "{SECOND}"')
        await until(lambda: not is_bad())
        assert (await state.access.admit(SECOND, None)).client == "next"
        with pytest.raises(Unauthenticated):
            await state.access.admit(FIRST, None)
