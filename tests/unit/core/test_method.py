"""Which method a request gets, by what it names and by what is served."""

from __future__ import annotations

from typing import Any

import pytest

from service.core.errors import InvalidRequest
from service.core.interfaces import ServedModel
from service.core.types import Method, Options, Quality, RouteChoice

ALL = (Method.DMVFN, Method.FLOW, Method.MIX)


def served(methods: tuple[Method, ...] = ALL, default: Method = Method.MIX) -> ServedModel:
    return ServedModel("1", "cpu", "float32", 1, "RGB", "clips", "", {}, methods, default)


@pytest.mark.parametrize(
    "named", [{"route": "auto"}, {"seed": 0}, {"blocks": 3}, {"scale": 1.0}, {"scale": 0.5}, {"maps": True}]
)
def test_naming_an_option_of_the_network_and_no_method_asks_for_the_network(named: dict[str, Any]) -> None:
    assert Method.parse(None, **named) is Method.DMVFN
    assert Method.parse(None) is None


@pytest.mark.parametrize("method", ["flow", "mix"])
@pytest.mark.parametrize("named", [{"route": "auto"}, {"seed": 0}, {"blocks": 3}, {"scale": 1.0}])
def test_a_mixture_refuses_what_only_the_network_has(method: str, named: dict[str, Any]) -> None:
    (field,) = named
    with pytest.raises(InvalidRequest, match=f"^{field} means nothing with method {method}$") as refused:
        Method.parse(method, **named)
    assert refused.value.field == field
    assert Method.parse(method, maps=True) is Method(method)
    assert Method.parse("dmvfn", **named) is Method.DMVFN


def test_an_unknown_method_is_refused_by_name() -> None:
    with pytest.raises(InvalidRequest, match="method must be dmvfn or flow or mix, not 'magic'") as refused:
        Method.parse("magic")
    assert refused.value.field == "method"


@pytest.mark.parametrize("options", [Options(RouteChoice.parse("full")), Options(scale=0.5)])
def test_options_that_contradict_each_other_are_refused_wherever_they_were_made(options: Options) -> None:
    assert options.check(1) is options
    contradiction = Options(options.route, scale=options.scale, method=Method.FLOW)
    with pytest.raises(InvalidRequest, match="means nothing with method flow"):
        contradiction.check(1)


@pytest.mark.parametrize(
    ("options", "method"),
    [
        (Options(), Method.MIX),
        (Options(method=Method.DMVFN), Method.DMVFN),
        (Options(method=Method.FLOW, maps=True), Method.FLOW),
        (Options(RouteChoice.parse("full")), Method.DMVFN),
        (Options(scale=0.25), Method.DMVFN),
        (Options(maps=True), Method.DMVFN),
    ],
)
def test_the_weights_say_what_predicts_where_a_request_leaves_it_open(options: Options, method: Method) -> None:
    assert served().method_for(options) is method


def test_a_method_that_is_not_served_is_refused_with_those_that_are() -> None:
    model = served((Method.DMVFN, Method.FLOW), Method.DMVFN)
    assert model.method_for(Options()) is Method.DMVFN
    with pytest.raises(InvalidRequest, match="method mix is not served here; there is dmvfn, flow") as refused:
        model.method_for(Options(method=Method.MIX))
    assert refused.value.field == "method"


def test_fast_is_flow_and_refuses_what_only_others_can_mean() -> None:
    fast = Options.parse(quality=Quality.FAST, maps=True, steps=2)
    assert (fast.method, fast.quality, fast.allows_live) == (Method.FLOW, Quality.FAST, False)
    assert Options.parse(quality=Quality.FAST, method="flow", times=(0.5,)).method is Method.FLOW
    for method in ("dmvfn", "mix", "other"):
        with pytest.raises(InvalidRequest, match=f"quality fast is of method flow, not '{method}'") as refused:
            Options.parse(quality=Quality.FAST, method=method)
        assert refused.value.field == "quality"
    for named in ({"route": "full"}, {"route": "auto"}, {"seed": 1}, {"blocks": 2}):
        with pytest.raises(InvalidRequest, match="means nothing with method flow") as refused:
            Options.parse(quality=Quality.FAST, **named)
        assert refused.value.field == next(iter(named))


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.25])
def test_fast_takes_a_size_at_which_motion_is_found(scale: float) -> None:
    for method in (None, "flow"):
        fast = Options.parse(quality=Quality.FAST, scale=scale, method=method).check(1)
        assert (fast.scale, fast.method) == (scale, Method.FLOW)
        assert served().method_for(fast) is Method.FLOW
    for quality in (Quality.EXACT, Quality.ADAPTIVE):
        with pytest.raises(InvalidRequest, match="scale means nothing with method flow"):
            Options.parse(quality=quality, method="flow", scale=scale)
    with pytest.raises(InvalidRequest, match=r"scale must be 1, 0\.5 or 0\.25"):
        Options.parse(quality=Quality.FAST, scale=0.3).check(1)


@pytest.mark.parametrize(
    ("options", "allowed"),
    [
        (Options(quality=Quality.ADAPTIVE), True),
        (Options(quality=Quality.ADAPTIVE, method=Method.FLOW), True),
        (Options(quality=Quality.ADAPTIVE, method=Method.MIX), False),
        (Options(quality=Quality.ADAPTIVE, method=Method.DMVFN), False),
        (Options(RouteChoice.parse("full"), quality=Quality.ADAPTIVE), False),
        (Options(quality=Quality.ADAPTIVE, maps=True), False),
        (Options(), False),
        (Options(method=Method.FLOW), False),
    ],
)
def test_the_live_head_stands_in_only_where_nothing_else_was_named(options: Options, allowed: bool) -> None:
    assert options.allows_live is allowed
