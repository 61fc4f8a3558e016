"""One run: a car that acts on commands from someone who sees it late. Time goes in frame intervals.

What is delayed: a picture reaches the driver `delay` seconds after it was taken, a command the car as much later.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from benchmarks.loop.world import HALF_ROAD, Camera, Pixels, Pose, Road

FPS = 30.0
WHEELBASE, STEERING_LIMIT, STEERING_LAG = 2.7, 0.5, 0.1
#: How far ahead the driver aims, in seconds of driving, and how many rows of the picture are looked at there.
AIM_SECONDS, AIM_ROWS = 0.8, 3
#: Yaw that gusts add, in radians a second.
GUST = 0.05

#: Two pictures HxWx3 and a time in frame intervals after the second -> the picture then.
Predictor = Callable[[Pixels, Pixels, float], Pixels]


@dataclass(frozen=True, slots=True)
class Drive:
    """How one run ended."""

    completed: bool
    seconds: float  #: until it ended
    lateral: float  #: root mean square distance from the centre line while on the road
    worst: float


@dataclass(slots=True)
class Driver:
    """Steers by what the picture shows: towards the middle of the road, a fixed time ahead (pure pursuit).

    Coulter, "Implementation of the Pure Pursuit Path Tracking Algorithm", 1992.
    """

    camera: Camera
    speed: float
    steering: float = 0.0

    def steer(self, picture: Pixels) -> float:
        """Return the steering angle; the last one where no road is seen."""
        ahead = self.speed * AIM_SECONDS
        row = round(self.camera.row(ahead))
        band = picture[row - AIM_ROWS // 2 : row + AIM_ROWS // 2 + 1].astype(np.int16)
        # Grass is green, asphalt and paint are grey.
        is_road = cv2.blur((2 * band[..., 1] - band[..., 0] - band[..., 2]).astype(np.float32), (3, 3)).mean(0) < 30
        columns = np.flatnonzero(is_road)
        if len(columns) >= 4:
            # The stretch that holds the column nearest to the middle of the picture, or to where it steers already.
            splits = np.split(columns, np.flatnonzero(np.diff(columns) > 3) + 1)
            stretch = max(splits, key=len)
            aside = self.camera.aside((stretch[0] + stretch[-1] + 1) / 2, ahead)
            curvature = 2 * aside / (ahead * ahead + aside * aside)
            self.steering = float(np.clip(math.atan(WHEELBASE * curvature), -STEERING_LIMIT, STEERING_LIMIT))
        return self.steering


def moved(pose: Pose, steering: float, speed: float, yaw: float) -> Pose:
    """Move a car (a bicycle without slip) by one frame interval."""
    seconds = 1 / FPS
    turn = (speed / WHEELBASE * math.tan(steering) + yaw) * seconds
    middle = pose.heading + turn / 2
    step = speed * seconds
    return Pose(pose.x + step * math.cos(middle), pose.y + step * math.sin(middle), pose.heading + turn)


def drive(
    road: Road,
    seed: int,
    delay: float,
    predict: Predictor | None,
    *,
    seconds: float = 20.0,
    speed: float = 10.0,
    camera: Camera | None = None,
    apart: int = 1,
) -> Drive:
    """Drive for so many seconds; it has failed where the car's middle leaves the road.

    `delay`: seconds of a picture's way to the driver, and of a command's way back. `predict`: what the driver is shown
    is predicted for the moment at which the command will act; None: it is shown as it came. `apart`: frame intervals
    between the two pictures that are predicted from. Everything that is random comes from `seed`.
    """
    camera = camera or Camera()
    rng, gusts = np.random.default_rng((seed, 1)), np.random.default_rng((seed, 2))
    driver, pose, steering, gust = Driver(camera, speed), road.start(), 0.0, 0.0
    late = round(delay * FPS)
    pictures: deque[Pixels] = deque(maxlen=late + 1 + apart)
    commands: deque[float] = deque([0.0] * late)
    squares, worst, frames = 0.0, 0.0, round(seconds * FPS)
    for number in range(frames):
        pictures.append(road.look(pose, camera, rng))
        if len(pictures) == late + 1 + apart:
            previous, shown = pictures[0], pictures[apart]
            if predict is not None and late:
                shown = predict(previous, shown, 2.0 * late / apart)
            commands.append(driver.steer(shown))
        else:
            commands.append(0.0)
        steering += (commands.popleft() - steering) * min(1.0, 1 / FPS / STEERING_LAG)
        gust += (gusts.normal(0, GUST) - gust) * 0.1
        pose = moved(pose, steering, speed, gust)
        distance = road.nearest(pose)[1]
        squares, worst = squares + distance * distance, max(worst, distance)
        if distance > HALF_ROAD:
            return Drive(False, (number + 1) / FPS, math.sqrt(squares / (number + 1)), worst)
    return Drive(True, seconds, math.sqrt(squares / frames), worst)
