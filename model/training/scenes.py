"""Makes frame triples of 3D scenes: textured planes, boxes and cut-outs seen by a moving pinhole camera.

What layers (`model.training.synthetic`) lack: parallax within a surface, things that come nearer, and the light, noise
and compression of a recording. Frames are HxWx3 uint8; metres and radians in space; x right, y down, z away. NumPy
and OpenCV only; textures come from the caller.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from model.motion.field import Floats, Pixels

Array = NDArray[np.float64]

#: Frames are drawn this much larger and then reduced, so that edges and textures are not jagged.
OVERSAMPLING = 2
#: Mean motion of a scene in pixels per frame: log-uniform between these.
MOTION = (0.5, 20.0)
#: Waves of a cut-out's outline.
WAVES = 5


@dataclass(frozen=True, slots=True)
class Face:
    """A textured rectangle in space, or a blob cut out of one."""

    corner: Array  #: 3: where its texture's first pixel lies, at the time of the target
    edges: Array  #: 3x2: one texture pixel along x and along y
    texture: Pixels
    velocity: Array  #: 3: metres a frame
    #: WAVESx2: amplitude and phase of a cut-out's outline; None for a whole rectangle.
    outline: Array | None = None

    def matrix(self, frame: int) -> Array:
        """Return 3x3, texture coordinates (x, y, 1) -> point in space, at a frame: 0 is the target, -1 the current."""
        return np.column_stack((self.edges, self.corner + self.velocity * frame))

    def covers(self, x: Floats, y: Floats) -> NDArray[np.bool_]:
        """Tell which texture coordinates HxW lie on it."""
        height, width = self.texture.shape[:2]
        inside: NDArray[np.bool_] = (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        if self.outline is None:
            return inside
        u, v = x * np.float32(2 / width) - 1, y * np.float32(2 / height) - 1
        angle, radius = np.arctan2(v, u), np.full(u.shape, 0.6, np.float32)
        for wave, (amplitude, phase) in enumerate(self.outline, 1):
            radius *= 1 + np.float32(amplitude) * np.sin(wave * angle + np.float32(phase))
        inside &= np.hypot(u, v) < radius
        return inside


@dataclass(frozen=True, slots=True)
class Camera:
    """A pinhole camera that moves and turns almost steadily."""

    focal: float  #: pixels
    velocity: Array  #: 3: metres a frame
    spin: Array  #: 3: radians a frame
    push: Array  #: 3: change of the velocity, metres a frame a frame
    shake: Array  #: 3x3: radians of a hand's unsteadiness, by frame: previous, current, target

    def matrix(self, frame: int, height: int, width: int) -> tuple[Array, Array]:
        """Return 3x3, directions in space -> pixels, and where the camera is, at a frame; 0 is the target."""
        position = self.velocity * frame + self.push * frame * frame / 2
        turn, _ = cv2.Rodrigues(self.spin * frame + self.shake[frame + 2])
        inner = np.array([[self.focal, 0, (width - 1) / 2], [0, self.focal, (height - 1) / 2], [0, 0, 1]])
        return inner @ turn, position

    def moved(self, factor: float) -> Camera:
        """Return the same camera, `factor` times as fast."""
        fields = {name: getattr(self, name) * factor for name in ("velocity", "spin", "push", "shake")}
        return dataclasses.replace(self, **fields)


class Seen(NamedTuple):
    """What a camera sees at a frame."""

    owner: NDArray[np.intp]  #: HxW: which face; -1 for none
    place: Floats  #: HxWx2: texture coordinates
    depth: Floats  #: HxW


class SceneTriple(NamedTuple):
    """Three consecutive frames and the exact motion between them."""

    previous: Pixels
    current: Pixels
    target: Pixels
    flow: Floats  #: HxWx2 pixels: from the target to the current frame
    visible: NDArray[np.bool_]  #: HxW: whether the target's surface can be seen in the current frame


def make(textures: Sequence[Pixels], height: int, width: int, rng: np.random.Generator) -> SceneTriple:
    """Make up a scene of `textures` (any sizes) and film it: three frames of height x width."""
    faces, camera = _scene(textures, width, rng)
    mean_motion = math.exp(rng.uniform(math.log(MOTION[0]), math.log(MOTION[1])))
    # Motion is about proportional to speed: twice is near enough.
    for _ in range(2):
        flow, _ = motion(faces, camera, height // 4, width // 4, scale=0.25)
        factor = mean_motion / max(1e-3, 4 * float(np.hypot(flow[..., 0], flow[..., 1]).mean()))
        camera = camera.moved(factor)
        faces = [dataclasses.replace(face, velocity=face.velocity * factor) for face in faces]
    frames = [draw(faces, camera, frame, height, width) for frame in (-2, -1, 0)]
    flow, visible = motion(faces, camera, height, width)
    previous, current, target = record(frames, rng)
    return SceneTriple(previous, current, target, flow, visible)


def look(faces: Sequence[Face], camera: Camera, frame: int, height: int, width: int, scale: float = 1.0) -> Seen:
    """Find the nearest face at every pixel of a frame, drawn `scale` times as large as the focal length says."""
    projection, position = _scaled(camera, frame, height, width, scale)
    x = np.arange(width, dtype=np.float32)
    y = np.arange(height, dtype=np.float32)[:, None]
    owner = np.full((height, width), -1, np.intp)
    place, depth = np.zeros((height, width, 2), np.float32), np.full((height, width), np.inf, np.float32)
    for number, face in enumerate(faces):
        space = face.matrix(frame)
        space[:, 2] -= position
        # Pixels -> texture coordinates, times 1/depth.
        back = np.linalg.pinv(projection @ space).astype(np.float32)
        inverse = back[2, 0] * x + back[2, 1] * y + back[2, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            distance = np.where(inverse > 1e-6, 1 / inverse, np.inf).astype(np.float32)
        nearer = distance < depth
        if not nearer.any():
            continue
        distance = np.where(nearer, distance, 0)
        u = (back[0, 0] * x + back[0, 1] * y + back[0, 2]) * distance
        v = (back[1, 0] * x + back[1, 1] * y + back[1, 2]) * distance
        nearer &= face.covers(u, v)
        owner[nearer], depth[nearer] = number, distance[nearer]
        place[nearer] = np.stack((u, v), -1)[nearer]
    return Seen(owner, place, depth)


def draw(faces: Sequence[Face], camera: Camera, frame: int, height: int, width: int) -> Floats:
    """Draw a frame, HxWx3 in 0..255."""
    view = look(faces, camera, frame, height * OVERSAMPLING, width * OVERSAMPLING, OVERSAMPLING)
    picture = np.full((*view.owner.shape, 3), 128, np.float32)
    for number, face in enumerate(faces):
        mine = view.owner == number
        if mine.any():
            texture, shrink = _reduced(face.texture, view.place, mine)
            where = (view.place + np.float32(0.5)) * np.float32(shrink) - np.float32(0.5)
            surface = cv2.remap(
                texture, where[..., 0], where[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
            picture[mine] = surface[mine]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.float32)


def motion(
    faces: Sequence[Face], camera: Camera, height: int, width: int, scale: float = 1.0
) -> tuple[Floats, NDArray[np.bool_]]:
    """Compute the exact flow HxWx2 from the target to the current frame, and where that surface can be seen there."""
    view, before = (look(faces, camera, frame, height, width, scale) for frame in (0, -1))
    projection, position = _scaled(camera, -1, height, width, scale)
    y, x = np.indices((height, width), np.float32)
    flow, depth = np.zeros((height, width, 2), np.float32), np.full((height, width), np.inf, np.float32)
    for number, face in enumerate(faces):
        mine = view.owner == number
        space = face.matrix(-1)
        space[:, 2] -= position
        points = np.column_stack((view.place[mine], np.ones(int(mine.sum())))) @ (projection @ space).T
        depth[mine] = points[:, 2]
        flow[mine] = points[:, :2] / np.maximum(points[:, 2:], 1e-3) - np.stack((x[mine], y[mine]), -1)
    at_x, at_y = np.rint(x + flow[..., 0]), np.rint(y + flow[..., 1])
    inside = (at_x >= 0) & (at_y >= 0) & (at_x < width) & (at_y < height)
    columns, rows = (np.where(inside, at, 0).astype(np.intp) for at in (at_x, at_y))
    same = before.owner[rows, columns] == view.owner
    near = np.abs(before.depth[rows, columns] - depth) < 0.05 * depth
    return flow, inside & same & near & (view.owner >= 0)


def record(frames: Sequence[Floats], rng: np.random.Generator) -> list[Pixels]:
    """Turn drawn frames HxWx3 in 0..255 into recorded ones: exposure that drifts, noise, and often compression."""
    drift, level = rng.normal(0, 0.01), rng.uniform(0.8, 1.1)
    noise = 4 * rng.random() ** 3
    quality = int(rng.integers(60, 96)) if rng.random() < 0.6 else None
    rows = []
    for time, frame in enumerate(frames):
        light = frame * np.float32(level * (1 + drift * time))
        light += rng.normal(0, noise, frame.shape).astype(np.float32)
        picture = np.asarray(light.round().clip(0, 255), np.uint8)
        if quality is not None:
            _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            picture = np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1])
        rows.append(picture)
    return rows


def _scaled(camera: Camera, frame: int, height: int, width: int, scale: float) -> tuple[Array, Array]:
    projection, position = camera.matrix(frame, height, width)
    # The focal length grows with the frame, the centre is already that of the larger one.
    grown = np.array([[scale, 0, (1 - scale) * (width - 1) / 2], [0, scale, (1 - scale) * (height - 1) / 2], [0, 0, 1]])
    return grown @ projection, position


def _reduced(texture: Pixels, place: Floats, mine: NDArray[np.bool_]) -> tuple[Pixels, float]:
    """Reduce a texture to about what its pixels `mine` can show; and by how much."""
    steps = np.abs(np.diff(place, axis=1))[mine[:, 1:] & mine[:, :-1]]
    shrink = 1.0
    if len(steps):
        while float(np.median(steps.max(1))) * shrink > 1.5 and min(texture.shape[:2]) > 8:
            texture, shrink = np.asarray(cv2.pyrDown(texture), np.uint8), shrink / 2
    return texture, shrink


def _scene(textures: Sequence[Pixels], width: int, rng: np.random.Generator) -> tuple[list[Face], Camera]:
    """Place surfaces around a camera at the origin that looks along z."""
    focal = width * rng.uniform(0.7, 1.4)
    height = rng.uniform(1.0, 3.0)  # of the camera over the ground
    still = np.zeros(3)

    def texture() -> Pixels:
        return textures[int(rng.integers(len(textures)))]

    far = rng.uniform(15, 60)
    faces = [_rectangle([-4 * far, -3 * far, far], [8 * far, 0, 0], [0, 6 * far, 0], texture(), still, far)]
    if rng.random() < 0.75:
        faces.append(_rectangle([-far, height, 0.2], [2 * far, 0, 0], [0, 0, far], texture(), still, far / 4))
    for side in (-1, 1):
        if rng.random() < 0.4:
            away = side * height * rng.uniform(1.5, 5)
            faces.append(
                _rectangle(
                    [away, height - 8, rng.uniform(0.5, 6)],
                    [0, 0, far * rng.uniform(0.3, 1)],
                    [0, 8, 0],
                    texture(),
                    still,
                    far / 4,
                )
            )
    for _ in range(int(rng.integers(1, 7))):
        faces += _thing(far, height, texture, rng)
    camera = Camera(
        focal,
        rng.normal(0, 1, 3) * [1, 0.3, 2] * rng.random(),
        rng.normal(0, 0.1, 3) * [0.4, 1, 0.3] * rng.random() ** 2,
        rng.normal(0, 0.1, 3) * rng.random() ** 2,
        rng.normal(0, 0.01, (3, 3)) * rng.random() ** 3,
    )
    return faces, camera


def _thing(far: float, ground: float, texture: Callable[[], Pixels], rng: np.random.Generator) -> list[Face]:
    """Place a box or a cut-out on the ground, or in the air, at rest or moving."""
    z = math.exp(rng.uniform(math.log(2.5), math.log(far * 0.7)))
    size = z * rng.uniform(0.1, 0.5, 3)
    foot = np.array([rng.uniform(-0.6, 0.6) * z, ground if rng.random() < 0.7 else rng.normal(0, 0.3) * z, z])
    velocity = rng.normal(0, 0.5, 3) * [1, 0.1, 1] if rng.random() < 0.5 else np.zeros(3)
    yaw = rng.normal(0, 0.5)
    across, away = np.array([math.cos(yaw), 0, math.sin(yaw)]), np.array([-math.sin(yaw), 0, math.cos(yaw)])
    up = np.array([0.0, -1, 0])
    start = foot - across * size[0] / 2 + up * size[1]
    if rng.random() < 0.5:
        amplitude = rng.uniform(0, 0.35, WAVES) / np.arange(1, WAVES + 1)
        outline = np.column_stack((amplitude, rng.uniform(0, 2 * math.pi, WAVES)))
        face = _rectangle(start, across * size[0], -up * size[1], texture(), velocity)
        return [dataclasses.replace(face, outline=outline)]
    front = _rectangle(start, across * size[0], -up * size[1], texture(), velocity)
    sides = [
        _rectangle(corner, away * size[2], -up * size[1], texture(), velocity)
        for corner in (start, start + across * size[0])
    ]
    return [front, *sides, _rectangle(start, across * size[0], away * size[2], texture(), velocity)]


def _rectangle(
    corner: Sequence[float] | Array,
    along: Sequence[float] | Array,
    down: Sequence[float] | Array,
    texture: Pixels,
    velocity: Array,
    tile: float | None = None,
) -> Face:
    """Span a rectangle by two edges; with `tile`, its texture repeats, mirrored, about every so many metres."""
    if tile is not None:
        times = [max(1, round(float(np.linalg.norm(edge)) / tile)) for edge in (down, along)]
        row = np.concatenate([texture if k % 2 == 0 else texture[:, ::-1] for k in range(times[1])], 1)
        texture = np.ascontiguousarray(np.concatenate([row if k % 2 == 0 else row[::-1] for k in range(times[0])], 0))
    height, width = texture.shape[:2]
    edges = np.column_stack((np.asarray(along, float) / width, np.asarray(down, float) / height))
    return Face(np.asarray(corner, float), edges, texture, velocity)
