# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Shapes of the countable classes: vehicles, two-wheelers and people.

Every function takes a :class:`Pose` and a random generator and returns the
:class:`Part` objects to paint, in painting order. Sizes are metres in the pose's
own coordinates (l ahead, s to the right, h up).
"""

import colorsys
from collections.abc import Sequence

import cv2
import numpy as np

from .canvas import Part, Pose

_DARK = np.array([28, 29, 32])
_GLASS = np.array([58, 70, 82])
_TYRE = np.array([24, 23, 24])
_TAIL_LIGHT = np.array([190, 22, 20])
_HEAD_LIGHT = np.array([245, 240, 220])
_METAL = np.array([150, 152, 155])


def any_color(
    rng: np.random.Generator, vivid: float = 0.5, dark: float = 0.15
) -> np.ndarray:
    """Random RGB (3,) in 0 to 255: vivid with that probability, else greyish."""
    saturation = rng.uniform(0.35, 0.9) if rng.random() < vivid else rng.uniform(0, 0.2)
    return 255 * np.array(
        colorsys.hsv_to_rgb(rng.random(), saturation, rng.uniform(dark, 0.95))
    )


def _circle(l0: float, h0: float, radius: float, side: float, n: int = 16):
    """Upright circle in the plane s = ``side``: own points (n, 3)."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    ahead, up = l0 + radius * np.cos(angle), h0 + radius * np.sin(angle)
    return np.stack([ahead, np.full(n, side), up], axis=-1)


def _on_side(points, side: float) -> np.ndarray:
    """Points (n, 2) of (l, h) in the plane s = ``side``: own points (n, 3)."""
    points = np.asarray(points, float)
    return np.insert(points, 1, side, axis=1)


def _across(points, ahead: float) -> np.ndarray:
    """Points (n, 2) of (s, h) in the plane l = ``ahead``: own points (n, 3)."""
    return np.insert(np.asarray(points, float), 0, ahead, axis=1)


def _rectangle(a0: float, a1: float, h0: float, h1: float) -> np.ndarray:
    """Corners (4, 2) of a rectangle in a plane whose second axis is h."""
    return np.array([(a0, h0), (a1, h0), (a1, h1), (a0, h1)])


def _capsule(start, end, radius0: float, radius1: float) -> np.ndarray:
    """Limb between two pixels with these end radii in pixels: polygon (n, 2)."""
    angle = np.linspace(0, 2 * np.pi, 10, endpoint=False)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    points = np.concatenate([start + radius0 * ring, end + radius1 * ring])
    return cv2.convexHull(points.astype(np.float32))[:, 0].astype(float)


def _extrusion(
    pose: Pose,
    profile: Sequence[Sequence[float]] | np.ndarray,
    width: float,
    color: np.ndarray,
    edge_colors: dict[int, np.ndarray] | None = None,
    texture: str | None = None,
    side: float = 0.0,
) -> list[Part]:
    """A side view pushed sideways: the faces that the camera sees.

    Args:
        pose: Where it stands.
        profile: Points (n, 2) of (l, h), from the lower rear over the top to the
            lower front; the bottom is never seen.
        width: Extent along s, centred on ``side``.
        color: Color of body faces.
        edge_colors: Other colors by index of the edge's first point.
        texture: Texture of the side faces.
        side: Centre along s.
    """
    profile = np.asarray(profile, float)
    low, high = side - width / 2, side + width / 2
    faces = []
    for i, (a, b) in enumerate(zip(profile[:-1], profile[1:], strict=True)):
        quad = np.array(
            [
                (a[0], low, a[1]),
                (b[0], low, b[1]),
                (b[0], high, b[1]),
                (a[0], high, a[1]),
            ]
        )
        normal = np.array([a[1] - b[1], 0, b[0] - a[0]])
        if np.any(normal) and pose.sees(quad.mean(0), normal):
            shade = (edge_colors or {}).get(i, color) * pose.brightness(normal)
            distance = pose.to_world(quad.mean(0))[2]
            part = Part((pose.to_image(quad),), shade, 'plain', falloff=0.9)
            faces.append((distance, i, part))
    parts = [part for *_, part in sorted(faces, key=lambda face: (-face[0], face[1]))]
    for s, normal in ((low, np.array([0, -1, 0])), (high, np.array([0, 1, 0]))):
        face = _on_side(profile, s)
        if pose.sees(face.mean(0), normal):
            shade = color * pose.brightness(normal)
            cell = 0.12 * pose.scale
            parts.append(
                Part((pose.to_image(face),), shade, texture or 'plain', cell, 0.75)
            )
    return parts


