# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Surroundings of the toy city: sky, ground, house fronts, plants, street furniture.

Functions either return :class:`Part` objects to paint, in painting order, or
paint straight on the :class:`Canvas` where something fills the picture.

Poles, lights and signs are drawn thicker and larger than they are, by half or more:
in pictures of a few hundred pixels they would be too thin to be told apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from .canvas import SUPERSAMPLING, Camera, Canvas, Part, texture_tile
from .things import any_color

_FAR = 300.0
_DARK = np.array([30, 31, 34])
_METAL = np.array([140, 143, 146])


@dataclass(frozen=True)
class Strip:
    """A strip of ground along the street.

    Attributes:
        label: Cityscapes label name.
        left: World X of the left edge in metres.
        right: World X of the right edge in metres.
        color: RGB.
    """

    label: str
    left: float
    right: float
    color: np.ndarray


def paint_sky(canvas: Canvas, zenith: np.ndarray, rng: np.random.Generator) -> None:
    """Paint and record the sky above the horizon: a gradient with clouds."""
    camera = canvas.camera
    rows = int(np.ceil(camera.horizon)) + 2
    fade = np.linspace(0, 1, rows)[:, None, None] ** 1.5
    sky = (1 - fade) * zenith + fade * canvas.haze_color
    noise: np.ndarray = np.zeros((rows, camera.width))
    for cells in (3, 6, 12, 24):
        grid = rng.normal(0, 1, (cells, 2 * cells)).astype(np.float32)
        noise += cv2.resize(
            grid, (camera.width, rows), interpolation=cv2.INTER_CUBIC
        ) / (cells**0.7)
    cover = np.clip(noise * rng.uniform(0.5, 2.5) + rng.uniform(-0.8, 0.5), 0, 1)
    cloud = np.array([238, 238, 240]) * rng.uniform(0.75, 1.0)
    sky = sky + (cloud - sky) * 0.75 * cover[..., None]
    size = (camera.width * SUPERSAMPLING, rows * SUPERSAMPLING)
    top = canvas.pixels[: rows * SUPERSAMPLING]
    top[:] = cv2.resize(np.clip(sky, 0, 255).astype(np.uint8), size)[: len(top)]
    corners = [(0, 0), (camera.width, 0), (camera.width, rows), (0, rows)]
    canvas.record('sky', [np.array(corners, float)])


def strip_outline(camera: Camera, left: float, right: float, near=0.8, far=_FAR):
    """Outline in pixels (n, 2) of the ground between two X, from near to far Z."""
    z = np.geomspace(near, far, 24)
    sides = [
        np.stack([np.full_like(z, x), np.zeros_like(z), z], -1) for x in (left, right)
    ]
    return camera.project(np.concatenate([sides[0], sides[1][::-1]]))


