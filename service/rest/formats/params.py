"""The options of a prediction as HTTP carries them: one table for every kind of body."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from service.core import moments
from service.core.errors import InvalidRequest
from service.core.types import Options, Quality
from service.settings import Settings

#: Names, and the JSON type each has in a JSON body.
NAMES: Mapping[str, type] = {
    "method": str,
    "version": str,
    "route": str,
    "seed": int,
    "blocks": int,
    "steps": int,
    "t": list,
    "scale": float,
    "quality": str,
    "deadline_ms": int,
    "image_quality": int,
    "maps": str,
}
TIMEOUT_HEADER = "x-request-timeout-ms"

_QUALITIES = [*Quality]
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_NUMBER = re.compile(r"-?[0-9]{1,6}(\.[0-9]{1,6})?")


class Maps(enum.StrEnum):
    """Whether flow and mask (of a mixture: confidence) come with each frame, and as which floats."""

    NONE = "none"
    FLOAT32 = "float32"
    FLOAT16 = "float16"


_MAPS = [*Maps]


@dataclass(frozen=True, slots=True)
class PredictParams:
    """What one request asks for, checked."""

    options: Options
    deadline_ms: int
    image_quality: int | None
    maps: Maps


def merge(sources: Iterable[Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Merge query and body into one value for each name. Refuses unknown names and second values."""
    values: dict[str, str] = {}
    for pairs in sources:
        for name, value in pairs:
            if name not in NAMES:
                raise InvalidRequest(
                    f"there is no option {shown(name)}; the options are {', '.join(NAMES)}", field=shown(name)
                )
            if name in values:
                raise InvalidRequest(f"{name} is given twice", field=name)
            values[name] = value
    return values


def of_json(name: str, value: object) -> str:
    """Return an option's value in a JSON body as the text a query would hold. Refuses a value of another type."""
    kind = NAMES[name]
    value = whole_number(value) if kind is int else value
    if kind is list:
        return ",".join(map(moments.text, moments.of_json(value)))
    # bool is an int in Python, never in JSON; a whole number is a number.
    fits = type(value) is kind or (kind is float and type(value) is int)
    if not fits:
        expected_type = {str: "a string", int: "a whole number", float: "a number"}[kind]
        raise InvalidRequest(f"{name} must be {expected_type}", field=name)
    try:
        return str(value)
    except ValueError:  # Python refuses to print integers of thousands of digits
        raise InvalidRequest(f"{name} has too many digits", field=name) from None


def whole_number(value: object) -> object:
    """Return a whole number that JSON wrote with a point as what it is; any other value as it came."""
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value


def parse(values: Mapping[str, str], timeout: str | None, settings: Settings) -> PredictParams:
    """Check the values of one request. InvalidRequest names the wrong option. `timeout` is X-Request-Timeout-Ms."""
    image_quality = _whole(values, "image_quality")
    if image_quality is not None and not 1 <= image_quality <= 100:
        raise InvalidRequest("image_quality must be between 1 and 100", field="image_quality")
    maps = Maps(_word(values, "maps", _MAPS, "none"))
    options = Options.parse(
        method=values.get("method"),
        version=values.get("version"),
        route=values.get("route"),
        seed=_whole(values, "seed"),
        blocks=_whole(values, "blocks"),
        scale=_number(values, "scale"),
        steps=_whole(values, "steps"),
        quality=Quality(_word(values, "quality", _QUALITIES, "exact")),
        maps=maps is not Maps.NONE,
        times=moments.read(values["t"]) if "t" in values else (),
    )
    return PredictParams(options.check(settings.max_steps), _deadline(values, timeout, settings), image_quality, maps)


def shown(name: str) -> str:
    """Trim a caller's own word and make it printable, for a message."""
    return name[:40].encode("ascii", "backslashreplace").decode()


def _deadline(values: Mapping[str, str], timeout: str | None, settings: Settings) -> int:
    field = "deadline_ms"
    if timeout is not None:
        if field in values:
            raise InvalidRequest("deadline_ms and X-Request-Timeout-Ms are both given", field=field)
        field, values = "X-Request-Timeout-Ms", {"X-Request-Timeout-Ms": timeout.strip()}
    value = _whole(values, field)
    if value is None:
        return settings.default_deadline_ms
    if timeout is not None:  # how long a client waits, as gRPC's deadline says: longer than we do is no mistake
        value = min(value, settings.max_deadline_ms)
    if not 1 <= value <= settings.max_deadline_ms:
        raise InvalidRequest(f"{field} must be between 1 and {settings.max_deadline_ms}", field=field)
    return value


def _whole(values: Mapping[str, str], name: str) -> int | None:
    text = values.get(name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text):
        raise InvalidRequest(f"{name} must be a whole number of at most 18 digits", field=name)
    return int(text)


def _number(values: Mapping[str, str], name: str) -> float | None:
    text = values.get(name)
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise InvalidRequest(f"{name} must be a number such as 0.5", field=name)
    return float(text)


def _word(values: Mapping[str, str], name: str, words: Sequence[str], default: str) -> str:
    text = values.get(name, default)
    if text not in words:
        raise InvalidRequest(f"{name} must be {' or '.join(words)}", field=name)
    return text
