"""A clip in, a clip out: what to ask for, and where the answer goes. Does no network I/O itself."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING

from dmvfn_client import errors
from dmvfn_client.options import ClipOptions, Container, Options, Sound, chosen
from dmvfn_client.rest import Call

if TYPE_CHECKING:
    from typing_extensions import Unpack

VIDEO = "/v1/video"
#: A clip's file, or its bytes.
Clip = str | os.PathLike[str] | bytes
#: What the answer is written to: a new file's path, or a file open for writing.
Output = str | os.PathLike[str] | IO[bytes]
_TYPES = {"mp4": "video/mp4", "mkv": "video/x-matroska", "webm": "video/webm", "y4m": "video/x-yuv4mpeg2"}


def call(
    ahead: int | None = None,
    every: int | None = None,
    lost: str | Sequence[int] | None = None,
    *,
    fps: str | float | Fraction | None = None,
    conceal: bool = False,
    compare: bool = False,
    container: Container = "mp4",
    sound: Sound = "copy",
    **options: Unpack[ClipOptions],
) -> Call:
    """The request without its body. Exactly one of `ahead`, `every` and `lost` is said, or `fps`, `conceal` or both."""
    chosen(container, _TYPES, "container")
    is_retimed = fps is not None or conceal
    if sum(choice is not None for choice in (ahead, every, lost)) + is_retimed != 1:
        why = "say one of ahead, every and lost; or fps, conceal or both"
        raise errors.InvalidInput(why, code="invalid_request", field="fps" if is_retimed else "ahead")
    numbers = lost if isinstance(lost, str) or lost is None else ",".join(map(str, lost))
    rate = f"{fps:.6f}" if isinstance(fps, float) else fps
    choices = {"ahead": ahead, "every": every, "lost": numbers, "fps": rate, "conceal": 1 if conceal else None}
    query = {name: str(value) for name, value in choices.items() if value is not None} | Options(**options).fields()
    if compare:
        query["compare"] = "1"
    if sound != "copy":
        query["sound"] = sound
    return Call("POST", VIDEO, {"Accept": _TYPES[container], "Content-Type": "application/octet-stream"}, params=query)


@contextlib.contextmanager
def opened(clip: Clip) -> Iterator[IO[bytes] | bytes]:
    """The clip to be sent: bytes as they are, a file open for reading."""
    if isinstance(clip, bytes):
        yield clip
        return
    with Path(clip).open("rb") as file:
        yield file


@contextlib.contextmanager
def written(output: Output) -> Iterator[IO[bytes]]:
    """Where pieces go. A path gets its file when all have come; of an answer that breaks off nothing is left."""
    if not isinstance(output, str | os.PathLike):
        yield output
        return
    path = Path(output)
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