def paint_ground(canvas: Canvas, strips: list[Strip], rng: np.random.Generator) -> None:
    """Paint and record the strips, which go from left to right without gaps."""
    camera = canvas.camera
    first = int(np.ceil(camera.horizon))
    rows = np.arange(first, camera.height) + 0.5
    z = camera.focal * camera.above_ground / np.maximum(rows - camera.horizon, 0.3)
    z = z[:, None].astype(np.float32)
    columns = (np.arange(camera.width) + 0.5 - camera.width / 2).astype(np.float32)
    x = columns * z / camera.focal - camera.bend * z**2
    zone = np.searchsorted([strip.right for strip in strips[:-1]], x)
    colors = np.array([strip.color for strip in strips])[zone]
    labels = np.array([strip.label for strip in strips])

    def noise(name, per_metre_x, per_metre_z, blur_at):
        tile = texture_tile(name) - 1
        u = (x * per_metre_x).astype(int) % tile.shape[1]
        v = (z * per_metre_z).astype(int) % tile.shape[0]
        # Beyond this distance a texture cell is smaller than a pixel.
        return tile[v, u] * np.exp(-z / blur_at)

    def lines(coordinate, period, width, blur_at):
        # The width grows with distance, as the pixel does.
        share = np.minimum(width / period + z / (camera.focal * period), 0.5)
        inside = (coordinate / period) % 1 < share
        return inside * np.exp(-z / blur_at)

    def where(*names):
        return np.isin(labels, names)[zone]

    factor = 1 + 1.4 * noise('plain', 25, 10, 25) + 0.5 * noise('plaster', 6, 2, 60)
    slab = rng.uniform(0.5, 0.9)
    slabs = np.maximum(lines(x, slab, 0.05, 25), lines(z, slab, 0.05, 12))
    factor -= 0.3 * slabs * where('sidewalk')
    cobbles = np.maximum(lines(x, 0.3, 0.05, 12), lines(z, 0.3, 0.05, 6))
    factor -= 0.3 * cobbles * where('parking')
    factor += 1.3 * noise('leaf', 14, 7, 40) * where('terrain')
    factor += 0.6 * noise('leaf', 2, 0.8, 150) * where('terrain')
    factor += 0.8 * noise('leaf', 18, 9, 12) * where('rail track')
    ground = colors * factor[..., None]
    for strip in strips:
        if strip.label == 'rail track':
            middle = (strip.left + strip.right) / 2
            for rail in (middle - 0.72, middle + 0.72):
                on = np.abs(x - rail) < np.maximum(0.05, 0.5 * z / camera.focal)
                ground[on] = [105, 100, 98]
    for left, right in zip(strips[:-1], strips[1:], strict=True):
        if {left.label, right.label} == {'road', 'sidewalk'}:
            side = 1 if right.label == 'sidewalk' else -1
            beyond = (x - left.right) * side
            ground[(beyond > 0) & (beyond < 0.18)] *= 1.18
    clear = np.exp(-z / canvas.haze_distance)[..., None]
    ground = ground * clear + canvas.haze_color * (1 - clear)
    size = (camera.width * SUPERSAMPLING, len(rows) * SUPERSAMPLING)
    canvas.pixels[first * SUPERSAMPLING :] = cv2.resize(
        np.clip(ground, 0, 255).astype(np.uint8), size, interpolation=cv2.INTER_NEAREST
    )
    for strip in strips:
        outline = strip_outline(camera, strip.left, strip.right)
        canvas.record(strip.label, [outline])


def paint_markings(
    canvas: Canvas, lanes: Sequence[float], rng: np.random.Generator
) -> None:
    """Paint lane lines at these X, which may be dashed, and maybe a crossing."""
    camera = canvas.camera
    white = np.array([225, 225, 220]) * rng.uniform(0.75, 1.0)

    def on_ground(x0, x1, z0, z1):
        return camera.project(
            np.array([(x0, 0, z0), (x1, 0, z0), (x1, 0, z1), (x0, 0, z1)])
        )

    dash = rng.uniform(2, 4)
    starts = np.arange(rng.uniform(1, 4), 90, 2.5 * dash)
    for i, x in enumerate(lanes):
        solid = i in (0, len(lanes) - 1)
        for z in np.arange(1, 90, 3.0) if solid else starts:
            quad = on_ground(x - 0.07, x + 0.07, z, z + (3.0 if solid else dash))
            canvas.paint([Part((quad,), white)], float(z))
    if rng.random() < 0.25:
        near = rng.uniform(9, 25)
        bars = np.arange(lanes[0] + 0.4, lanes[-1] - 0.6, 1.0)
        quads = tuple(on_ground(x, x + 0.5, near, near + 3) for x in bars)
        canvas.paint([Part(quads, white)], near)