def _visible_sides(pose: Pose, half_width: float) -> list[float]:
    """The s of the side faces that the camera sees."""
    return [
        s
        for s in (-half_width, half_width)
        if pose.sees(np.array([0, s, 0.5]), np.array([0, np.sign(s), 0]))
    ]


def _decal(pose: Pose, polygons: list[np.ndarray], color, **kwargs) -> Part:
    """Own polygons in the color, as one part."""
    return Part(tuple(pose.to_image(p) for p in polygons), np.asarray(color), **kwargs)


def _wheels(pose: Pose, half_width: float, places, radius: float, rng) -> list[Part]:
    """Wheels on the visible sides at the l of ``places``."""
    hub = _METAL * rng.uniform(0.5, 1.15)
    parts = []
    for s in _visible_sides(pose, half_width):
        for place in places:
            parts.append(_decal(pose, [_circle(place, radius, radius, s)], _TYRE))
            parts.append(_decal(pose, [_circle(place, radius, radius * 0.55, s)], hub))
    return parts


def _tyres_below(pose: Pose, half_width: float, ahead: float, radius: float) -> Part:
    """What one sees of the tyres below the body from the front or the rear."""
    spans = [(-half_width, -half_width + 0.25), (half_width - 0.25, half_width)]
    return _decal(
        pose,
        [_across(_rectangle(a, b, 0, radius), ahead) for a, b in spans],
        _TYRE,
    )


def _ends(pose: Pose, length: float) -> list[tuple[float, bool]]:
    """(l, whether it is the front) of the end faces that the camera sees."""
    return [
        (sign * length / 2, sign > 0)
        for sign in (-1, 1)
        if pose.sees(np.array([sign * length / 2, 0, 0.8]), np.array([sign, 0, 0]))
    ]


def _lights(pose: Pose, length: float, width: float, h0: float, h1: float):
    """Head or tail lights and the number plate of the visible ends."""
    parts = []
    for ahead, front in _ends(pose, length + 0.02):
        inner, outer = width * 0.3, width * 0.47
        lamps = [
            _across(_rectangle(a, b, h0, h1), ahead)
            for a, b in ((-outer, -inner), (inner, outer))
        ]
        parts.append(_decal(pose, lamps, _HEAD_LIGHT if front else _TAIL_LIGHT))
        plate = _across(_rectangle(-0.26, 0.26, h0 - 0.22, h0 - 0.1), ahead)
        parts.append(_decal(pose, [plate], [225, 225, 215]))
    return parts


