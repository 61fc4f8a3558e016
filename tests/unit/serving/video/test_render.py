from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from service.core.errors import Internal
from service.core.timings import Timings
from service.core.types import Frame, PredictResult, Step
from service.serving.video.clip import Item, Passed, Timed, VideoError
from service.serving.video.plan import Ahead, Every, FillLost, FramePlan
from service.serving.video.render import UNDER_WAY, WAITING, ShownFrame, frames_held, render
from tests.unit.serving.video.clips import Held, answer, moving, shifted


async def _shown(frames: list[Frame], plan: FramePlan, **more: bool) -> list[ShownFrame]:
    return [item async for item in render(Held(frames), plan, shifted, **more) if isinstance(item, ShownFrame)]


@pytest.mark.parametrize("plan", [Ahead(1), Ahead(3), Every(2), FillLost(frozenset({4, 5, 9}))])
async def test_right_predictions_give_the_clip_itself(plan: FramePlan) -> None:
    frames = moving(12)
    shown = await _shown(frames, plan)
    assert [item.original.pts for item in shown] == list(range(12))
    assert all(np.array_equal(item.frame.pixels, frame.pixels) for item, frame in zip(shown, frames, strict=True))
    assert any(item.result for item in shown)


async def test_lost_frames_are_never_looked_at() -> None:
    frames = moving(8)
    spoilt = list(frames)
    spoilt[4] = spoilt[5] = Frame(np.zeros_like(frames[0].pixels))
    shown = await _shown(spoilt, FillLost(frozenset({4, 5})))
    assert all(np.array_equal(item.frame.pixels, frame.pixels) for item, frame in zip(shown, frames, strict=True))


async def test_nothing_is_predicted_across_a_scene_cut_unless_asked() -> None:
    dark = Frame(np.zeros((32, 48, 3), np.uint8))
    frames = [*moving(4), dark, *moving(4, seed=8)]
    kept = [item.result is None for item in await _shown(frames, Every(1))]
    assert kept == [True, True, False, False, True, True, True, False, False]
    across = [item.result is None for item in await _shown(frames, Every(1), scene_cuts=False)]
    assert across == [True, True, *[False] * 7]


async def test_a_slow_engine_gets_few_requests_and_few_frames_are_held() -> None:
    gate, waiting = asyncio.Event(), 0

    async def slow(previous: Frame, current: Frame, steps: int) -> PredictResult:
        nonlocal waiting
        waiting += 1
        await gate.wait()
        return answer(current)

    source = Held(moving(100))
    shown = render(source, Every(1), slow)
    first = asyncio.ensure_future(anext(shown))
    await first  # the two frames that are kept come out while predictions wait
    second = asyncio.ensure_future(anext(shown))
    await second
    third = asyncio.ensure_future(anext(shown))
    await _until(lambda: waiting == UNDER_WAY + 1)
    assert source.taken == 2 + UNDER_WAY + 1
    gate.set()
    await third
    await shown.aclose()


async def test_an_error_ends_it_and_withdraws_what_is_under_way() -> None:
    begun = withdrawn = 0

    async def failing(previous: Frame, current: Frame, steps: int) -> PredictResult:
        nonlocal begun, withdrawn
        begun += 1
        if np.array_equal(current.pixels, frames[1].pixels):
            raise Internal("broken")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            withdrawn += 1
            raise
        return answer(current)

    frames = moving(20)
    with pytest.raises(Internal, match="broken"):
        async for _ in render(Held(frames), Every(1), failing):
            pass
    assert begun > 2
    assert withdrawn == begun - 1


async def test_packets_of_sound_keep_their_places() -> None:
    class WithSound(Held):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for k, item in enumerate(super().__iter__()):
                yield item
                yield Passed(f"sound {k}", 0)

    found: list[Item | ShownFrame] = [item async for item in render(WithSound(moving(4)), Every(1), shifted)]
    assert [type(item) for item in found] == [ShownFrame, Passed] * 4


async def test_a_clip_whose_size_changes_says_where() -> None:
    with pytest.raises(VideoError, match="changes at frame 3"):
        async for _ in render(Held([*moving(3), *moving(1, height=40)]), Every(2), shifted):
            pass


async def _until(met: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not met():
            await asyncio.sleep(0.005)


async def test_much_sound_behind_one_frame_is_not_held() -> None:
    ahead = 0

    class OneFrame(Held):
        def __iter__(self) -> Iterator[Item]:
            nonlocal ahead
            yield from super().__iter__()
            for k in range(2000):
                ahead += 1
                yield Passed(f"sound {k}", 0)

    found: list[Item | ShownFrame] = []
    async for item in render(OneFrame(moving(1)), Every(2), shifted):
        assert ahead - len(found) <= WAITING + 1
        found.append(item)
    assert len(found) == 2001


async def test_errors_behind_the_first_one_are_not_reported_as_never_retrieved() -> None:
    async def failing(previous: Frame, current: Frame, steps: int) -> PredictResult:
        raise Internal("broken")

    reports: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
    shown = render(Held(moving(9)), Every(1), failing)
    with contextlib.suppress(Internal):
        while True:
            await anext(shown)
            await asyncio.sleep(0.01)
    await shown.aclose()
    gc.collect()
    await asyncio.sleep(0)
    assert reports == []


class Alive:
    """Makes frames and counts those that somebody holds."""

    def __init__(self) -> None:
        self.count = self.most = 0

    def frame(self) -> Frame:
        pixels = np.full((16, 16, 3), 7, np.uint8)
        weakref.finalize(pixels, self._gone)
        self.count += 1
        self.most = max(self.most, self.count)
        return Frame(pixels)

    def _gone(self) -> None:
        self.count -= 1

    def __iter__(self) -> Iterator[Item]:
        return (Timed(self.frame(), k) for k in range(40))

    async def predict(self, previous: Frame, current: Frame, steps: int) -> PredictResult:
        await asyncio.sleep(0)
        return PredictResult("r", tuple(Step(self.frame(), (True,) * 9, 9) for _ in range(steps)), "test", Timings())


@pytest.mark.parametrize("plan", [Ahead(1), Ahead(8), Every(1), FillLost(frozenset(range(5, 35)))])
async def test_no_more_frames_are_held_than_a_clip_is_counted_with(plan: FramePlan) -> None:
    alive, steps = Alive(), plan.steps if isinstance(plan, Ahead) else 1
    async for _ in render(alive, plan, alive.predict):
        await asyncio.sleep(0.001)  # a slow reader: what may run ahead does
    bound = frames_held(plan, steps)
    assert bound / 3 < alive.most <= bound
