"""How to predict: each option once, as what callers may say by name and as what is sent."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, TypedDict

import numpy as np
from numpy.typing import NDArray

from dmvfn_client.errors import InvalidInput

#: How frames are sent back; png is exact, and so is what comes back where nothing is said.
Encoding = Literal["png", "jpeg", "webp"]
ENCODINGS: tuple[Encoding, ...] = ("png", "jpeg", "webp")
Container = Literal["mp4", "mkv", "webm", "y4m"]
#: What of a clip's sound comes back: what the container holds; all, encoded anew where need be; or nothing.
Sound = Literal["copy", "transcode", "none"]


class ClipOptions(TypedDict, total=False):
    """The options of a prediction inside a clip. docs/api.md says what each means."""

    route: str | None
    blocks: int | None
    scale: float | None
    method: Literal["dmvfn", "flow", "mix"] | None
    version: str | None


class ClipParams(ClipOptions, total=False):
    """What is made of a clip, and the container that comes back.

    One of `ahead`, `every` and `lost`; or another rate, `conceal` for dropped and repeated frames, or both of these.
    """

    ahead: int | None
    every: int | None
    lost: str | Sequence[int] | None
    fps: str | float | Fraction | None
    conceal: bool
    compare: bool
    container: Container
    sound: Sound


class StreamOptions(ClipOptions, total=False):
    """The options of a stream's predictions."""

    quality: Literal["exact", "adaptive", "fast"] | None
    t: float | Sequence[float] | NDArray[Any] | None


class PairOptions(StreamOptions, total=False):
    """The options of the prediction of a pair."""

    steps: int | None
    seed: int | None


class PictureOptions(PairOptions, total=False):
    """The options of a pair whose answer comes as pictures."""

    image_quality: int | None


class PredictParams(PictureOptions, total=False):
    """All that may be said of a prediction over REST. `timeout`: seconds, in place of the client's."""

    maps: bool
    encoding: Encoding | None
    timeout: float | None


@dataclass(frozen=True, slots=True)
class Options:
    """The options as they are sent; None leaves one to the service."""

    steps: int | None = None
    route: str | None = None
    seed: int | None = None
    blocks: int | None = None
    scale: float | None = None
    quality: Literal["exact", "adaptive", "fast"] | None = None
    image_quality: int | None = None
    method: Literal["dmvfn", "flow", "mix"] | None = None
    #: Of the weights; None: the service's default.
    version: str | None = None
    #: In place of steps: when frames are shown, in frame intervals after the newer frame.
    t: float | Sequence[float] | NDArray[Any] | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """Return all moments `t`; none where frames are counted by steps. Raises InvalidInput for what is no number."""
        if self.t is None:
            return ()
        try:
            moments = np.atleast_1d(np.asarray(self.t, np.float64))
        except (TypeError, ValueError):
            moments = np.empty(0)
        if moments.ndim != 1 or not moments.size:
            raise InvalidInput("t must be a number or several, such as [0.5, 1]", code="invalid_request", field="t")
        return tuple(moments.tolist())

    @property
    def frames(self) -> int:
        """Count the frames that come back."""
        return len(self.times) or self.steps or 1

    def fields(self) -> dict[str, str]:
        """Return them as form fields."""
        options = ((name, getattr(self, name)) for name in self.__slots__ if name != "t")
        fields = {name: str(value) for name, value in options if value is not None}
        return fields | ({"t": ",".join(f"{t:.9f}" for t in self.times)} if self.times else {})


def chosen(value: str | None, names: Iterable[str], field: str) -> str | None:
    """Return the value. Raises InvalidInput where it is none of `names`: the service would take it for none at all."""
    if value is not None and value not in names:
        raise InvalidInput(f"{field} must be {' or '.join(names)}, not {value!r}", code="invalid_request", field=field)
    return value