def _wall_grid(corner, along, up, columns, rows, fill=(0.6, 0.55)) -> np.ndarray:
    """Windows on an upright rectangle: world quads (columns * rows, 4, 3)."""
    i, j = np.meshgrid(np.arange(columns), np.arange(rows))
    u = (i.ravel()[:, None] + 0.5 + fill[0] / 2 * np.array([-1, 1, 1, -1])) / columns
    v = (j.ravel()[:, None] + 0.5 + fill[1] / 2 * np.array([-1, -1, 1, 1])) / rows
    return corner + u[..., None] * along + v[..., None] * up


def house(
    camera: Camera,
    light: np.ndarray,
    edge: float,
    near: float,
    far: float,
    rng: np.random.Generator,
) -> list[Part]:
    """A house whose street front stands at X = ``edge`` from ``near`` to ``far`` Z.

    It extends 12 m away from the street.
    """
    outward = np.sign(edge)
    height = rng.uniform(5.5, 17)
    storeys = max(int(height / 3.1), 1)
    color = any_color(rng, 0.35, 0.4)
    texture = ('plaster', 'plaster', 'brick')[rng.integers(3)]
    up = np.array([0, height, 0])
    street = (np.array([edge, 0, near]), np.array([0, 0, far - near]))
    gable = (np.array([edge, 0, near]), np.array([12 * outward, 0, 0]))
    glass = np.array([70, 80, 92]) * rng.uniform(0.35, 1.6)
    frame = any_color(rng, 0.1, 0.5)
    fill = (rng.uniform(0.4, 0.65), rng.uniform(0.45, 0.6))
    width = rng.uniform(2.2, 3.4)
    shop = rng.random() < 0.4
    roof = rng.uniform(1, 2.5) if rng.random() < 0.5 else 0.0
    cell = 0.09 * camera.pixels_per_metre((near + far) / 2)
    parts = []
    for (corner, along), normal in (
        (gable, np.array([0, 0, -1])),
        (street, np.array([-outward, 0, 0])),
    ):
        shade = 0.8 + 0.3 * float(normal @ light)
        face = np.array([corner, corner + along, corner + along + up, corner + up])
        parts.append(Part((camera.project(face),), color * shade, texture, cell, 0.85))
        columns = max(int(np.linalg.norm(along) / width), 1)
        base = corner + up / storeys * (1 if shop else 0)
        rows = storeys - 1 if shop else storeys
        if rows:
            upper = up * rows / storeys
            frames = _wall_grid(
                base, along, upper, columns, rows, (fill[0] + 0.12, fill[1] + 0.1)
            )
            panes = _wall_grid(base, along, upper, columns, rows, fill)
            for quads, tint in ((frames, frame), (panes, glass)):
                flat = tuple(camera.project(quads))
                parts.append(Part(flat, tint * shade))
        if shop:
            ground_floor = up / storeys
            quads = _wall_grid(
                corner, along, ground_floor, max(columns // 2, 1), 1, (0.85, 0.7)
            )
            parts.append(Part(tuple(camera.project(quads)), glass * 0.7))
            sign = np.array([0, 0.88, 1.02])
            band = [
                corner + sign[1] * ground_floor,
                corner + along + sign[1] * ground_floor,
                corner + along + sign[2] * ground_floor,
                corner + sign[2] * ground_floor,
            ]
            parts.append(
                Part((camera.project(np.array(band)),), any_color(rng, 0.7) * shade)
            )
    tiles = np.array([120, 70, 55]) if rng.random() < 0.6 else any_color(rng, 0.1, 0.2)
    if roof:
        slope = np.array([2.5 * outward, roof, 0])
        corner, along = street
        face = np.array(
            [
                corner + up,
                corner + along + up,
                corner + along + up + slope,
                corner + up + slope,
            ]
        )
        parts.append(Part((camera.project(face),), tiles, 'brick', cell))
    return parts


def wall(camera, light, edge, near, far, rng) -> list[Part]:
    """A garden or retaining wall of 2.2 to 3.6 m with a coping stone."""
    height = rng.uniform(2.2, 3.6)
    color = any_color(rng, 0.25, 0.35)
    shade = 0.8 + 0.3 * float(-np.sign(edge) * light[0])
    z = np.geomspace(near, far, 6)

    def face(h0, h1):
        low = np.stack([np.full_like(z, edge), np.full_like(z, h0), z], -1)
        high = low[::-1] + np.array([0, h1 - h0, 0])
        return camera.project(np.concatenate([low, high]))

    texture = ('brick', 'plaster')[rng.integers(2)]
    cell = 0.1 * camera.pixels_per_metre(np.sqrt(near * far))
    parts = [Part((face(0, height),), color * shade, texture, cell, 0.8)]
    joints = np.arange(near, far, 2.5)
    if len(joints):
        columns = np.array(
            [
                [
                    (edge, 0, q),
                    (edge, 0, q + 0.12),
                    (edge, height, q + 0.12),
                    (edge, height, q),
                ]
                for q in joints
            ]
        )
        parts.append(Part(tuple(camera.project(columns)), color * shade * 0.7))
    parts.append(Part((face(height - 0.35, height),), color * shade * 1.4))
    return parts


def fence(camera, light, edge, near, far, rng) -> list[Part]:
    """A fence of posts, rails and bars; what is behind shows through the bars."""
    height = rng.uniform(1.4, 2.4)
    color = any_color(rng, 0.3, 0.1)
    step = rng.uniform(0.14, 0.3)
    # Bars closer than a pixel or so would only alias.
    bars = [near]
    while bars[-1] < far and len(bars) < 400:
        pixel = (bars[-1] ** 2) / (camera.focal * abs(edge))
        bars.append(bars[-1] + max(step, 2.5 * pixel))

    def upright(q, width, top):
        return [
            (edge, 0, q),
            (edge, 0, q + width),
            (edge, top, q + width),
            (edge, top, q),
        ]

    quads = [upright(q, 0.35 * step + 0.1 * (b - q), height) for q, b in pairwise(bars)]
    z = np.geomspace(near, far, 8)
    rails = []
    for h in (0.12, height - 0.12):
        low = np.stack([np.full_like(z, edge), np.full_like(z, h), z], -1)
        rails.append(np.concatenate([low, low[::-1] + np.array([0, 0.1, 0])]))
    posts = [upright(q, 0.14, height + 0.1) for q in np.arange(near, far, 2.5)]
    parts = [
        Part((camera.project(np.array(shape, float)),), color * tint)
        for shapes, tint in ((quads, 1.0), (rails, 0.9), (posts, 0.75))
        for shape in shapes
    ]
    return parts


def guard_rail(camera, light, edge, near, far, rng) -> list[Part]:
    """A steel band on short posts."""
    z = np.geomspace(near, far, 8)
    low = np.stack([np.full_like(z, edge), np.full_like(z, 0.45), z], -1)
    band = np.concatenate([low, low[::-1] + np.array([0, 0.32, 0])])
    posts = [
        [(edge, 0, q), (edge, 0, q + 0.12), (edge, 0.75, q + 0.12), (edge, 0.75, q)]
        for q in np.arange(near, far, 2.0)
    ]
    parts = [Part((camera.project(np.array(p, float)),), _METAL * 0.6) for p in posts]
    return [*parts, Part((camera.project(band),), _METAL * 1.15, 'plain')]


def foliage_color(rng: np.random.Generator) -> np.ndarray:
    """Leaves from dark green over olive to autumn yellow and reddish."""
    base = np.array([(58, 92, 42), (88, 108, 48), (120, 118, 52), (128, 84, 44)])
    weight = rng.dirichlet([2.0, 1.6, 0.6, 0.35])
    return weight @ base * rng.uniform(0.65, 1.2)


def _blob(centre, radius, rng, squash=0.85) -> np.ndarray:
    """A lumpy disc in pixels (28, 2)."""
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    r = radius * (1 + rng.normal(0, 0.09, 28))
    return centre + np.stack([r * np.cos(angle), squash * r * np.sin(angle)], -1)


def tree(camera: Camera, light, x: float, z: float, rng) -> list[Part]:
    """A tree of 4 to 11 m: trunk, dark crown, lit clumps on the light's side."""
    scale = camera.pixels_per_metre(z)
    height = rng.uniform(4, 11)
    crown = height * rng.uniform(0.25, 0.36)
    foot, top = camera.project(np.array([(x, 0, z), (x, height - crown, z)]))
    trunk = 0.03 * height * scale
    bark = np.array([84, 70, 58]) * rng.uniform(0.6, 1.2)
    stem = np.array(
        [
            (foot[0] - trunk, foot[1]),
            (foot[0] + trunk, foot[1]),
            (top[0] + trunk * 0.6, top[1]),
            (top[0] - trunk * 0.6, top[1]),
        ]
    )
    parts = [Part((stem,), bark, 'slats', 0.05 * scale)]
    color = foliage_color(rng)
    cell = max(0.14 * scale, 0.6)
    radius = crown * scale
    for _ in range(6):
        centre = top + rng.normal(0, 0.38, 2) * radius
        parts.append(
            Part((_blob(centre, radius * 0.7, rng),), color * 0.8, 'leaf', cell)
        )
    lit = np.array([light[0], -light[1]]) * radius * 0.4
    for _ in range(4):
        centre = top + lit + rng.normal(0, 0.28, 2) * radius
        blob = _blob(centre, radius * rng.uniform(0.3, 0.5), rng)
        parts.append(Part((blob,), color * 1.2, 'leaf', cell))
    return parts


def shrubs(camera, light, edge, near, far, rng) -> list[Part]:
    """A hedge or thicket along X = ``edge``."""
    height = rng.uniform(1.2, 4.5)
    color = foliage_color(rng)
    parts = []
    places = np.geomspace(far, near, max(int(np.log(far / near) * 9), 3))
    for z in places:
        scale = camera.pixels_per_metre(z)
        tall = height * rng.uniform(0.7, 1.15)
        foot = camera.project(np.array([edge, 0, z]))
        side = np.sign(edge) * 0.3 * tall * scale
        centre = foot + np.array([side, -0.5 * tall * scale])
        tint = color * rng.uniform(0.75, 1.15)
        radius = 0.55 * tall * scale
        cell = max(0.14 * scale, 0.6)
        parts.append(Part((_blob(centre, radius, rng, 1.0),), tint, 'leaf', cell, 0.7))
    return parts


def skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Paint and record what closes the street: far trees and house blocks."""
    camera = canvas.camera
    z = 170.0
    scale = camera.pixels_per_metre(z)
    base = camera.horizon + camera.above_ground * scale
    x = 0.0
    while x < camera.width:
        width = rng.uniform(8, 30) * scale
        height = rng.uniform(5, 16) * scale
        if rng.random() < 0.5:
            label, color = 'building', any_color(rng, 0.3, 0.4)
            block = np.array(
                [
                    (x, base),
                    (x + width, base),
                    (x + width, base - height),
                    (x, base - height),
                ]
            )
            parts = [Part((block,), color, 'plaster')]
            columns, rows = max(int(width / 3), 1), max(int(height / 3), 1)
            quads = _wall_grid(
                block[0], block[1] - block[0], block[3] - block[0], columns, rows
            )
            parts.append(Part(tuple(quads), color * 0.65))
        else:
            label, color = 'vegetation', foliage_color(rng)
            height *= 0.7
            steps = np.linspace(0, 1, 12)
            tops = base - height * (0.6 + 0.4 * rng.random(12))
            outline = np.stack([x + steps * width * 1.2, tops], -1)
            corners = [(x + 1.2 * width, base), (x, base)]
            parts = [Part((np.concatenate([outline, corners]),), color, 'leaf')]
        canvas.add(label, parts, z)
        x += width


def _upright(camera, x, z, h0, h1, width) -> np.ndarray:
    """An upright bar that faces the camera, at least one pixel wide: (4, 2)."""
    a, b = camera.project(np.array([(x, h0, z), (x, h1, z)]))
    half = max(width * camera.pixels_per_metre(z), 1.0) / 2
    return np.array(
        [
            (a[0] - half, a[1]),
            (a[0] + half, a[1]),
            (b[0] + half, b[1]),
            (b[0] - half, b[1]),
        ]
    )


def _plate(camera, x, z, points) -> np.ndarray:
    """Points (n, 2) of (X offset, height) in metres that face the camera."""
    points = np.asarray(points, float)
    world = np.stack(
        [x + points[:, 0], points[:, 1], np.full(len(points), z, float)], axis=-1
    )
    return camera.project(world)


def _disc(radius: float, height: float, n: int = 18) -> np.ndarray:
    """Points (n, 2) of (X offset, height) of a disc."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([radius * np.cos(angle), height + radius * np.sin(angle)], -1)


def add_lamp_post(canvas: Canvas, x: float, z: float, rng) -> None:
    """Add a street lamp (label pole) whose arm reaches over the road."""
    camera = canvas.camera
    height = rng.uniform(5, 9)
    color = _METAL * rng.uniform(0.35, 1.1)
    post = _upright(camera, x, z, 0, height, 0.32)
    reach = -np.sign(x) * rng.uniform(0.8, 2)
    thick = max(0.2, 1 / camera.pixels_per_metre(z))
    arm = [
        (0, height),
        (reach, height + 0.2),
        (reach, height + 0.2 + thick),
        (0, height + thick),
    ]
    head = [
        (reach * 0.7, height + 0.1),
        (reach * 1.2, height + 0.15),
        (reach * 1.2, height + 0.15 + 1.5 * thick),
        (reach * 0.7, height + 0.1 + 1.5 * thick),
    ]
    canvas.add(
        'pole',
        [
            Part((post,), color),
            Part((_plate(camera, x, z, arm),), color),
            Part((_plate(camera, x, z, head),), color * 1.3),
        ],
        z,
    )


def add_bollards(canvas: Canvas, x: float, z: float, rng) -> None:
    """Add a few short posts in a row (label pole), or a bundle (polegroup)."""
    color = _METAL * rng.uniform(0.3, 1.2)
    if rng.random() < 0.3:
        tall = rng.uniform(2, 5)
        posts = [
            Part((_upright(canvas.camera, x + 0.4 * i, z, 0, tall, 0.2),), color)
            for i in range(3)
        ]
        canvas.add('polegroup', posts, z)
        return
    for i in reversed(range(rng.integers(2, 5))):
        post = _upright(canvas.camera, x, z + 2 * i, 0, 1.0, 0.3)
        canvas.add('pole', [Part((post,), color)], z + 2 * i)


def add_traffic_light(canvas: Canvas, x: float, z: float, rng) -> None:
    """Add a traffic light on a pole, sometimes with a second one over the road."""
    camera = canvas.camera
    color = _METAL * rng.uniform(0.35, 1.0)
    height = rng.uniform(3.4, 4.2)
    places = [(0.0, height)]
    poles = [Part((_upright(camera, x, z, 0, height, 0.3),), color)]
    if rng.random() < 0.35:
        top, reach = rng.uniform(5, 6), -np.sign(x) * rng.uniform(2.5, 4.5)
        thick = max(0.28, 1 / camera.pixels_per_metre(z))
        arm = [(0, top), (reach, top), (reach, top + thick), (0, top + thick)]
        poles.append(Part((_upright(camera, x, z, 0, top, 0.3),), color))
        poles.append(Part((_plate(camera, x, z, arm),), color))
        places.append((reach, top + 0.3))
    canvas.add('pole', poles, z)
    lit = rng.integers(3)
    away = rng.random() < 0.2
    for dx, top in places:
        half, tall = 0.42, 1.95
        box = [
            (dx - half, top - tall),
            (dx + half, top - tall),
            (dx + half, top),
            (dx - half, top),
        ]
        parts = [Part((_plate(camera, x, z - 0.1, box),), _DARK)]
        lamps = ((220, 40, 30), (240, 180, 40), (40, 210, 120))
        for i, lamp in enumerate(lamps):
            shade = 1.0 if i == lit else 0.25
            disc = _disc(0.26, top - 0.35 - 0.62 * i) + np.array([dx, 0])
            if not away:
                parts.append(
                    Part((_plate(camera, x, z - 0.1, disc),), np.array(lamp) * shade)
                )
        canvas.add('traffic light', parts, z)


def add_traffic_sign(canvas: Canvas, x: float, z: float, rng) -> None:
    """Add a sign on a pole: round, triangular, square or a large board."""
    camera = canvas.camera
    height = rng.uniform(2.4, 3.2)
    white, red, blue, yellow = (
        np.array(c) * rng.uniform(0.8, 1.05)
        for c in ((235, 235, 232), (195, 30, 35), (30, 80, 170), (235, 190, 40))
    )
    kind = rng.integers(5)
    r = rng.uniform(0.6, 0.8)
    square = np.array(
        [(-r, height - r), (r, height - r), (r, height + r), (-r, height + r)]
    )
    triangle = np.array(
        [(-1.15 * r, height - r), (1.15 * r, height - r), (0, height + r)]
    )
    middle = np.array([0, height])
    if kind == 0:
        shapes = [(_disc(r, height), red), (_disc(r * 0.7, height), white)]
    elif kind == 1:
        inner = (triangle - middle) * 0.62 + middle - np.array([0, 0.08 * r])
        shapes = [(triangle, red), (inner, white)]
    elif kind == 2:
        bar = (square - middle) * np.array([0.25, 0.6]) + middle
        shapes = [(square, blue), (bar, white)]
    elif kind == 3:
        diamond = np.array(
            [(0, height - r), (r, height), (0, height + r), (-r, height)]
        )
        shapes = [(diamond, white), ((diamond - middle) * 0.7 + middle, yellow)]
    else:
        board = (square - middle) * np.array([2.6, 1.5]) + middle + np.array([0, 0.4])
        lines = [
            (board - board.mean(0)) * np.array([0.75, 0.13])
            + board.mean(0)
            + np.array([0, d])
            for d in (-0.3 * r, 0.5 * r)
        ]
        ink = (blue, yellow)[rng.integers(2)]
        shapes = [(board, ink), *((line, white) for line in lines)]
    post = _upright(camera, x, z, 0, height, 0.24)
    canvas.add('pole', [Part((post,), _METAL * rng.uniform(0.5, 1.1))], z)
    back = rng.random() < 0.12
    parts = [
        Part((_plate(camera, x, z - 0.06, shape),), _METAL * 0.8 if back else color)
        for shape, color in shapes
    ]
    canvas.add('traffic sign', parts, z)


def add_clutter(canvas: Canvas, x: float, z: float, rng) -> None:
    """Add something outside of the evaluated classes: a bin, a kiosk, a parcel cart."""
    camera = canvas.camera
    label = ('static', 'static', 'dynamic')[rng.integers(3)]
    width, height = rng.uniform(0.3, 0.9), rng.uniform(0.7, 1.6)
    color = any_color(rng, 0.6)
    box = [(-width, 0), (width, 0), (width * 0.95, height), (-width * 0.95, height)]
    lid = [
        (-width, height),
        (width, height),
        (width, height * 1.1),
        (-width, height * 1.1),
    ]
    canvas.add(
        label,
        [
            Part((_plate(camera, x, z, box),), color, 'plain', falloff=0.7),
            Part((_plate(camera, x, z, lid),), color * 0.6),
        ],
        z,
    )
