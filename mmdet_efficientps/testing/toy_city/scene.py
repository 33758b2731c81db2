# Licensed under the Apache License, Version 2.0. See LICENSE.
"""One street scene of the toy city, from a seed to a picture with polygons."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import cv2
import numpy as np
from cityscapesscripts.helpers.annotation import Annotation
from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
from cityscapesscripts.preparation.json2labelImg import createLabelImage

from . import stuff, things
from .canvas import ONE_PIECE, Camera, Canvas, Part, Pose

# Length and width in metres of what stands on the ground.
_FOOTPRINT = {
    'car': (4.4, 1.9),
    'truck': (8.5, 2.5),
    'bus': (11.5, 2.6),
    'train': (22.0, 2.6),
    'caravan': (4.4, 2.3),
    'trailer': (4.0, 1.8),
    'motorcycle': (2.0, 0.8),
    'bicycle': (1.8, 0.6),
    'person': (0.7, 0.7),
}
_HEIGHT = {
    'car': 1.5,
    'truck': 3.3,
    'bus': 3.0,
    'train': 3.6,
    'caravan': 2.5,
    'trailer': 1.0,
    'motorcycle': 1.3,
    'bicycle': 1.2,
    'person': 1.75,
}
# An instance with fewer visible pixels is left to its surroundings, as an
# annotator would do.
_MIN_VISIBLE = 4
# How often a place is drawn for something before it is left out.
_ATTEMPTS = 6


@dataclass(frozen=True)
class Scene:
    """A street scene with its annotation.

    Attributes:
        image: RGB uint8 (H, W, 3).
        annotation: Contents of the Cityscapes ``polygons.json``: 'imgHeight',
            'imgWidth' and 'objects' in drawing order, each with 'label' and
            'polygon' [[x, y], ...] in whole pixels.
    """

    image: np.ndarray
    annotation: dict

    def draw(self, encoding: str):
        """Draw the polygons with cityscapesscripts.

        Args:
            encoding: 'labelIds', 'instanceIds' or 'color'.

        Returns:
            PIL image of the kind Cityscapes stores: 8-bit ids, 32-bit ids that are
            saved as 16-bit PNG, or RGBA.
        """
        annotation = Annotation()
        annotation.fromJsonText(json.dumps(self.annotation))
        if encoding == 'instanceIds':
            return createInstanceImage(annotation, 'ids')
        return createLabelImage(annotation, {'labelIds': 'ids'}.get(encoding, encoding))

    @cached_property
    def label_ids(self) -> np.ndarray:
        """Label ids, uint8 (H, W)."""
        return np.array(self.draw('labelIds'))

    @cached_property
    def instance_ids(self) -> np.ndarray:
        """Cityscapes instance ids, int32 (H, W)."""
        return np.array(self.draw('instanceIds'))


def render_scene(
    seed: int | Sequence[int],
    size: tuple[int, int] = (256, 512),
    density: float = 1.0,
) -> Scene:
    """Render the street scene of a seed.

    The same arguments give the same scene on every call.

    Args:
        seed: Seed of ``numpy.random.default_rng``.
        size: Height and width in pixels, at least 32 each.
        density: How many things there are, relative to the usual 8 to 20.

    Returns:
        The scene.

    Raises:
        ValueError: If the size is too small or the density is negative.
    """
    check_parameters(size, density)
    rng = np.random.default_rng(seed)
    height, width = size
    camera = Camera(
        height=height,
        width=width,
        focal=width * rng.uniform(0.75, 0.95),
        horizon=height * rng.uniform(0.38, 0.48),
        above_ground=rng.uniform(1.25, 1.9),
        bend=rng.uniform(-5e-4, 5e-4) if rng.random() < 0.6 else 0.0,
    )
    street = _Street(camera, density, rng)
    street.build()
    image = _photograph(street.canvas.pixels, size, rng)
    annotation = {
        'imgHeight': int(height),
        'imgWidth': int(width),
        'objects': _visible(street.canvas.objects, size),
    }
    return Scene(image, annotation)


def check_parameters(size: tuple[int, int], density: float) -> None:
    """Check that a scene can be rendered with these parameters.

    Args:
        size: Height and width in pixels.
        density: Relative number of things.

    Raises:
        ValueError: If the size is too small or the density is negative.
    """
    if min(size) < 32:
        raise ValueError(f'size {tuple(size)}: a scene needs at least 32 x 32 pixels')
    if density < 0:
        raise ValueError(f'density {density}: must not be negative')


def _visible(objects: list[dict], size: tuple[int, int]) -> list[dict]:
    """Leave out the instances that later objects hide."""
    annotation = Annotation()
    # With one running label the ids number the objects, whatever their class.
    numbered = [{'label': 'car', 'polygon': obj['polygon']} for obj in objects]
    annotation.fromJsonText(
        json.dumps({'imgHeight': size[0], 'imgWidth': size[1], 'objects': numbered})
    )
    ids = np.array(createInstanceImage(annotation, 'ids'))
    first = 26000
    counts = np.bincount(np.clip(ids.ravel() - first, -1, None) + 1)[1:]
    counts = np.pad(counts, (0, len(objects) - len(counts)))
    return [
        obj
        for obj, count in zip(objects, counts, strict=True)
        if obj['label'] not in ONE_PIECE or count >= _MIN_VISIBLE
    ]


def _photograph(
    pixels: np.ndarray, size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Lens and sensor: blur, exposure, color cast, vignette and noise."""
    height, width = size
    image = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0), rng.uniform(0.3, 0.6))
    gain = rng.uniform(0.75, 1.12) * rng.uniform(0.93, 1.07, 3)
    image = 255 * (np.clip(image * gain / 255, 0, 1) ** rng.uniform(0.85, 1.2))
    y = np.linspace(-1, 1, height)[:, None]
    x = np.linspace(-1, 1, width)[None]
    image *= (1 - rng.uniform(0, 0.18) * (x**2 + y**2) / 2)[..., None]
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(1, 5))
    return np.clip(np.round(image + noise), 0, 255).astype(np.uint8)


