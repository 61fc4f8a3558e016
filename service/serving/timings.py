"""Where the time of one prediction went, by the names that headers, messages, log lines and spans share.

Knows no transport.
"""

from __future__ import annotations

from service.core.types import PredictResult, route_text

#: Stages in order, each with its seconds.
Stages = tuple[tuple[str, float], ...]


def stages(result: PredictResult, *, decode: float, encode: float, waited: float = 0.0) -> Stages:
    """List the stages in order.

    `decode` and `encode`: around the engine; `waited`: for a turn within its stream, before the engine had it.
    """
    timings = result.timings
    return (
        ("decode", decode),
        ("queue", waited + timings.queue),
        ("route", timings.route),
        ("blocks", timings.blocks),
        ("encode", encode),
    )


def facts(result: PredictResult, seconds_by_stage: Stages) -> dict[str, str | int | float | bool]:
    """Return the fields that a log line and a span show of a prediction."""
    frame = result.steps[0].frame
    return {
        "route": ",".join(route_text(step.route) for step in result.steps),
        "flops": result.flops,
        "batch_size": result.batch_size,
        "width": frame.width,
        "height": frame.height,
        **{f"{name}_ms": round(seconds * 1000, 3) for name, seconds in seconds_by_stage},
    }
