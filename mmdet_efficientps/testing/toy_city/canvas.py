# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Camera, light and canvas of the toy city: where metres become pixels.

World coordinates are metres: X to the right, Y up, Z along the street, the
ground at Y = 0. Image coordinates are continuous pixels, x to the right, y
down; pixel (i, j) covers [j, j + 1) x [i, i + 1).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

SUPERSAMPLING = 2
# Fixed-point bits of cv2.fillPoly coordinates.
_SHIFT = 4
# Share of a pixel that an object has to cover to own it; below one half so that
# thin limbs and spokes stay labelled.
_COVERAGE = 0.4
_NEAREST = 0.8
_TILE = 256


@dataclass(frozen=True)
class Camera:
    """Pinhole camera that looks along a street which may bend.

    Attributes:
        height: Image height in pixels.
        width: Image width in pixels.
        focal: Focal length in pixels.
        horizon: Image row of the horizon.
        above_ground: Height over the ground in metres.
        bend: Lateral offset of the street per squared metre of distance.
    """

    height: int
    width: int
    focal: float
    horizon: float
    above_ground: float
    bend: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project world points (..., 3) in metres to pixels (..., 2).

        Points nearer than 0.8 m, or behind the camera, are moved to 0.8 m.
        """
        x, y, z = np.moveaxis(np.asarray(points, float), -1, 0)
        z = np.maximum(z, _NEAREST)
        return np.stack(
            [
                self.width / 2 + self.focal * (x + self.bend * z**2) / z,
                self.horizon + self.focal * (self.above_ground - y) / z,
            ],
            axis=-1,
        )

    def pixels_per_metre(self, z: float) -> float:
        """Size of one metre at distance ``z``, in pixels."""
        return self.focal / max(z, _NEAREST)


@dataclass(frozen=True)
class Pose:
    """Where an object stands and where it looks.

    Its own coordinates are (l, s, h): metres ahead, to its right and up, with
    the origin on the ground below its centre.

    Attributes:
        camera: The camera that sees it.
        light: Unit vector (X, Y, Z) towards the light.
        x: World X of the centre.
        z: World Z of the centre.
        yaw: Heading in radians; 0 looks away from the camera, pi / 2 to the right.
    """

    camera: Camera
    light: np.ndarray
    x: float
    z: float
    yaw: float = 0.0

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """Turn own points (..., 3) into world points (..., 3)."""
        ahead, side, up = np.moveaxis(np.asarray(points, float), -1, 0)
        sin, cos = np.sin(self.yaw), np.cos(self.yaw)
        return np.stack(
            [self.x + ahead * sin + side * cos, up, self.z + ahead * cos - side * sin],
            axis=-1,
        )

    def to_image(self, points: np.ndarray) -> np.ndarray:
        """Project own points (..., 3) to pixels (..., 2)."""
        return self.camera.project(self.to_world(points))

    def direction(self, vector: np.ndarray) -> np.ndarray:
        """Turn an own direction (3,) into a world direction (3,)."""
        return self.to_world(vector) - np.array([self.x, 0, self.z])

    def sees(self, point: np.ndarray, normal: np.ndarray) -> bool:
        """Whether the camera sees the front of a face (own point and normal)."""
        ray = self.to_world(point) - np.array([0, self.camera.above_ground, 0])
        return float(ray @ self.direction(normal)) < 0

    def brightness(self, normal: np.ndarray) -> float:
        """Brightness of a face with this own normal, about 0.6 to 1.1."""
        world = self.direction(normal)
        world = world / np.linalg.norm(world)
        return 0.82 + 0.28 * float(world @ self.light)

    @property
    def scale(self) -> float:
        """Pixels per metre at the centre."""
        return self.camera.pixels_per_metre(self.z)


@dataclass(frozen=True)
class Part:
    """Something painted in one go: polygons of one color and texture.

    Attributes:
        polygons: Arrays (N, 2) of pixels; where two of them overlap is a hole.
        color: RGB, 0 to 255.
        texture: Name of a tile of :func:`texture_tile`, or None for a flat fill.
        cell: Size of one texture cell in pixels.
        falloff: Brightness at the lower end relative to the upper end.
    """

    polygons: tuple[np.ndarray, ...]
    color: np.ndarray
    texture: str | None = None
    cell: float = 1.0
    falloff: float = 1.0


@cache
def texture_tile(name: str) -> np.ndarray:
    """Brightness factors (256, 256) float32 around 1 that repeat seamlessly.

    Args:
        name: 'plain' (fine grain), 'plaster' (soft stains), 'leaf' (high contrast
            clumps), 'brick' (courses of bricks, one brick is 8 x 4 cells),
            'slats' (vertical boards, 4 cells wide).
    """
    # The tiles are the material of every scene, so they have a seed of their own.
    rng = np.random.default_rng(len(name))
    fine = rng.normal(0, 1, (_TILE, _TILE)).astype(np.float32)

    def smooth(sigma: float) -> np.ndarray:
        noise = rng.normal(0, 1, (_TILE, _TILE)).astype(np.float32)
        padded = np.pad(noise, 32, mode='wrap')
        blurred = cv2.GaussianBlur(padded, (0, 0), sigma)[32:-32, 32:-32]
        return blurred / blurred.std()

    if name == 'plain':
        tile = 1 + 0.03 * fine
    elif name == 'plaster':
        tile = 1 + 0.02 * fine + 0.05 * smooth(8)
    elif name == 'leaf':
        tile = 1 + 0.12 * fine + 0.22 * smooth(1.5) + 0.1 * smooth(6)
    elif name == 'brick':
        rows, columns = np.mgrid[:_TILE, :_TILE]
        course = rows // 4
        brick = (columns + 4 * (course % 2)) // 8 % (_TILE // 8)
        tile = 1 + 0.1 * rng.normal(0, 1, (_TILE // 4, _TILE // 8))[course, brick]
        mortar = (rows % 4 == 0) | ((columns + 4 * (course % 2)) % 8 == 0)
        tile = np.where(mortar, 0.72, tile)
    elif name == 'slats':
        columns = np.arange(_TILE)
        boards = 1 + 0.12 * rng.normal(0, 1, _TILE // 4)[columns // 4]
        tile = np.where(columns % 4 == 0, 0.6, boards) + 0.03 * fine
    else:
        raise ValueError(f'no texture is called {name!r}')
    return np.clip(tile, 0.3, 1.7).astype(np.float32)


class Canvas:
    """A picture and its labelled polygons, painted from far to near.

    Args:
        camera: The camera; it gives the image size.
        haze_color: RGB that far objects fade to.
        haze_distance: Distance in metres at which 63 % of a color is haze.
        rng: Source of the texture offsets.

    Attributes:
        pixels: RGB uint8, ``SUPERSAMPLING`` times the image size.
        objects: Cityscapes objects, ``{'label': str, 'polygon': [[x, y], ...]}``,
            in the order they were recorded.
    """

    def __init__(
        self,
        camera: Camera,
        haze_color: np.ndarray,
        haze_distance: float,
        rng: np.random.Generator,
    ):
        self.camera = camera
        self.haze_color = np.asarray(haze_color, float)
        self.haze_distance = haze_distance
        self.rng = rng
        shape = (camera.height * SUPERSAMPLING, camera.width * SUPERSAMPLING, 3)
        self.pixels = np.zeros(shape, np.uint8)
        self.objects: list[dict] = []

    def add(self, label: str, parts: Iterable[Part], z: float) -> None:
        """Paint an object at distance ``z`` and record its silhouette."""
        parts = list(parts)
        self.paint(parts, z)
        self.record(label, [polygon for part in parts for polygon in part.polygons])

    def paint(self, parts: Iterable[Part], z: float) -> None:
        """Paint parts at distance ``z`` without a label."""
        clear = np.exp(-z / self.haze_distance)
        for part in parts:
            color = clear * np.clip(part.color, 0, 255)
            color = color + (1 - clear) * self.haze_color
            self._paint_part(part, color, clear)

    def darken(self, polygon: np.ndarray, factor: float) -> None:
        """Multiply the brightness inside a polygon, as a shadow does."""
        # A soft edge; the size follows the polygon, so near shadows are softer.
        sigma = 0.04 * float(np.ptp(polygon, axis=0).min()) + 0.3
        roi = self._roi([polygon], margin=3 * sigma)
        if roi is None:
            return
        view, mask = self._view_and_mask([polygon], roi)
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), sigma * SUPERSAMPLING)
        view[:] = view * (1 - (1 - factor) * soft / 255)[..., None]

    def record(self, label: str, polygons: Iterable[np.ndarray]) -> None:
        """Record the outline of the union of polygons under a label.

        A thing is one polygon, its largest connected piece; anything else becomes
        one object for each connected piece. What lies outside of the image or
        covers no pixel is not recorded.
        """
        polygons = list(polygons)
        roi = self._roi(polygons)
        if roi is None:
            return
        top, bottom, left, right = roi
        union = np.zeros((bottom - top, right - left), np.uint8)
        # One by one: polygons filled together cancel out where they overlap.
        for points in self._fixed_point(polygons, roi):
            cv2.fillPoly(union, [points], 255, cv2.LINE_8, _SHIFT)
        shape = (union.shape[1] // SUPERSAMPLING, union.shape[0] // SUPERSAMPLING)
        mask = cv2.resize(union, shape, interpolation=cv2.INTER_AREA)
        mask = (mask >= _COVERAGE * 255).astype(np.uint8)
        if label in ONE_PIECE:
            mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        if label in ONE_PIECE and contours:
            contours = [max(contours, key=lambda c: (cv2.contourArea(c), len(c)))]
        offset = np.array([left, top]) // SUPERSAMPLING
        for contour in contours:
            outline = (contour[:, 0] + offset).tolist()
            # Drawing a polygon needs three points; a single pixel has one.
            outline += [outline[-1]] * (3 - len(outline))
            self.objects.append({'label': label, 'polygon': outline})

    def _roi(
        self, polygons: list[np.ndarray], margin: float = 0.0
    ) -> tuple[int, int, int, int] | None:
        """Bounds (top, bottom, left, right) in supersampled pixels, whole pixels."""
        points = np.concatenate(polygons)
        left, top = np.floor(points.min(0) - margin).astype(int)
        right, bottom = np.ceil(points.max(0) + margin).astype(int) + 1
        left, top = max(left, 0), max(top, 0)
        right = min(right, self.camera.width)
        bottom = min(bottom, self.camera.height)
        if left >= right or top >= bottom:
            return None
        top, bottom, left, right = (
            int(SUPERSAMPLING * v) for v in (top, bottom, left, right)
        )
        return top, bottom, left, right

    def _fixed_point(self, polygons, roi=(0, 0, 0, 0)) -> list[np.ndarray]:
        """Pixels to the fixed-point coordinates of cv2.fillPoly within a roi."""
        top, _, left, _ = roi
        # OpenCV puts integer coordinates on pixel centres.
        points = np.concatenate(polygons) * SUPERSAMPLING - (0.5 + left, 0.5 + top)
        limit = 2.0**26
        points = np.round(points * 2**_SHIFT).clip(-limit, limit).astype(np.int32)
        ends = np.cumsum([len(polygon) for polygon in polygons]).tolist()
        return [points[a:b] for a, b in zip([0, *ends], ends, strict=False)]

    def _view_and_mask(self, polygons, roi) -> tuple[np.ndarray, np.ndarray]:
        top, bottom, left, right = roi
        mask = np.zeros((bottom - top, right - left), np.uint8)
        points = self._fixed_point(polygons, roi)
        cv2.fillPoly(mask, points, 255, cv2.LINE_8, _SHIFT)
        return self.pixels[top:bottom, left:right], mask

    def _paint_part(self, part: Part, color: np.ndarray, clear: float) -> None:
        if part.texture is None and part.falloff == 1:
            points = self._fixed_point(part.polygons)
            cv2.fillPoly(self.pixels, points, color.tolist(), cv2.LINE_8, _SHIFT)
            return
        roi = self._roi(list(part.polygons))
        if roi is None:
            return
        top, bottom, left, right = roi
        view, mask = self._view_and_mask(part.polygons, roi)
        rows = np.arange(top, bottom)
        points = np.concatenate(part.polygons)[:, 1] * SUPERSAMPLING
        # The falloff belongs to the whole part, not to its piece in the image.
        span = max(points.max() - points.min(), 1)
        fall = 1 + (part.falloff - 1) * np.clip((rows - points.min()) / span, 0, 1)
        factor = np.repeat(fall.astype(np.float32)[:, None], right - left, axis=1)
        if part.texture is not None:
            step = 1 / (max(part.cell, 0.5) * SUPERSAMPLING)
            shift = self.rng.integers(0, _TILE, 2)
            tile_rows = ((rows * step).astype(int) + shift[0]) % _TILE
            tile_columns = (np.arange(left, right) * step).astype(int) + shift[1]
            tile = texture_tile(part.texture)[tile_rows][:, tile_columns % _TILE]
            factor *= 1 + (tile - 1) * clear
        filled = cv2.merge([factor * value for value in color.astype(np.float32)])
        filled = np.clip(filled, 0, 255).astype(np.uint8)
        cv2.copyTo(filled, mask, view)


# Labels whose objects are single polygons, as Cityscapes has them.
ONE_PIECE = frozenset(
    (
        'person',
        'rider',
        'car',
        'truck',
        'bus',
        'caravan',
        'trailer',
        'train',
        'motorcycle',
        'bicycle',
    )
)
