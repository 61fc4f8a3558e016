"""Settings come from a mapping, defaults are stated once, and a bad value is named."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from pathlib import Path

import pytest

from service.settings import Settings, SettingsError, table, unknown
from tests.house import ROOT


def test_defaults_need_no_environment() -> None:
    assert Settings.from_env({}) == Settings()
    assert Settings.from_env({"DMVFN_MAX_BATCH": ""}) == Settings()


def test_values_are_read_by_name() -> None:
    settings = Settings.from_env(
        {
            "DMVFN_MAX_BATCH": "3",
            "DMVFN_WARMUP_SIZES": "64x96, 128x128",
            "DMVFN_API_KEYS": "ann:secret-key",
            "OTHER": "1",
        }
    )
    assert settings.max_batch == 3
    assert settings.warmup_sizes == ((64, 96), (128, 128))
    assert settings.api_keys == (("ann", "secret-key"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DMVFN_MAX_BATCH", "0"),
        ("DMVFN_MAX_BATCH", "many"),
        ("DMVFN_HTTP_PORT", "70000"),
        ("DMVFN_TRUSTED_PROXIES", "10.0.0.7,proxy.example"),
        ("DMVFN_DTYPE", "float8"),
        ("DMVFN_MAX_ASPECT", "nan"),
        ("DMVFN_WARMUP_SIZES", "64"),
        ("DMVFN_WEIGHTS", "/nowhere/w.safetensors"),
        ("DMVFN_GRPC_ENABLED", "maybe"),
        ("DMVFN_DEFAULT_DEADLINE_MS", "999999999"),
    ],
)
def test_a_bad_value_stops_the_start_and_names_the_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        Settings.from_env({name: value})


def test_sides_between_which_nothing_lies_are_refused() -> None:
    with pytest.raises(SettingsError, match="DMVFN_MIN_SIDE is above DMVFN_MAX_SIDE"):
        Settings.from_env({"DMVFN_MIN_SIDE": "64", "DMVFN_MAX_SIDE": "32"})


def test_a_grpc_message_is_no_larger_than_grpc_can_count() -> None:
    assert Settings.from_env({"DMVFN_MAX_BODY_BYTES": str(2**40)}).message_bytes == 2**31 - 1


def test_a_bad_secret_is_not_printed() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.from_env({"DMVFN_API_KEYS": "ann:short"})
    assert "short" not in str(caught.value)
    assert "DMVFN_API_KEYS" in str(caught.value)


def test_a_certificate_needs_its_key(tmp_path: Path) -> None:
    (tmp_path / "c.pem").write_text("x")
    with pytest.raises(SettingsError, match="DMVFN_TLS_KEY"):
        Settings.from_env({"DMVFN_TLS_CERT": str(tmp_path / "c.pem")})


def test_names_that_mean_nothing_are_found() -> None:
    assert unknown({"DMVFN_MAX_BACH": "1", "DMVFN_MAX_BATCH": "1", "HOME": "/"}) == ["DMVFN_MAX_BACH"]


def test_the_documentation_holds_the_same_table() -> None:
    text = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()
    assert table() in text, "run scripts/docs"


def test_every_setting_is_explained() -> None:
    assert all(field.metadata["help"].endswith(".") for field in dataclasses.fields(Settings))


def test_every_setting_has_an_effect() -> None:
    """Each is read by its name somewhere: of one that was not, the documentation promised what nothing did."""
    texts = [path.read_text("utf-8") for path in (ROOT / "service").rglob("*.py")]
    words = Counter(word for text in texts for word in re.findall(r"\.(\w+)", text))
    assert [field.name for field in dataclasses.fields(Settings) if not words[field.name]] == []
