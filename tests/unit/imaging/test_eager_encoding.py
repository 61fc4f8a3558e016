"""An answer is encoded from when it is there, not from when the event loop hears of it."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from service.core.types import Frame, Options, PredictRequest, PredictResult
from service.imaging.codec import ImageFormat
from service.imaging.eager_encoding import EagerEncoding
from service.serving import prediction
from service.serving.prediction import Caller, Picture, PicturePair
from tests.unit.imaging.pictures import file_of
from tests.unit.rpc.small import SmallEngine, parts, picture

PNGS = PicturePair(Picture(file_of(picture(0), "PNG")), Picture(file_of(picture(1), "PNG")))


class EarlyEngine(SmallEngine):
    """Tells an answer to the request from a thread of its own, and returns it once that has been encoded.

    `returned`: in its place, what the caller gets.
    """

    def __init__(self, returned: PredictResult | None = None) -> None:
        super().__init__()
        self.returned, self.encoded = returned, list[str | None]()

    async def predict(self, request: PredictRequest) -> PredictResult:
        result = await super().predict(request)
        assert request.on_result is not None
        thread = threading.Thread(target=request.on_result, args=(result,), name="device")
        thread.start()
        thread.join(60)
        encoding = request.on_result.__self__  # type: ignore[attr-defined]  # a bound method
        begun = encoding.begun(result)
        if begun is not None:
            # All of it on the loop's thread: nobody awaits, and it is encoded nevertheless.
            assert [len(future.result(60)) > 0 for future in begun.work._futures] == [True] * len(result.steps)
            self.encoded.append(request.id)
        return self.returned or result


@pytest.mark.parametrize(("steps", "format"), [(1, ImageFormat.PNG), (3, ImageFormat.JPEG)])
async def test_what_the_device_has_is_encoded_while_the_loop_does_nothing(steps: int, format: ImageFormat) -> None:
    engine, plain = EarlyEngine(), SmallEngine()
    value = await prediction.predict(parts(engine), PNGS, Options(steps=steps), format, None, Caller("early"))
    expected = await prediction.predict(parts(plain), PNGS, Options(steps=steps), format, None, Caller("early"))
    assert engine.encoded == ["early"]
    assert value.pictures == expected.pictures
    assert dict(value.stages)["encode"] > 0


async def test_raw_pixels_are_copied_where_they_are_sent() -> None:
    engine = EarlyEngine()
    value = await prediction.predict(parts(engine), PNGS, Options(), ImageFormat.RAW, None, Caller("raw"))
    assert engine.encoded == []
    assert len(value.pictures[0]) == picture(0).nbytes


async def test_an_answer_that_another_took_the_place_of_is_not_sent() -> None:
    other = Frame(np.full((32, 48, 3), 9, np.uint8))
    plain = await SmallEngine().predict(PredictRequest("r", Frame(picture(0)), Frame(picture(1))))
    instead = dataclasses.replace(plain, steps=(dataclasses.replace(plain.steps[0], frame=other),))
    state = parts(EarlyEngine(instead))
    value = await prediction.predict(state, PNGS, Options(), ImageFormat.PNG, None, Caller("instead"))
    sent = await state.codecs.decode(value.pictures[0], "frame")
    assert np.array_equal(sent.pixels, other.pixels)


async def test_nothing_is_begun_for_whoever_has_left_nor_once_the_codecs_are_closed() -> None:
    state = parts(SmallEngine())
    result = await SmallEngine().predict(PredictRequest("r", Frame(picture(0)), Frame(picture(1))))
    with EagerEncoding(state.codecs, state.clock, ImageFormat.PNG, None) as encoding:
        pass
    encoding.begin(result)
    assert encoding.begun(result) is None
    state.codecs.close()
    with EagerEncoding(state.codecs, state.clock, ImageFormat.PNG, None) as encoding:
        encoding.begin(result)
        assert encoding.begun(result) is None
