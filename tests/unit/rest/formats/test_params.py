"""What options may be, whatever body they come in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.core.errors import InvalidRequest, ServiceError
from service.core.types import Quality, RouteChoice, RoutePolicy
from service.rest.formats.params import NAMES, Maps, merge, of_json, parse
from service.settings import Settings

SETTINGS = Settings(max_steps=5, default_deadline_ms=1000, max_deadline_ms=60_000)


def test_nothing_given_means_the_defaults() -> None:
    params = parse({}, None, SETTINGS)
    assert (params.options.route, params.options.steps, params.options.scale) == (RouteChoice(), 1, 1.0)
    assert (params.options.quality, params.options.maps) == (Quality.EXACT, False)
    assert (params.deadline_ms, params.image_quality, params.maps) == (1000, None, Maps.NONE)


def test_everything_can_be_given() -> None:
    given_ = {"route": "budget", "blocks": "3", "steps": "5", "scale": "0.25", "quality": "adaptive"}
    params = parse({**given_, "deadline_ms": "60000", "image_quality": "80", "maps": "float16"}, None, SETTINGS)
    assert params.options.route == RouteChoice(RoutePolicy.BUDGET, blocks=3)
    assert (params.options.steps, params.options.scale, params.options.quality) == (5, 0.25, Quality.ADAPTIVE)
    assert (params.deadline_ms, params.image_quality, params.maps, params.options.maps) == (
        60_000,
        80,
        Maps.FLOAT16,
        True,
    )


def test_a_header_can_set_the_deadline() -> None:
    assert parse({}, " 250 ", SETTINGS).deadline_ms == 250


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", value) for value in ("0", "-1", "6", "1.5", "", "one", "1e1", "9" * 19, "٣", " 1", "+1")),
        *(("seed", value) for value in ("-1", str(2**53), "x")),
        *(("blocks", value) for value in ("0", "10", "-1")),
        *(("scale", value) for value in ("0", "2", "nan", "inf", "-1", "1e400", "0.3", "")),
        *(("route", value) for value in ("", "fast", "000000000", "1111", "explicit", "1" * 1000)),
        *(("quality", value) for value in ("", "best")),
        *(("deadline_ms", value) for value in ("0", "-5", "60001", "soon")),
        *(("image_quality", value) for value in ("0", "101", "high")),
        *(("maps", value) for value in ("", "yes", "float64")),
    ],
)
def test_a_wrong_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse({name: value}, None, SETTINGS)
    assert error.value.field == name
    assert len(error.value.message) < 300


@pytest.mark.parametrize("header", ["0", "-1", "soon", ""])
def test_a_wrong_timeout_header_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse({}, header, SETTINGS)
    assert error.value.field == "X-Request-Timeout-Ms"


@pytest.mark.parametrize(("header", "deadline_ms"), [("59999", 59_999), ("60001", 60_000), ("9" * 18, 60_000)])
def test_a_client_may_wait_longer_than_the_service_lets_a_request_take(header: str, deadline_ms: int) -> None:
    """As over gRPC. Our own client with a timeout of an hour had each call refused, for a header it had made."""
    assert parse({}, header, SETTINGS).deadline_ms == deadline_ms


def test_two_deadlines_are_refused() -> None:
    with pytest.raises(InvalidRequest) as error:
        parse({"deadline_ms": "5"}, "5", SETTINGS)
    assert error.value.field == "deadline_ms"


def test_an_option_is_given_once_over_query_and_body() -> None:
    assert merge([[("steps", "1")], [("seed", "2")]]) == {"steps": "1", "seed": "2"}
    with pytest.raises(InvalidRequest) as error:
        merge([[("steps", "1")], [("steps", "1")]])
    assert error.value.field == "steps"


@pytest.mark.parametrize("name", ["step", "STEPS", "", "__proto__", "\udc80", "x" * 1000])
def test_an_unknown_option_is_refused_by_name(name: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        merge([[(name, "1")]])
    assert error.value.field is not None
    assert len(error.value.field) <= 40 * 6


@pytest.mark.parametrize(
    ("name", "value"),
    [("steps", True), ("steps", "1"), ("steps", 1.5), ("scale", "1"), ("scale", True), ("route", 1), ("maps", []),
     ("seed", {})],
)  # fmt: skip
def test_json_options_have_json_types(name: str, value: object) -> None:
    with pytest.raises(InvalidRequest) as error:
        of_json(name, value)
    assert error.value.field == name


def test_a_whole_number_that_json_wrote_with_a_point_is_one() -> None:
    assert (of_json("steps", 2.0), of_json("seed", 1e15), of_json("scale", 1.0)) == ("2", "1000000000000000", "1.0")
    with pytest.raises(InvalidRequest, match="seed must be a whole number"):
        of_json("seed", 2.0**53)  # from here on a number with a point may have been another


def test_a_json_number_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="digits"):
        of_json("seed", 10**5000)


@given(st.dictionaries(st.sampled_from(sorted(NAMES)), st.text(max_size=12)), st.none() | st.text(max_size=6))
def test_any_text_gives_a_wish_or_a_service_error(given_: dict[str, str], timeout: str | None) -> None:
    try:
        params = parse(given_, timeout, SETTINGS)
    except ServiceError as error:
        assert error.code == "invalid_request"  # noqa: PT017 - both outcomes are right
    else:
        assert 1 <= params.options.steps <= SETTINGS.max_steps