class _Street:
    """Lays out a street and paints it from far to near.

    Args:
        camera: The camera.
        density: Factor on the number of things.
        rng: Source of all randomness.
    """

    def __init__(self, camera: Camera, density: float, rng: np.random.Generator):
        self.camera = camera
        self.density = density
        self.rng = rng
        self.light = self._light_direction()
        weather = rng.choice(['clear', 'grey', 'evening'], p=[0.5, 0.38, 0.12])
        haze, zenith = {
            'clear': ((205, 218, 228), (95, 140, 195)),
            'grey': ((205, 207, 208), (175, 180, 186)),
            'evening': ((235, 200, 165), (120, 130, 170)),
        }[str(weather)]
        self.sunny = weather != 'grey'
        haze_color = np.array(haze) * rng.uniform(0.85, 1.05)
        self.zenith = np.array(zenith) * rng.uniform(0.75, 1.1)
        self.canvas = Canvas(camera, haze_color, rng.uniform(120, 420), rng)
        # (z, function that paints it), sorted before painting.
        self.painters: list[tuple[float, Callable[[], None]]] = []
        self.footprints: list[tuple[float, float, float, float]] = []
        self.boxes: list[np.ndarray] = []

    def build(self) -> None:
        """Paint the whole scene."""
        rng = self.rng
        self._lay_out_strips()
        stuff.paint_sky(self.canvas, self.zenith, rng)
        stuff.skyline(self.canvas, rng)
        stuff.paint_ground(self.canvas, self.strips, rng)
        stuff.paint_markings(self.canvas, self.lines, rng)
        for side in (-1, 1):
            self._line_with_fronts(side)
        if self.sunny and rng.random() < 0.5:
            self._cast_house_shadow()
        self._place_traffic()
        self._place_on_sidewalks()
        self._place_furniture()
        for _, paint in sorted(self.painters, key=lambda item: -item[0]):
            paint()
        self._frame_the_picture()

    # Layout -----------------------------------------------------------------

    def _light_direction(self) -> np.ndarray:
        azimuth, elevation = self.rng.uniform(0, 2 * np.pi), self.rng.uniform(0.5, 1.1)
        flat = np.cos(elevation)
        return np.array(
            [flat * np.cos(azimuth), np.sin(elevation), flat * np.sin(azimuth)]
        )

    def _lay_out_strips(self) -> None:
        """Cut the ground into strips: road, parking, verges, sidewalks, yards."""
        rng = self.rng
        left_lanes, right_lanes = rng.integers(1, 3), rng.integers(1, 3)
        lane = rng.uniform(3.0, 3.6)
        self.road = (-lane * (left_lanes + 0.5), lane * (right_lanes - 0.5))
        self.lines = [
            self.road[0] + lane * i for i in range(left_lanes + right_lanes + 1)
        ]
        self.lines[0] += 0.25
        self.lines[-1] -= 0.25
        self.oncoming = [self.road[0] + lane * (i + 0.5) for i in range(left_lanes)]
        self.along = [lane * i for i in range(right_lanes)]
        grey = rng.uniform(70, 125)
        self.has_train = rng.random() < 0.32
        asphalt = grey * (1 + rng.normal(0, 0.03, 3))
        paving = np.clip(grey * rng.uniform(1.0, 1.6), 90, 190) * np.array(
            [1.02, 1, 0.96]
        )
        grass = stuff.foliage_color(rng) * 1.15
        gravel = np.array([120, 110, 98]) * rng.uniform(0.7, 1.1)
        self.strips = [stuff.Strip('road', *self.road, asphalt)]
        self.walks, self.edges = {}, {}
        for side in (-1, 1):
            edge = self.road[0] if side < 0 else self.road[1]
            outer = []
            if side < 0 and self.has_train:
                outer.append(('rail track', 3.2, gravel))
            elif rng.random() < 0.3:
                outer.append(('parking', 2.3, paving * rng.uniform(0.7, 0.95)))
            if rng.random() < 0.3:
                outer.append(('terrain', rng.uniform(1.2, 2.5), grass))
            outer.append(('sidewalk', rng.uniform(2.2, 4.2), paving))
            if rng.random() < 0.45:
                outer.append(('terrain', rng.uniform(1.5, 5.0), grass))
            for label, width, color in outer:
                span = (edge, edge + side * width)
                if label == 'rail track':
                    self.track = sum(span) / 2
                if label == 'sidewalk':
                    self.walks[side] = (min(span), max(span))
                self.strips.append(stuff.Strip(label, min(span), max(span), color))
                edge = span[1]
            self.edges[side] = edge
            yard = ('terrain', grass) if rng.random() < 0.5 else ('sidewalk', paving)
            left, right = sorted((edge, side * 400.0))
            self.strips.append(stuff.Strip(yard[0], left, right, yard[1]))
        self.strips.sort(key=lambda strip: strip.left)

    def _line_with_fronts(self, side: int) -> None:
        """Line one side with houses, walls, fences and plants, from far to near."""
        rng, camera, light = self.rng, self.camera, self.light
        edge = self.edges[side]
        front = rng.choice(['houses', 'mixed', 'green'], p=[0.4, 0.42, 0.18])
        odds = {
            'houses': (0.82, 0.06, 0.05, 0.05, 0.02),
            'mixed': (0.34, 0.22, 0.22, 0.17, 0.05),
            'green': (0.08, 0.17, 0.22, 0.43, 0.1),
        }[str(front)]
        kinds = ['house', 'wall', 'fence', 'shrubs', 'guard rail']
        cuts = [rng.uniform(1.2, 6)]
        while cuts[-1] < 150:
            cuts.append(cuts[-1] + rng.uniform(8, 18) + 0.12 * cuts[-1])
        for near, far in reversed(list(zip(cuts[:-1], cuts[1:], strict=True))):
            kind = str(rng.choice(kinds, p=odds))
            args = (camera, light, edge, near, far, rng)
            gap = rng.uniform(0, 2.5)
            if kind == 'house':
                house = stuff.house(camera, light, edge, near, far - gap, rng)
                self.canvas.add('building', house, near)
                continue
            # Behind anything low there is a house farther back or a row of trees.
            if rng.random() < 0.5:
                behind = stuff.house(
                    camera, light, edge + side * 7, near, far - gap, rng
                )
                self.canvas.add('building', behind, near + 7)
            else:
                for z in np.sort(rng.uniform(near, far, 2))[::-1]:
                    x = edge + side * rng.uniform(2.5, 6)
                    self.canvas.add(
                        'vegetation', stuff.tree(camera, light, x, z, rng), z
                    )
            if kind == 'shrubs':
                self.canvas.add('vegetation', stuff.shrubs(*args), near)
            elif kind == 'wall':
                self.canvas.add('wall', stuff.wall(*args), near)
            elif kind == 'guard rail':
                self.canvas.add('guard rail', stuff.guard_rail(*args), near)
            else:
                parts = stuff.fence(*args)
                self.canvas.paint(parts, near)
                points = np.concatenate([p for part in parts for p in part.polygons])
                hull = cv2.convexHull(points.astype(np.float32))[:, 0].astype(float)
                self.canvas.record('fence', [hull])

    def _cast_house_shadow(self) -> None:
        """Darken the ground on the side that the houses shade."""
        side = 1 if self.light[0] > 0 else -1
        reach = self.edges[side] - side * self.rng.uniform(2, 7)
        left, right = sorted((reach, self.edges[side]))
        start = self.rng.uniform(2, 15)
        shadow = stuff.strip_outline(
            self.camera, left, right, start, start + self.rng.uniform(15, 60)
        )
        self.canvas.darken(shadow, 0.62)

    # Things -----------------------------------------------------------------

    def _count(self, mean: float) -> int:
        return int(self.rng.poisson(mean * self.density))

    def _distance(self, near: float, far: float) -> float:
        """Log-uniform distance: as many near things as far ones in the picture."""
        # A crowd needs room: what is near would hide the rest of it.
        near = min(near * max(self.density, 1.0) ** 0.5, far)
        return float(np.exp(self.rng.uniform(np.log(near), np.log(far))))

    def _far(self) -> float:
        """How far off cars and people may be: mostly near, some a few pixels high."""
        return 165.0 if self.rng.random() < 0.12 else 55.0

    def _free(self, label: str, x: float, z: float, yaw: float) -> bool:
        """Claim room on the ground and in the picture, if there is any."""
        length, width = _FOOTPRINT[label]
        sin, cos = abs(np.sin(yaw)), abs(np.cos(yaw))
        dx, dz = (length * sin + width * cos) / 2, (length * cos + width * sin) / 2
        if z - dz < 3.2:
            return False
        footprint = (x - dx, x + dx, z - dz - 0.3, z + dz + 0.3)
        for a in self.footprints:
            apart = (
                footprint[1] < a[0]
                or a[1] < footprint[0]
                or footprint[3] < a[2]
                or a[3] < footprint[2]
            )
            if not apart:
                return False
        corners = np.array(
            [
                (x + i * dx, h, z + k * dz)
                for i in (-1, 1)
                for k in (-1, 1)
                for h in (0, _HEIGHT[label])
            ]
        )
        points = self.camera.project(corners)
        box = np.concatenate([points.min(0), points.max(0), [z]])
        # A crowded street hides more of what is far.
        if self._hidden_share(box) > np.clip(0.45 * self.density**0.4, 0.45, 0.8):
            return False
        self.boxes.append(box)
        self.footprints.append(footprint)
        return True

    def _hidden_share(self, box: np.ndarray) -> float:
        """Largest share of a box that covers another one or is covered by it."""
        limits = (self.camera.width, self.camera.height)
        inside = np.clip(box[:4], 0, limits * 2)
        area = np.prod(inside[2:] - inside[:2])
        full = np.prod(box[2:4] - box[:2])
        if area < 0.4 * full:
            return 1.0
        worst = 0.0
        for other in self.boxes:
            low, high = (
                np.maximum(inside[:2], other[:2]),
                np.minimum(inside[2:], other[2:4]),
            )
            shared = np.prod(np.maximum(high - low, 0))
            behind = inside if box[4] > other[4] else other
            worst = max(worst, shared / np.prod(behind[2:4] - behind[:2]))
        return float(worst)

    def _pose(self, x: float, z: float, yaw: float) -> Pose:
        # Where the street bends, what goes along it turns with it.
        turn = np.arctan(2 * self.camera.bend * z)
        return Pose(self.camera, self.light, x, z, yaw + turn)

    def _shadow(self, label: str, pose: Pose) -> None:
        """Darken the ground below and, in the sun, beside something."""
        length, width = _FOOTPRINT[label]
        angle = np.linspace(0, 2 * np.pi, 20, endpoint=False)
        ring = np.stack(
            [0.55 * length * np.cos(angle), 0.62 * width * np.sin(angle), 0 * angle], -1
        )
        world = pose.to_world(ring)
        self.canvas.darken(self.camera.project(world), 0.5)
        if self.sunny:
            cast = -self.light * _HEIGHT[label] / self.light[1] * 0.7
            moved = world + np.array([cast[0], 0, cast[2]])
            both = np.concatenate([world, moved])[:, [0, 2]].astype(np.float32)
            hull = cv2.convexHull(both)[:, 0]
            ground = np.insert(hull, 1, 0.0, axis=1)
            self.canvas.darken(self.camera.project(ground), 0.72)

    def _later(self, z: float, paint: Callable[[], None]) -> None:
        self.painters.append((z, paint))

    def _stand(self, label: str, x: float, z: float, yaw: float) -> bool:
        """Place a vehicle without a rider, or a person, if there is room."""
        if not self._free(label, x, z, yaw):
            return False
        pose = self._pose(x, z, yaw)

        def paint():
            self._shadow(label, pose)
            self.canvas.add(label, getattr(things, label)(pose, self.rng), z)

        self._later(z, paint)
        return True

    def _ridden(self, label: str, x: float, z: float, yaw: float) -> bool:
        """Place a two-wheeler and its rider, if there is room."""
        if not self._free(label, x, z, yaw):
            return False
        pose = self._pose(x, z, yaw)

        def paint():
            self._shadow(label, pose)
            self.canvas.add(label, getattr(things, label)(pose, self.rng), z)
            parts = things.rider(pose, self.rng, label == 'motorcycle')
            self.canvas.add('rider', parts, z)

        self._later(z, paint)
        return True

    def _place_traffic(self) -> None:
        """Place what drives, what crosses and what is parked."""
        rng = self.rng
        if self.has_train:
            self._attempt(self._run_train)
        for label, mean in (('bus', 0.7), ('truck', 1.0)):
            for _ in range(self._count(mean)):
                self._attempt(self._drive, label, 10, 50)
        if rng.random() < 0.25:
            z = self._distance(9, 35)
            x = rng.uniform(*self.road)
            self._stand('car', x, z, rng.choice([-1, 1]) * np.pi / 2)
        for _ in range(self._count(2.4)):
            self._attempt(self._drive, 'car', 6, self._far())
        for side in (-1, 1):
            if rng.random() < 0.6:
                self._park(side)
        for label, mean in (('bicycle', 1.2), ('motorcycle', 1.0)):
            for _ in range(self._count(mean)):
                self._attempt(self._ride, label)

    def _attempt(self, place: Callable[..., bool], *args) -> None:
        """Place something where there is room, if a few draws find any."""
        for _ in range(_ATTEMPTS):
            if place(*args):
                return

    def _run_train(self) -> bool:
        yaw = self.rng.choice([0.0, np.pi])
        return self._stand('train', self.track, self._distance(15, 60), yaw)

    def _drive(self, label: str, near: float, far: float) -> bool:
        rng = self.rng
        z = self._distance(near, far)
        if rng.random() < 0.5:
            x, yaw = rng.choice(self.oncoming), np.pi
        else:
            x, yaw = rng.choice(self.along), 0.0
        return self._stand(label, x + rng.normal(0, 0.2), z, yaw + rng.normal(0, 0.06))

    def _ride(self, label: str) -> bool:
        rng = self.rng
        z = self._distance(6, 32)
        x = rng.uniform(self.road[0] + 0.6, self.road[1] - 0.4)
        yaw = 0.0 if x > self.road[0] / 3 else np.pi
        if rng.random() < 0.35:
            yaw = rng.choice([-1, 1]) * np.pi / 2
        return self._ridden(label, x, z, yaw + rng.normal(0, 0.35))

    def _park(self, side: int) -> None:
        """Park a row at the edge of the road; what is far becomes a group."""
        rng = self.rng
        edge = self.road[0] if side < 0 else self.road[1]
        if side < 0 and self.has_train:
            return
        strip = min(
            (s for s in self.strips if s.label == 'parking'),
            key=lambda s: abs((s.left + s.right) / 2 - edge),
            default=None,
        )
        x = float(edge - side * 1.0)
        if strip is not None and np.sign(strip.left + strip.right) == side:
            x = (strip.left + strip.right) / 2
        z = rng.uniform(6, 20)
        for _ in range(max(self._count(3.0), 1)):
            kinds = ['car', 'truck', 'caravan', 'trailer', 'motorcycle']
            label = str(rng.choice(kinds, p=[0.84, 0.04, 0.04, 0.03, 0.05]))
            yaw = 0.0 if side > 0 else np.pi
            self._stand(label, x, z, yaw + rng.normal(0, 0.04))
            z += rng.uniform(6, 10) + 0.1 * z
        if rng.random() < 0.35:
            self._group('car', x, max(z, 55.0) + rng.uniform(0, 25))

    def _group(self, label: str, x: float, z: float) -> None:
        """Place several of a kind that nobody would tell apart."""
        rng = self.rng
        count = int(rng.integers(4, 9))
        step = {'car': 5.0, 'person': 0.25, 'bicycle': 0.35}[label]
        spread = {'car': 0.1, 'person': 1.2, 'bicycle': 0.4}[label]

        def paint():
            parts: list[Part] = []
            for i in reversed(range(count)):
                side = rng.normal(0, spread)
                yaw = rng.normal(0, 0.1) if label == 'car' else rng.uniform(0, 6.3)
                pose = self._pose(x + side, z + step * i, yaw)
                parts += getattr(things, label)(pose, rng)
            self.canvas.add(f'{label}group', parts, z)

        self._later(z, paint)

    def _place_on_sidewalks(self) -> None:
        """Place people on foot, parked two-wheelers, and crowds."""
        rng = self.rng
        for _ in range(self._count(4.5)):
            self._attempt(self._walk)
        for label, mean in (('bicycle', 0.7), ('motorcycle', 0.6)):
            for _ in range(self._count(mean)):
                self._attempt(self._lean, label)
        for label, odds, near, far in (
            ('person', 0.3, 35, 80),
            ('bicycle', 0.18, 14, 40),
        ):
            if rng.random() < odds * min(self.density, 3):
                walk = self.walks[int(rng.choice([-1, 1]))]
                self._group(label, float(np.mean(walk)), self._distance(near, far))

    def _walk(self) -> bool:
        """Place a person, maybe with another one beside."""
        rng = self.rng
        walk = self.walks[int(rng.choice([-1, 1]))]
        x, z = rng.uniform(walk[0] + 0.3, walk[1] - 0.3), self._distance(6, self._far())
        if rng.random() < 0.25:
            x = rng.uniform(*self.road)
        yaw = rng.choice([0, np.pi]) if rng.random() < 0.6 else rng.uniform(0, 6.3)
        is_placed = self._stand('person', x, z, yaw)
        if is_placed and rng.random() < 0.25:
            self._stand('person', x + 0.75, z, yaw)
        return is_placed

    def _lean(self, label: str) -> bool:
        """Place a parked two-wheeler."""
        rng = self.rng
        x = rng.uniform(*self.walks[int(rng.choice([-1, 1]))])
        yaw = rng.choice([-1, 1]) * np.pi / 2 + rng.normal(0, 0.5)
        return self._stand(label, x, self._distance(6, 26), yaw)

    def _place_furniture(self) -> None:
        """Place lamp posts, signals, signs, trees and clutter at the kerbs."""
        rng = self.rng
        placers = (
            (stuff.add_lamp_post, 2.0, 7, 70),
            (stuff.add_bollards, 0.5, 6, 30),
            (stuff.add_traffic_light, 1.6, 7, 40),
            (stuff.add_traffic_sign, 2.2, 6, 40),
            (stuff.add_clutter, 0.6, 6, 40),
        )
        for place, mean, near, far in placers:
            for _ in range(int(rng.poisson(mean))):
                side = int(rng.choice([-1, 1]))
                walk = self.walks[side]
                kerb = walk[0] if side > 0 else walk[1]
                x = kerb + side * rng.uniform(0.2, 0.8)
                z = self._distance(near, far)
                self._later(z, partial(place, self.canvas, x, z, rng))
        for _ in range(int(rng.poisson(1.3))):
            side = int(rng.choice([-1, 1]))
            x = self.walks[side][0 if side < 0 else 1] + side * rng.uniform(-0.4, 0.4)
            z = self._distance(9, 80)
            self._later(z, partial(self._tree, x, z))

    def _tree(self, x: float, z: float) -> None:
        parts = stuff.tree(self.camera, self.light, x, z, self.rng)
        self.canvas.add('vegetation', parts, z)

    # Camera -----------------------------------------------------------------

    def _frame_the_picture(self) -> None:
        """Add what belongs to the camera: the car's bonnet and an invalid border."""
        rng = self.rng
        height, width = self.camera.height, self.camera.width
        if rng.random() < 0.35:
            x = np.linspace(0, width, 30)
            top = height * rng.uniform(0.88, 0.95)
            curve = top + height * 0.05 * ((x - width / 2) / (width / 2)) ** 2
            outline = np.concatenate(
                [np.stack([x, curve], -1), [(width, height), (0, height)]]
            )
            color = things.any_color(rng, 0.3, 0.05) * 0.6
            bonnet = Part((outline,), color, 'plain', falloff=0.6)
            self.canvas.add('ego vehicle', [bonnet], 0.0)
        if rng.random() < 0.25:
            border = max(round(height * 0.012), 1)
            for x0, x1, y0, y1 in (
                (0, width, 0, border),
                (0, width, height - border, height),
                (0, border, 0, height),
                (width - border, width, 0, height),
            ):
                frame = np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], float)
                self.canvas.add('out of roi', [Part((frame,), np.zeros(3))], 0.0)
