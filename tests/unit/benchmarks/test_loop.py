"""The closed loop: a camera that sees what is there, a driver who stays on the road, and delays that matter."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks.loop import drive, report
from benchmarks.loop.ways import ways
from benchmarks.loop.world import CELL, HALF_ROAD, HALF_SIDE, Camera, Pose, Road


@pytest.fixture(scope="module")
def road() -> Road:
    return Road.draw(0)


@pytest.mark.parametrize(("ahead", "left"), [(4.0, 0.0), (8.0, 1.5), (30.0, -4.0)])
def test_the_camera_finds_a_place_where_it_shows_it(ahead: float, left: float) -> None:
    camera = Camera()
    depth = ahead * math.cos(camera.pitch) + camera.above * math.sin(camera.pitch)
    column, row = camera.width_px / 2 - left * camera.focal / depth, camera.row(ahead)
    assert camera.aside(column, ahead) == pytest.approx(left)
    x, y, w = camera.to_plane() @ (column, row, 1)
    assert (x / w, y / w) == pytest.approx((ahead, left))


def test_a_picture_shows_the_plane_at_the_right_place() -> None:
    plane = np.zeros((round(2 * HALF_SIDE / CELL),) * 2 + (3,), np.uint8)
    # A white square of 2 m, its middle 10 m to the north and 2 m to the west of the origin.
    x, y = round((HALF_SIDE - 2) / CELL), round((HALF_SIDE + 10) / CELL)
    plane[y - 10 : y + 10, x - 10 : x + 10] = 255
    scene = Road(np.zeros((2, 2)), plane, np.zeros((128, 64, 3), np.uint8))
    camera = Camera()
    picture = scene.look(Pose(0, 0, math.pi / 2), camera, np.random.default_rng(0))
    rows, columns = np.nonzero(picture[..., 0] > 128)
    assert rows.mean() == pytest.approx(camera.row(10), abs=1.5)
    assert camera.aside(columns.mean(), 10) == pytest.approx(2, abs=0.2)


def test_a_steered_car_drives_a_circle() -> None:
    steering, pose, speed = 0.1, Pose(0, 0, 0), 10.0
    radius = drive.WHEELBASE / math.tan(steering)
    steps = round(2 * math.pi * radius / speed * drive.FPS)
    ways = [pose := drive.moved(pose, steering, speed, 0.0) for _ in range(steps)]
    assert max(each.y for each in ways) == pytest.approx(2 * radius, rel=1e-3)
    assert (ways[-1].x, ways[-1].y) == pytest.approx((0, 0), abs=0.4)


def test_without_delay_the_driver_stays_in_the_middle(road: Road) -> None:
    ended = drive.drive(road, 0, 0.0, None, seconds=6)
    assert ended.completed
    assert ended.worst < HALF_ROAD / 4


def test_prediction_keeps_a_car_on_the_road_that_delay_throws_off_it(road: Road) -> None:
    small, predict = Camera(96, 168), ways()["quality=fast"]
    assert not drive.drive(road, 0, 0.225, None, seconds=8, camera=small).completed
    assert drive.drive(road, 0, 0.225, predict, seconds=8, camera=small).completed


def test_the_same_seed_drives_the_same_way(road: Road) -> None:
    first, again, other = (drive.drive(road, seed, 0.1, None, seconds=1) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_the_report_says_how_sure_it_is(tmp_path: Path) -> None:
    nine = report.share(9, 10)
    assert (nine.value, round(nine.low, 3), round(nine.high, 3)) == (0.9, 0.596, 0.982)
    assert report.share(0, 10).low == 0
    three = report.mean([1.0, 2.0, 3.0])
    assert three == report.mean([1.0, 2.0, 3.0])
    assert three.low < 2.0 < three.high
    outcomes = [report.Outcome("as it came", 50, drive.Drive(done, 5.0, 0.5, 1.0)) for done in (True, False)]
    assert "50 % (  9 to  91)" in report.table(outcomes)
    report.plot(outcomes, tmp_path / "loop.png")
    assert (tmp_path / "loop.png").stat().st_size > 1000
