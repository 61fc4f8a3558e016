"""A winding road seen from a car: a plane painted once, looked at by a camera. Lengths in metres, angles in radians.

Pictures are HxWx3 uint8 RGB. x points to the east and y to the north of the plane; heading 0 is east.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float64]

#: Of the painted plane: half its side, and a pixel's side.
HALF_SIDE, CELL = 96.0, 0.1
RADIUS, POINTS = 62.0, 2048
#: Half the road's width: beyond it a run has failed.
HALF_ROAD = 3.0
ASPHALT, GRASS, PAINT = (74, 76, 80), (70, 122, 52), (226, 224, 214)


class Pose(NamedTuple):
    """Where a car is, and its heading."""

    x: float
    y: float
    heading: float


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera above the car's axle, looking ahead and down."""

    height_px: int = 128
    width_px: int = 224
    above: float = 1.5
    pitch: float = 0.14
    field_of_view: float = math.radians(78)

    @property
    def focal(self) -> float:
        """Return the focal length in pixels."""
        return self.width_px / 2 / math.tan(self.field_of_view / 2)

    @property
    def horizon(self) -> float:
        """Return the row at which the plane ends."""
        return self.height_px / 2 - self.focal * math.tan(self.pitch)

    def row(self, ahead: float) -> float:
        """Return the row in which the plane is seen so far ahead."""
        return self.height_px / 2 + self.focal * math.tan(math.atan2(self.above, ahead) - self.pitch)

    def aside(self, column: float, ahead: float) -> float:
        """Return how far to the left of the axis a column lies, so far ahead on the plane."""
        depth = ahead * math.cos(self.pitch) + self.above * math.sin(self.pitch)
        return (self.width_px / 2 - column) * depth / self.focal

    def to_plane(self) -> Floats:
        """Return the 3x3 matrix from a pixel (column, row, 1) to (ahead, left, 1) on the plane, up to a factor."""
        focal, sine, cosine = self.focal, math.sin(self.pitch), math.cos(self.pitch)
        rays = np.array(
            [
                [0.0, -sine / focal, cosine + sine * self.height_px / 2 / focal],
                [-1 / focal, 0.0, self.width_px / 2 / focal],
                [0.0, cosine / focal, sine - cosine * self.height_px / 2 / focal],
            ]
        )
        return np.asarray(np.diag([self.above, self.above, 1.0]) @ rays, np.float64)


@dataclass(frozen=True, slots=True)
class Road:
    """A closed road drawn from a seed: its centre line, and the plane painted around it."""

    centre: Floats  #: Nx2
    plane: Pixels = field(repr=False)
    sky: Pixels = field(repr=False)  #: a panorama: 360 degrees in its width

    @classmethod
    def draw(cls, seed: int) -> Road:
        """Draw the road of this seed: bends of 20 m radius and more, over grass and asphalt of random texture."""
        rng = np.random.default_rng(seed)
        angle = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
        swings = sum(
            size * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
            for waves, size in ((2, 0.16), (3, 0.09), (5, 0.035))
        )
        radius = RADIUS * (1 + swings)
        centre = np.stack((radius * np.cos(angle), radius * np.sin(angle)), 1)
        return cls(centre, _painted(centre, rng), _panorama(rng))

    def start(self) -> Pose:
        """Return the pose at the first point, along the road."""
        x, y = self.centre[0]
        dx, dy = self.centre[1] - self.centre[0]
        return Pose(float(x), float(y), math.atan2(dy, dx))

    def nearest(self, pose: Pose) -> tuple[int, float]:
        """Return the nearest centre point's index, and the distance from it."""
        distances = np.hypot(self.centre[:, 0] - pose.x, self.centre[:, 1] - pose.y)
        index = int(distances.argmin())
        return index, float(distances[index])

    def look(self, pose: Pose, camera: Camera, rng: np.random.Generator) -> Pixels:
        """Take a picture from a pose, with the noise of a sensor."""
        sine, cosine = math.sin(pose.heading), math.cos(pose.heading)
        to_world = np.array([[cosine, -sine, pose.x], [sine, cosine, pose.y], [0.0, 0.0, 1.0]])
        to_cell = np.array([[1 / CELL, 0.0, HALF_SIDE / CELL], [0.0, 1 / CELL, HALF_SIDE / CELL], [0.0, 0.0, 1.0]])
        size = camera.width_px, camera.height_px
        picture = cv2.warpPerspective(
            self.plane,
            to_cell @ to_world @ camera.to_plane(),
            size,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=GRASS,
        )
        top = max(1, math.ceil(camera.horizon))
        picture[:top] = self._sky(pose.heading, camera, top)
        noise = rng.normal(0, 2, picture.shape)
        return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)

    def _sky(self, heading: float, camera: Camera, rows: int) -> Pixels:
        columns = (np.arange(camera.width_px) + 0.5 - camera.width_px / 2) / camera.focal
        angle = (np.arctan(columns) - heading) / (2 * np.pi) * self.sky.shape[1]
        return np.asarray(self.sky[-rows:, np.mod(angle, self.sky.shape[1]).astype(int)], np.uint8)


def _painted(centre: Floats, rng: np.random.Generator) -> Pixels:
    cells = round(2 * HALF_SIDE / CELL)
    plane = np.empty((cells, cells, 3), np.uint8)
    plane[:] = GRASS
    line = ((centre + HALF_SIDE) / CELL * 16).round().astype(np.int32)[:, None]
    for half_width, colour in ((HALF_ROAD, PAINT), (HALF_ROAD - 0.2, ASPHALT)):
        cv2.polylines(plane, [line], True, colour, round(2 * half_width / CELL), cv2.LINE_AA, 4)
    for begin in range(0, POINTS, 32):
        cv2.polylines(plane, [line[begin : begin + 14]], False, PAINT, 2, cv2.LINE_AA, 4)
    # Patches of several sizes, so that there is something to see near and far.
    texture = np.zeros((cells, cells), np.float32)
    for cell, strength in ((3, 7.0), (12, 8.0), (50, 9.0)):
        coarse = rng.normal(0, strength, (cells // cell + 2,) * 2).astype(np.float32)
        texture += cv2.resize(coarse, (cells, cells), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(plane + texture[..., None], 0, 255), np.uint8)


def _panorama(rng: np.random.Generator, rows: int = 128, columns: int = 2048) -> Pixels:
    """Draw a sky over a skyline of hills."""
    height = cv2.GaussianBlur(rng.normal(0, 60, (1, columns)).astype(np.float32), (0, 0), 12)[0]
    shade = np.linspace(0, 1, rows)[:, None, None]
    sky = (1 - shade) * np.array([120, 160, 210]) + shade * np.array([205, 215, 225]) + np.zeros((rows, columns, 1))
    hills = np.arange(rows)[::-1][:, None] < np.abs(height)[None] + 3
    sky[hills] = (84, 108, 92)
    return np.asarray(sky + cv2.GaussianBlur(rng.normal(0, 40, sky.shape), (0, 0), 3), np.uint8)
