"""`python -m service keys`: a key is shown once, its digest goes into the file, and files are checked."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from service.__main__ import main as service_main
from service.cli.keys import main
from service.core.api_keys import Scope, read_keys
from service.settings import Settings
from service.telemetry import logging as service_logging
from tests.unit.test_key_file import FIRST


def test_a_new_key_fits_the_table_that_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["new", "web.page", "--scopes", "predict,streams", "--requests-per-s", "5", "--gflop", "1e6"]
    assert main(words, Settings()) == 0
    printed = capsys.readouterr()
    key = printed.err.rpartition(" ")[2].strip()
    assert (key.startswith("dmvfn_"), len(key) > 40, key in printed.out) == (True, True, False)
    (entry,) = read_keys(printed.out).keys
    assert (entry.name, entry.scopes) == ("web.page", frozenset({Scope.PREDICT, Scope.STREAMS}))
    assert entry.requests is not None
    assert (entry.requests.per_second, entry.gflop is not None) == (5, True)
    assert read_keys(printed.out).identify(key) is not None


def test_tables_of_several_keys_make_one_file(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        assert main(["new", name], Settings()) == 0
    assert [key.name for key in read_keys(capsys.readouterr().out).keys] == ["one", "two"]


def test_a_key_that_exists_is_digested(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{FIRST}\n"))
    assert main(["new", "web", "--stdin"], Settings()) == 0
    printed = capsys.readouterr()
    assert read_keys(printed.out).identify(FIRST).name == "web"
    assert FIRST not in printed.out + printed.err


@pytest.mark.parametrize("words", [["new", "a b"], ["new", "web", "--scopes", "all"], ["new", "web", "--burst", "2"]])
def test_what_no_file_may_hold_is_not_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words, Settings()) == 2
    assert capsys.readouterr().out == ""


def test_a_file_is_listed_without_its_secrets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "keys"
    path.write_text(f'[web]\nkey = "{FIRST}"\nscopes = ["jobs"]\nrequests_per_s = 5\ngflop = 1000')
    assert main(["check"], Settings(api_keys_file=path)) == 0
    assert capsys.readouterr().out == "web  keys 1  scopes jobs  requests 5/s, 5 at once  gflop 1000 in 3600 s\n"
    path.write_text(f'[web]\nkey = "{FIRST}')
    assert main(["check", str(path)], Settings()) == 1
    assert FIRST not in capsys.readouterr().err
    assert main(["check"], Settings()) == 2


def test_a_key_is_made_where_no_queue_is_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a front end's image, whose engine is Redis."""
    # Loggers are the whole process's: they would go on writing to this test's standard error once it is closed.
    monkeypatch.setattr(service_logging, "configure", lambda level, form: None)
    monkeypatch.setenv("DMVFN_ENGINE", "redis")
    assert service_main(["keys", "new", "web"]) == 0
    assert "[web]" in capsys.readouterr().out