def car(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A car of about 4.3 m: saloon, hatchback, estate or van."""
    kind = rng.integers(4)
    roof = (1.42, 1.46, 1.5, 1.85)[kind] * rng.uniform(0.96, 1.05)
    belt = (0.92, 0.95, 0.95, 1.1)[kind]
    rear = ((-1.6, -1.0), (-2.05, -1.55), (-2.1, -1.9), (-2.1, -2.0))[kind]
    front = ((0.45, 1.15), (0.4, 1.2), (0.4, 1.15), (0.9, 1.6))[kind]
    profile = np.array(
        [
            (-2.12, 0.25),
            (-2.16, belt - 0.08),
            (rear[0], belt),
            (rear[1], roof),
            (front[0], roof),
            (front[1], belt),
            (2.0, belt - 0.16),
            (2.15, 0.3),
        ]
    )
    width = 1.78
    body = any_color(rng, vivid=0.5)
    glass = _GLASS * rng.uniform(0.6, 1.5)
    parts = [
        _tyres_below(pose, width / 2 - 0.08, ahead * 0.7, 0.3)
        for ahead, _ in _ends(pose, 4.2)
    ]
    parts += _extrusion(pose, profile, width, body, {2: glass, 4: glass})
    sill, top = belt + 0.03, roof - 0.1
    middle = rng.uniform(-0.35, -0.1)

    def window(l0, l1):
        # Slanted where the pillars are: the window follows the profile's corners.
        lean_rear = (rear[1] - rear[0]) * (top - sill) / (roof - belt)
        lean_front = (front[1] - front[0]) * (top - sill) / (roof - belt)
        lower = (l0 if l0 > rear[0] + 0.3 else rear[0] + 0.15, l1)
        if l1 > middle + 0.3:
            upper = (lower[0], front[1] - 0.12 - lean_front)
            lower = (lower[0], front[1] - 0.12)
        else:
            upper = (lower[0] + lean_rear, l1)
        return [
            (lower[0], sill),
            (lower[1], sill),
            (upper[1], top),
            (upper[0], top),
        ]

    for s in _visible_sides(pose, width / 2):
        panes = [window(rear[0], middle - 0.05), window(middle + 0.05, front[1])]
        parts.append(_decal(pose, [_on_side(p, s) for p in panes], glass))
        sill_line = _rectangle(-2.0, 2.0, 0.25, 0.36)
        parts.append(_decal(pose, [_on_side(sill_line, s)], body * 0.45))
    parts += _wheels(pose, width / 2, (-1.32, 1.32), 0.33, rng)
    for ahead, _ in _ends(pose, 4.32):
        bumper = _across(_rectangle(-0.8, 0.8, 0.27, 0.42), ahead)
        parts.append(_decal(pose, [bumper], body * 0.4))
    return parts + _lights(pose, 4.34, width, 0.62, 0.8)


def truck(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A lorry of 7 to 9 m: a cab and a box, tarpaulin or tipper behind it."""
    cargo = rng.uniform(4.5, 6.5)
    length, width, cab = cargo + 2.3, 2.4, 2.0
    half = length / 2
    cab_color, box_color = any_color(rng, 0.7), any_color(rng, 0.4, 0.35)
    texture = ('plain', 'slats', 'slats')[rng.integers(3)]
    top = rng.uniform(3.0, 3.6)
    glass = _GLASS * rng.uniform(0.6, 1.4)
    chassis = [(-half, 0.5), (-half, 0.95), (half - 0.2, 0.95), (half - 0.2, 0.5)]
    front = [
        (half - cab, 0.5),
        (half - cab, 2.6),
        (half - 0.25, 2.65),
        (half - 0.05, 1.5),
        (half, 0.4),
    ]
    box = [(-half, 0.95), (-half, top), (half - 2.3, top), (half - 2.3, 0.95)]
    parts = [
        _tyres_below(pose, width / 2, ahead * 0.85, 0.95)
        for ahead, _ in _ends(pose, length)
    ]
    parts += _extrusion(pose, chassis, width * 0.92, _DARK)
    cab_parts = _extrusion(pose, front, width * 0.95, cab_color, {2: glass})
    box_parts = _extrusion(pose, box, width, box_color, texture=texture)
    for s in _visible_sides(pose, width * 0.95 / 2):
        pane = [
            (half - cab + 0.5, 1.6),
            (half - 0.3, 1.6),
            (half - 0.45, 2.4),
            (half - cab + 0.5, 2.4),
        ]
        cab_parts.append(_decal(pose, [_on_side(pane, s)], glass))
    for s in _visible_sides(pose, width / 2):
        stripe = _rectangle(-half + 0.1, half - 2.4, 1.0, 1.12)
        box_parts.append(_decal(pose, [_on_side(stripe, s)], box_color * 0.45))
    for ahead, is_front in _ends(pose, length):
        if not is_front:
            edges = [(-1.15, -1.08), (-0.03, 0.03), (1.08, 1.15)]
            doors = [
                _across(_rectangle(a, b, 1.0, top - 0.05), ahead) for a, b in edges
            ]
            box_parts.append(_decal(pose, doors, box_color * 0.5))
            bar = _across(_rectangle(-1.1, 1.1, 0.55, 0.7), ahead)
            box_parts.append(_decal(pose, [bar], [200, 60, 40]))
        else:
            grille = _across(_rectangle(-0.8, 0.8, 0.65, 1.3), ahead)
            cab_parts.append(_decal(pose, [grille], cab_color * 0.35))
    # The end that is nearer comes last.
    towards = np.cos(pose.yaw) * pose.z + np.sin(pose.yaw) * pose.x < 0
    parts += box_parts + cab_parts if towards else cab_parts + box_parts
    places = (-half + 0.8, -half + 1.9, half - 1.2)
    parts += _wheels(pose, width / 2, places, 0.5, rng)
    return parts + _lights(pose, length + 0.04, width * 0.95, 0.72, 0.92)


def _coach(pose, rng, length, width, top, body, band, panes, floor) -> list[Part]:
    """A long box with a row of windows; bus and train share it."""
    half = length / 2
    glass = _GLASS * rng.uniform(0.5, 1.3)
    profile = [
        (-half, floor),
        (-half, top - 0.25),
        (-half + 0.2, top),
        (half - 0.2, top),
        (half, top - 0.25),
        (half, floor),
    ]
    parts = _extrusion(pose, profile, width, body)
    step = length / panes
    for s in _visible_sides(pose, width / 2):
        line = _rectangle(-half, half, 0.72 * top, 0.9 * top)
        parts.append(_decal(pose, [_on_side(line, s)], band))
        windows = [
            _on_side(
                _rectangle(
                    -half + i * step + 0.1,
                    -half + (i + 1) * step - 0.1,
                    0.43 * top,
                    0.8 * top,
                ),
                s,
            )
            for i in range(panes)
        ]
        parts.append(_decal(pose, windows, glass))
        doors = [
            _on_side(
                _rectangle(
                    -half + i * step + 0.15,
                    -half + (i + 1) * step - 0.15,
                    floor + 0.1,
                    0.83 * top,
                ),
                s,
            )
            for i in range(1, panes, max(panes // 3, 2))
        ]
        parts.append(_decal(pose, doors, glass * 0.7))
    for ahead, _ in _ends(pose, length + 0.02):
        screen = _across(
            _rectangle(-0.44 * width, 0.44 * width, 0.4 * top, 0.8 * top), ahead
        )
        parts.append(_decal(pose, [screen], glass))
    return parts


def bus(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A city bus of 9 to 12 m with wheels, window row, doors and a line display."""
    length, width, top = rng.uniform(9, 12), 2.5, rng.uniform(2.9, 3.2)
    body = any_color(rng, 0.75, 0.3)
    band = body * 0.55 if rng.random() < 0.5 else any_color(rng, 0.5)
    parts = [
        _tyres_below(pose, width / 2, ahead * 0.8, 0.5)
        for ahead, _ in _ends(pose, length)
    ]
    parts += _coach(pose, rng, length, width, top, body, band, 6, 0.35)
    for ahead, _ in _ends(pose, length + 0.04):
        display = _across(_rectangle(-0.8, 0.8, 0.83 * top, 0.93 * top), ahead)
        parts.append(_decal(pose, [display], [30, 26, 20]))
        text = _across(_rectangle(-0.6, 0.6, 0.86 * top, 0.9 * top), ahead)
        parts.append(_decal(pose, [text], [250, 170, 40]))
    parts += _wheels(pose, width / 2, (-0.28 * length, 0.32 * length), 0.48, rng)
    return parts + _lights(pose, length + 0.04, width, 0.6, 0.85)


def train(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A tram of three or so sections, joined by bellows, with a roof collector."""
    sections, one, width, top = int(rng.integers(2, 4)), 8.0, 2.5, 3.5
    body, band = any_color(rng, 0.8, 0.3), any_color(rng, 0.2, 0.7)
    pieces = []
    for i in range(sections):
        ahead = (i - (sections - 1) / 2) * one
        x, _, z = pose.to_world(np.array([ahead, 0, 0]))
        piece = Pose(pose.camera, pose.light, x, z, pose.yaw)
        parts = _coach(piece, rng, one - 0.5, width, top, body, band, 4, 0.15)
        for s in _visible_sides(piece, width / 2):
            skirt = _rectangle(-one / 2 + 0.25, one / 2 - 0.25, 0.15, 0.6)
            parts.append(_decal(piece, [_on_side(skirt, s)], _DARK * 1.4))
        gear = [(-2.2, top), (-2.2, top + 0.35), (2.2, top + 0.35), (2.2, top)]
        parts += _extrusion(piece, gear, 1.6, _METAL * 0.7)
        bellows = [(-one / 2, 0.3), (-one / 2, 3.3), (one / 2, 3.3), (one / 2, 0.3)]
        pieces.append(
            (z, _extrusion(piece, bellows, width * 0.85, _DARK, None, 'slats'))
        )
        pieces[-1][1].extend(parts)
    parts = [part for _, group in sorted(pieces, key=lambda p: -p[0]) for part in group]
    thin = max(0.05 * pose.scale, 0.5)
    arm = pose.to_image(np.array([(0, 0, top), (0.9, 0, top + 0.8), (0, 0, top + 1.5)]))
    for a, b in ((0, 1), (1, 2)):
        parts.append(Part((_capsule(arm[a], arm[b], thin, thin),), _DARK))
    return parts + _lights(pose, sections * one - 0.46, width, 0.75, 0.95)


def caravan(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A caravan: a light box with small windows on one axle."""
    body = any_color(rng, 0.1, 0.75)
    profile = [(-2, 0.45), (-2.1, 1.2), (-1.9, 2.5), (1.7, 2.55), (2.1, 1.2), (2, 0.45)]
    parts = [_tyres_below(pose, 1.0, 0.0, 0.5)]
    parts += _extrusion(pose, profile, 2.2, body)
    panes = [_rectangle(-1.6, -0.7, 1.3, 2.0), _rectangle(0.5, 1.4, 1.3, 2.0)]
    for s in _visible_sides(pose, 1.1):
        parts.append(_decal(pose, [_on_side(p, s) for p in panes], _GLASS))
    for ahead, _ in _ends(pose, 4.0):
        parts.append(
            _decal(pose, [_across(_rectangle(-0.7, 0.7, 1.4, 2.1), ahead)], _GLASS)
        )
    return parts + _wheels(pose, 1.1, (0.0,), 0.33, rng)


def trailer(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A flat trailer with low boards and a drawbar."""
    body = any_color(rng, 0.4, 0.2)
    profile = [(-1.5, 0.5), (-1.5, 1.0), (1.2, 1.0), (1.2, 0.5)]
    parts = [_tyres_below(pose, 0.8, 0.0, 0.5)]
    parts += _extrusion(pose, profile, 1.7, body, None, 'slats')
    bar = pose.to_image(np.array([(1.2, 0, 0.5), (2.4, 0, 0.45)]))
    thick = max(0.05 * pose.scale, 0.4)
    parts.append(Part((_capsule(bar[0], bar[1], thick, thick),), _DARK))
    return parts + _wheels(pose, 0.85, (0.0,), 0.32, rng)


def _bar(pose: Pose, start, end, radius: float, color) -> Part:
    """A tube between two own points."""
    a, b = pose.to_image(np.array([start, end], float))
    pixels = max(radius * pose.scale, 0.25)
    return Part((_capsule(a, b, pixels, pixels),), np.asarray(color, float))


def _two_wheels(pose: Pose, radius: float, tyre: float, base: float) -> list[Part]:
    """Two rings at l = +-``base`` and their treads, which show from front and rear."""
    parts = []
    for ahead in (-base, base):
        centre = np.array([ahead, 0, radius])
        for angle in np.arange(4) * np.pi / 4:
            spoke = radius * np.array([np.cos(angle), 0, np.sin(angle)])
            parts.append(_bar(pose, centre - spoke, centre + spoke, 0.006, _METAL))
        ring = [
            _circle(ahead, radius, radius, 0),
            _circle(ahead, radius, radius - tyre, 0),
        ]
        parts.append(_decal(pose, ring, _TYRE))
        tread = _across(_rectangle(-tyre / 2, tyre / 2, 0, 2 * radius), ahead)
        parts.append(_decal(pose, [tread], _TYRE))
    return parts


def bicycle(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A bicycle: thin wheels, diamond frame, saddle and handlebar."""
    color = any_color(rng, 0.7)
    rear, crank, seat, head = (-0.52, 0.35), (-0.05, 0.3), (-0.2, 0.85), (0.38, 0.85)
    tubes = [(rear, crank), (crank, seat), (seat, head), (head, crank), (rear, seat)]
    parts = _two_wheels(pose, 0.35, 0.07, 0.54)
    for a, b in tubes:
        parts.append(_bar(pose, (a[0], 0, a[1]), (b[0], 0, b[1]), 0.035, color))
    parts.append(_bar(pose, (0.38, 0, 0.98), (0.55, 0, 0.35), 0.03, color * 0.8))
    parts.append(_bar(pose, (-0.3, 0, 0.95), (-0.08, 0, 0.95), 0.05, _DARK))
    parts.append(_bar(pose, (0.38, -0.28, 1.02), (0.38, 0.28, 1.02), 0.03, _DARK))
    if rng.random() < 0.4:
        basket = _across(_rectangle(-0.18, 0.18, 0.75, 1.0), 0.6)
        parts.append(_decal(pose, [basket], any_color(rng, 0.3), texture='slats'))
    return parts


def motorcycle(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A motorcycle or scooter: fat wheels, engine block, tank, seat, lamp."""
    color = any_color(rng, 0.7)
    parts = _two_wheels(pose, 0.32, 0.15, 0.66)
    engine = [(-0.4, 0.25), (-0.3, 0.6), (0.3, 0.62), (0.38, 0.25)]
    parts += _extrusion(pose, engine, 0.36, _METAL * 0.55)
    body = [
        (-0.85, 0.62),
        (-0.9, 0.85),
        (-0.1, 0.78),
        (0.1, 1.0),
        (0.5, 0.95),
        (0.5, 0.6),
    ]
    parts += _extrusion(pose, body, 0.34, color, {1: _DARK})
    parts.append(_bar(pose, (0.42, 0, 1.0), (0.68, 0, 0.32), 0.06, _METAL * 0.8))
    parts.append(_bar(pose, (-0.8, 0.2, 0.4), (-0.2, 0.2, 0.33), 0.06, _METAL))
    parts.append(_bar(pose, (0.35, -0.36, 1.08), (0.35, 0.36, 1.08), 0.035, _DARK))
    for ahead, front in _ends(pose, 1.2):
        lamp = _across(
            _rectangle(-0.1, 0.1, 0.78, 0.92), 0.56 if front else ahead - 0.2
        )
        parts.append(_decal(pose, [lamp], _HEAD_LIGHT if front else _TAIL_LIGHT))
    return parts


def _figure(pose: Pose, joints: dict, rng: np.random.Generator, helmet) -> list[Part]:
    """A dressed body over its joints (own points); nearer limbs come last."""
    top, trousers = any_color(rng, 0.6), any_color(rng, 0.4, 0.1) * 0.8
    skin = np.array([224, 180, 150]) * rng.uniform(0.45, 1.05)
    hair = any_color(rng, 0.2, 0.05) * 0.6
    shoes = any_color(rng, 0.3, 0.05) * 0.7
    scale = pose.scale
    size = joints['size']

    def limb(a, b, r0, r1, color, **kwargs):
        start, end = pose.to_image(np.array([joints[a], joints[b]], float))
        r0, r1 = (max(r * size * scale, 0.3) for r in (r0, r1))
        return Part((_capsule(start, end, r0, r1),), color, **kwargs)

    def depth(name):
        return pose.to_world(np.array(joints[name], float))[2]

    far, near = ('left', 'right')
    if depth('shoulder_left') < depth('shoulder_right'):
        far, near = near, far
    parts = []
    for s in (far, near):
        shade = 0.8 if s == far else 1.0
        parts.append(limb(f'hip_{s}', f'knee_{s}', 0.055, 0.04, trousers * shade))
        parts.append(limb(f'knee_{s}', f'foot_{s}', 0.04, 0.028, trousers * shade))
        parts.append(limb(f'foot_{s}', f'toe_{s}', 0.025, 0.02, shoes))
    parts.append(limb(f'shoulder_{far}', f'elbow_{far}', 0.032, 0.026, top * 0.75))
    parts.append(limb(f'elbow_{far}', f'hand_{far}', 0.026, 0.018, top * 0.75))
    hips = [joints[f'hip_{s}'] for s in ('left', 'right')]
    shoulders = [joints[f'shoulder_{s}'] for s in ('left', 'right')]
    torso = np.concatenate(
        [
            _capsule(p, p, r * size * scale, r * size * scale)
            for p, r in zip(
                pose.to_image(np.array(hips + shoulders, float)),
                (0.06, 0.06, 0.05, 0.05),
                strict=True,
            )
        ]
    )
    outline = cv2.convexHull(torso.astype(np.float32))[:, 0].astype(float)
    parts.append(Part((outline,), top, 'plain', 1.0, 0.8))
    if 'hem' in joints:
        hem = limb('pelvis', 'hem', 0.09, 0.12, top * 0.9, falloff=0.8)
        parts.append(hem)
    parts.append(limb(f'shoulder_{near}', f'elbow_{near}', 0.032, 0.026, top * 1.08))
    parts.append(limb(f'elbow_{near}', f'hand_{near}', 0.026, 0.018, top * 1.08))
    parts.append(limb(f'hand_{near}', f'hand_{near}', 0.02, 0.02, skin))
    if 'bag' in joints:
        parts.append(limb(f'shoulder_{near}', 'bag', 0.045, 0.06, any_color(rng)))
    parts.append(limb('neck', 'head', 0.025, 0.025, skin))
    parts.append(limb('head', 'head', 0.062, 0.062, skin))
    crown = helmet if helmet is not None else hair
    parts.append(limb('crown', 'crown', 0.06, 0.06, crown))
    return parts


def person(pose: Pose, rng: np.random.Generator) -> list[Part]:
    """A standing or walking person of 1.1 to 1.95 m."""
    size = rng.uniform(1.55, 1.95) if rng.random() < 0.88 else rng.uniform(1.1, 1.4)
    stride = rng.uniform(0, 0.16) * rng.choice([-1, 1])
    swing = -stride * rng.uniform(0.5, 1.2)
    bent = rng.uniform(0, 0.12)
    joints: dict[str, tuple[float, float, float]] = {
        'pelvis': (0, 0, 0.53),
        'neck': (0.01, 0, 0.83),
        'head': (0.02, 0, 0.925),
        'crown': (0.0, 0, 0.945),
    }
    for name, sign in (('left', -1), ('right', 1)):
        step = sign * stride
        arm = sign * swing
        joints |= {
            f'hip_{name}': (0, sign * 0.05, 0.5),
            f'knee_{name}': (step * 0.55 + 0.02, sign * 0.05, 0.27),
            f'foot_{name}': (step, sign * 0.05, 0.03),
            f'toe_{name}': (step + 0.07, sign * 0.06, 0.02),
            f'shoulder_{name}': (0, sign * 0.09, 0.79),
            f'elbow_{name}': (arm * 0.5, sign * 0.125, 0.62),
            f'hand_{name}': (arm + bent, sign * 0.12, 0.47 + bent),
        }
    if rng.random() < 0.3:
        joints['hem'] = (0, 0, rng.uniform(0.3, 0.45))
    if rng.random() < 0.3:
        joints['bag'] = (-0.1, 0.08 * rng.choice([-1, 1]), rng.uniform(0.5, 0.68))
    scaled = {name: np.array(joint) * size for name, joint in joints.items()}
    helmet = any_color(rng, 0.5) if rng.random() < 0.2 else None
    return _figure(pose, scaled | {'size': size}, rng, helmet)


def rider(pose: Pose, rng: np.random.Generator, on_motorcycle: bool) -> list[Part]:
    """A person who rides the two-wheeler that stands at the same pose."""
    if on_motorcycle:
        seat, neck, head = (-0.3, 0.9), (-0.12, 1.42), (-0.06, 1.58)
        knee, foot, hand = (0.18, 0.8), (-0.05, 0.38), (0.32, 1.08)
        spread = 0.2
    else:
        seat, neck, head = (-0.2, 1.0), (0.08, 1.5), (0.15, 1.66)
        knee, foot, hand = (0.12, 0.72), (-0.05, 0.3), (0.38, 1.04)
        spread = 0.09
    lift = 0.0 if on_motorcycle else rng.uniform(0.04, 0.2)
    joints: dict[str, tuple[float, float, float]] = {
        'pelvis': (seat[0], 0, seat[1]),
        'neck': (neck[0], 0, neck[1]),
        'head': (head[0], 0, head[1]),
        'crown': (head[0] - 0.03, 0, head[1] + 0.04),
    }
    for name, sign in (('left', -1), ('right', 1)):
        up = lift * (1 + sign)
        joints |= {
            f'hip_{name}': (seat[0], sign * 0.09, seat[1] - 0.03),
            f'knee_{name}': (knee[0], sign * spread, knee[1] + up * 0.5),
            f'foot_{name}': (foot[0], sign * spread, foot[1] + up),
            f'toe_{name}': (foot[0] + 0.12, sign * spread, foot[1] + up - 0.03),
            f'shoulder_{name}': (neck[0] - 0.02, sign * 0.16, neck[1] - 0.07),
            f'elbow_{name}': (neck[0] + 0.14, sign * 0.26, neck[1] - 0.28),
            f'hand_{name}': (hand[0], sign * 0.24, hand[1]),
        }
    helmet = any_color(rng, 0.8, 0.2) if on_motorcycle or rng.random() < 0.6 else None
    return _figure(pose, joints | {'size': 1.75}, rng, helmet)
