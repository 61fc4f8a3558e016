"""One clip from the file of a request's body to pieces of an answer: opened, predicted, encoded, never held whole."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, cast

from service.app_state import AppState
from service.core.errors import InvalidFrame, InvalidRequest, ServiceError, TooLarge, Unsupported
from service.core.types import Options
from service.imaging.codec import FrameLimits
from service.serving.video import y4m
from service.serving.video.clip import ClipSink, ClipSource, Item, SoundMode, Timed, VideoError
from service.serving.video.clip_disk import ClipFile
from service.serving.video.clip_frames import ConversionParams, clip_frames
from service.serving.video.clip_memory import ClipMemory, clip_bytes
from service.serving.video.compare import FrameScore
from service.serving.video.files import y4m_sink
from service.serving.video.frame_prediction import ClipPredictors
from service.serving.video.retimed_frames import RetimingParams
from service.serving.video.y4m import Y4mSource
from service.thread_work import run_to_end

#: What comes out, ours first, and the container's ending.
OUTPUTS = {
    "video/mp4": ".mp4",
    "video/x-yuv4mpeg2": ".y4m",
    "video/webm": ".webm",
    "video/x-matroska": ".mkv",
}
#: PyAV is loaded when it is needed: y4m does without.
WITHOUT_PYAV = "this server reads and writes y4m only; PyAV is not installed"
#: Frames of one clip at most: two minutes at 30 a second.
MAX_FRAMES = 3600


@dataclass(frozen=True, slots=True)
class ClipOrder:
    """What is asked for: what is made of the clip, how to predict, and the container that comes out."""

    params: ConversionParams
    options: Options
    suffix: str
    media_type: str
    sound: SoundMode = SoundMode.COPY


class _Outlet:
    """Where a sink writes: whole pieces, taken away as they come."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""

    def take(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


class Conversion:
    """One clip, from the body's file to pieces of the answer, of at most `most` bytes together.

    Its frames are reserved in `memory` before a second one is decoded; where there is no room, a `patient` one waits.
    """

    def __init__(
        self,
        state: AppState,
        order: ClipOrder,
        client: str,
        file: ClipFile,
        most: int,
        memory: ClipMemory,
        *,
        patient: bool,
    ) -> None:
        self._state, self._order, self._file, self._most = state, order, file, most
        self._memory, self._patient = memory, patient
        self.done = 0
        #: Predict its frames; others may take their place before `pieces`.
        self.predictors = ClipPredictors.of(state.engine, order.options, state.settings, client)
        self.notes: tuple[str, ...] = ()  #: what is left out or changed; known with the first piece

    async def check(self) -> int | None:
        """Look at the clip's beginning, and let go of it: frames, where known. InvalidFrame if it is no clip."""
        source = await self._open()
        source.close()
        return self._order.params.shown(source).info.frames

    async def _open(self) -> ClipSource:
        limits = FrameLimits.of(self._state.settings)
        has_sound = self._order.sound is not SoundMode.NONE
        work = partial(_open, self._file.file, limits, has_sound)
        source = await run_to_end(work, release=lambda clip: clip.close())
        try:
            self._check_length(source)
        except ServiceError:
            source.close()
            raise
        return source

    def _check_length(self, source: ClipSource) -> None:
        """Refuse before the first frame what its header says to be too much: later, the answer would break off."""
        info, shown = source.info, self._order.params.shown(source).info
        if not info.counted:
            return
        if (info.frames or 0) > MAX_FRAMES:
            raise _too_many(f"this one has {info.frames}")
        if (shown.frames or 0) > MAX_FRAMES:
            raise _too_many_shown(self._order.params, f"this one would have {shown.frames}")
        width, height = self._order.params.size(source)
        nbytes = (shown.frames or 0) * width * height * 3 // 2
        if self._order.suffix == ".y4m" and nbytes > self._most:
            raise _too_large(self._most, f"as y4m this one would take {nbytes}; ")

    async def close(self) -> None:
        """Let go of the body's file."""
        self._file.drop()

    def progress(self) -> int:
        """Count the frames written."""
        return self.done

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yield the answer as it is made. QueueFull before the first piece where there is no room for its frames."""
        source, nbytes = await self._open(), 0
        order = self._order
        try:
            async with (
                self._memory.hold(clip_bytes(source, order.params, order.options.steps), patient=self._patient),
                aclosing(self._converted(source)) as pieces,
            ):
                async for piece in pieces:
                    nbytes += len(piece)
                    if nbytes > self._most:
                        raise _too_large(self._most)
                    yield piece
        except VideoError as error:
            raise InvalidFrame(str(error), field="body") from error
        finally:
            source.close()

    async def _converted(self, source: ClipSource) -> AsyncGenerator[bytes, None]:
        outlet = _Outlet()
        params = self._order.params
        sink = await run_to_end(partial(_sink, outlet, params.shown(source), params.size(source), self._order))
        self.notes = (*source.info.notes, *sink.notes)
        async with aclosing(clip_frames(_Bounded(source), params, self.predictors, FrameScore())) as items:
            async for item, _ in items:
                await run_to_end(partial(sink.write, item))
                if isinstance(item, Timed):
                    self.done += 1
                    if self.done > MAX_FRAMES:
                        raise _too_many_shown(params, "this one would have more")
                # A container's header would go out before anything is predicted, and an error could no longer be told.
                if self.done and (data := outlet.take()):
                    yield data
        await run_to_end(sink.close)
        yield outlet.take()


class _Bounded:
    """A clip that ends with an error where it has more frames than it may; not every header tells their number."""

    def __init__(self, source: ClipSource) -> None:
        self.info, self._source = source.info, source

    def __iter__(self) -> Iterator[Item]:
        count = 0
        for item in self._source:
            count += isinstance(item, Timed)
            if count > MAX_FRAMES:
                raise _too_many("its header does not tell how many this one has, so it was begun")
            yield item

    def close(self) -> None:
        """Close the clip."""
        self._source.close()


def _too_many(why: str) -> InvalidRequest:
    return InvalidRequest(f"a clip may have at most {MAX_FRAMES} frames; {why}; send it in parts", field="body")


def _too_large(most: int, why: str = "") -> TooLarge:
    return TooLarge(f"a clip may take at most {most} bytes; {why}MP4 takes fewest", field="body")


def _too_many_shown(params: ConversionParams, why: str) -> InvalidRequest:
    field = "fps" if isinstance(params, RetimingParams) and params.fps is not None else "conceal"
    message = (
        f"a clip may come out with at most {MAX_FRAMES} frames; {why}; ask for fewer a second, or send it in parts"
    )
    return InvalidRequest(message, field=field)


def _open(file: BinaryIO, limits: FrameLimits, has_sound: bool) -> ClipSource:
    length = file.seek(0, 2)
    file.seek(0)
    is_y4m = file.read(len(y4m.MAGIC)) == y4m.MAGIC
    file.seek(0)
    try:
        if is_y4m:
            return Y4mSource(file, limits=limits, length=length)
        try:
            from service.serving.video.container_reader import ContainerSource
        except ImportError:
            raise Unsupported(WITHOUT_PYAV) from None
        return ContainerSource(file, limits=limits, sound=has_sound)
    except VideoError as error:
        raise InvalidFrame(str(error), field="body") from error


def _sink(outlet: _Outlet, source: ClipSource, size: tuple[int, int], order: ClipOrder) -> ClipSink:
    width, height = size
    file = cast(BinaryIO, outlet)  # of which sinks use `write` and `flush` only
    try:
        if order.suffix == ".y4m":
            return y4m_sink(file, source, width, height)
        try:
            from service.serving.video.container_writer import ContainerSink
        except ImportError:
            raise Unsupported(WITHOUT_PYAV) from None
        sounds, suffix = list(getattr(source, "sounds", ())), order.suffix
        return ContainerSink(file, width, height, source.info, suffix=suffix, sounds=sounds, mode=order.sound)
    except VideoError as error:
        raise InvalidRequest(str(error), field="Accept") from error
