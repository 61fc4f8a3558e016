"""How to predict: each option once, as what callers may say by name and as what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal, TypedDict

#: How frames are sent back; png is exact, and so is what comes back where nothing is said.
Encoding = Literal["png", "jpeg", "webp"]
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
    t: float | Sequence[float] | None


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
    t: float | Sequence[float] | None = None

    @property
    def times(self) -> tuple[float, ...]:
        """Return all moments `t`; none where frames are counted by steps."""
        if self.t is None:
            return ()
        return tuple(self.t) if isinstance(self.t, Sequence) else (self.t,)

    @property
    def frames(self) -> int:
        """Count the frames that come back."""
        return len(self.times) or self.steps or 1

    def fields(self) -> dict[str, str]:
        """Return them as form fields."""
        options = ((name, getattr(self, name)) for name in self.__slots__ if name != "t")
        fields = {name: str(value) for name, value in options if value is not None}
        return fields | ({"t": ",".join(f"{t:.9f}" for t in self.times)} if self.times else {})
