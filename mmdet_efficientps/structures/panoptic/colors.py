# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Colors of classes that have none.

A name that Cityscapes, Mapillary Vistas or COCO know takes the color it has there.
Every other class takes the color that is farthest from those taken, for eyes with
normal vision and for color-blind ones (8 % of men do not tell red and green apart
well); things are lighter than stuff.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

Color = tuple[int, int, int]

# Void and the outlines of instances are drawn in these.
BLACK, WHITE = (0, 0, 0), (255, 255, 255)
# Lightness L* of CIELAB, 0..100, of colors chosen here. The shades of the instances of
# a class need the room on both sides.
THING_LIGHTNESS, STUFF_LIGHTNESS = (60, 90), (25, 55)
# A known color is not taken if that of another class differs by less, be it of the same
# data set, which may have near ones by intent, or of another.
NEAR_IN_DATA_SET, NEAR = 5, 12
# Weight of what eyes with normal vision see beside what color-blind ones see, which is
# less by nature and would decide alone otherwise: they tell blues apart well, and every
# color would be a blue.
NORMAL_SHARE = 0.5

# Light that eyes with normal vision, protanopia and deuteranopia perceive of linear
# RGB: Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation
# of Color Vision Deficiency", IEEE TVCG 15, 2009, severity 1.0.
VISIONS = np.array(
    [
        [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ],
    ]
)


def choose_colors(
    names: Sequence[str],
    isthing: Sequence[bool],
    given: Sequence[Color | None] | None = None,
) -> list[Color]:
    """Give a color to every class that has none; to the same classes, the same ones.

    Example::

        >>> choose_colors(['Roads', 'robot'], [False, True], [None, (1, 2, 3)])
        [(128, 64, 128), (1, 2, 3)]

    Args:
        names (Sequence[str]): Names of the classes, N.
        isthing (Sequence[bool]): Whether each is a thing, N.
        given (Sequence[Color | None] | None): RGB in 0..255 where a class has a color,
            N. Defaults to None: no class has one.

    Returns:
        list[Color]: RGB of all classes, N; those given stay as they are. Of the others
        none is black or white, and no two are the same up to a thousand classes.

    Raises:
        ValueError: If the arguments differ in length.
    """
    colors: list[Color | None] = [None] * len(names)
    if given is not None:
        colors = list(given)
    if not len(names) == len(isthing) == len(colors):
        raise ValueError(
            f'{len(names)} names, {len(isthing)} kinds (thing or stuff) and '
            f'{len(colors)} colors of classes: give as many of each'
        )
    # Only who needs them pays for the tables: data sets have colors as a rule.
    for table in _known_colors() if None in colors else ():
        others = [BLACK, WHITE, *(color for color in colors if color is not None)]
        own: list[Color] = []
        for label, name in enumerate(names):
            known = table.get(_key(name)) if colors[label] is None else None
            if known is not None:
                taken = _perceived([*others, *own])[:, 0] - _perceived([known])[:, 0]
                least = [NEAR] * len(others) + [NEAR_IN_DATA_SET] * len(own)
                if (np.linalg.norm(taken, axis=-1) >= least).all():
                    colors[label] = known
                    own.append(known)
    if None not in colors:
        return [color for color in colors if color is not None]
    candidates, lightness, seen = _candidates()
    nearest = np.full(len(candidates), np.inf)
    for color in (BLACK, WHITE, *colors):
        if color is not None:
            nearest = np.minimum(nearest, _distances(seen, color))
    for label, thing in enumerate(isthing):
        if colors[label] is None:
            low, high = THING_LIGHTNESS if thing else STUFF_LIGHTNESS
            allowed = (low <= lightness) & (lightness <= high)
            red, green, blue = candidates[np.where(allowed, nearest, -1).argmax()]
            colors[label] = color = (int(red), int(green), int(blue))
            nearest = np.minimum(nearest, _distances(seen, color))
    return [color for color in colors if color is not None]


def voc_color(number: int) -> Color:
    """Give the color that Pascal VOC has for a number, of a class or an object.

    The bits of the number go to red, green and blue in turn, each from the highest bit
    down.

    Example::

        >>> [voc_color(number) for number in (0, 1, 2, 9)]
        [(0, 0, 0), (128, 0, 0), (0, 128, 0), (192, 0, 0)]

    Args:
        number (int): 0..2**24 - 1.

    Returns:
        Color: RGB, 0..255; another one for every number.
    """
    color = [0, 0, 0]
    for place in range(24):
        color[place % 3] |= (number >> place & 1) << 7 - place // 3
    return color[0], color[1], color[2]


def _perceived(colors: Sequence[Color] | np.ndarray) -> np.ndarray:
    """Give what eyes of three kinds see, such that a distance is how much it differs.

    The coordinates are those of DIN 99, which evens out CIELAB: there, distances of
    saturated colors, of blue ones above all, are far larger than what is seen.

    Example::

        >>> black, white = _perceived([(0, 0, 0), (255, 255, 255)])[:, 0, 0].round()
        >>> float(black), float(white)
        (0.0, 100.0)

    Args:
        colors (Sequence[Color] | np.ndarray): RGB, 0..255, shape (N, 3).

    Returns:
        np.ndarray: Lightness and two coordinates of hue and chroma for normal vision,
        protanopia and deuteranopia, shape (N, 3, 3): color, vision, coordinate.
    """
    srgb = np.asarray(colors, dtype=np.float64).reshape(-1, 3) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    light = np.einsum('vij,nj->nvi', VISIONS, linear).clip(0, 1).astype(np.float32)
    lightness, a, b = np.moveaxis(cv2.cvtColor(light, cv2.COLOR_LRGB2Lab), -1, 0)
    sine, cosine = math.sin(math.radians(16)), math.cos(math.radians(16))
    red, yellow = a * cosine + b * sine, 0.7 * (b * cosine - a * sine)
    chroma = 0.045 * np.hypot(red, yellow).clip(1e-6)
    evened = np.log1p(chroma) / chroma
    return np.stack(
        [105.51 * np.log1p(0.0158 * lightness), red * evened, yellow * evened], axis=-1
    )


def _distances(seen: np.ndarray, color: Color) -> np.ndarray:
    """How much colors, of :func:`_perceived`, differ from one, for the worst eyes."""
    by_vision = np.linalg.norm(seen - _perceived([color]), axis=-1)
    by_vision[:, 0] *= NORMAL_SHARE
    return by_vision.min(axis=1)


@lru_cache
def _candidates() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colors to choose from, (N, 3), their lightness L*, and how they are perceived."""
    steps = np.arange(0, 256, 15)
    colors = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(-1, 3)
    lab = cv2.cvtColor((colors[None] / 255).astype(np.float32), cv2.COLOR_RGB2Lab)
    return colors, lab[0, :, 0], _perceived(colors)


@lru_cache
def _known_colors() -> tuple[dict[str, Color], ...]:
    """Give the colors of Cityscapes, Vistas 1.2 and 2.0 and COCO by key of the name."""
    from cityscapesscripts.helpers.labels import labels
    from mmdet.datasets import CocoPanopticDataset

    # The files alone: the room of the label tables is above this one.
    folder = Path(__file__).parents[2] / 'datasets' / 'labels'
    vistas = [
        json.loads((folder / f'{name}.json').read_text(encoding='utf-8'))['classes']
        for name in ('mapillary_vistas_v1.2', 'mapillary_vistas_v2.0')
    ]
    coco = CocoPanopticDataset.METAINFO
    tables = (
        [(label.name, label.color) for label in labels],
        *([(c['name'], c['color']) for c in classes] for classes in vistas),
        list(zip(coco['classes'], coco['palette'], strict=True)),
    )
    # Of two names with one key the first counts; black is the color of void.
    return tuple(
        {_key(n): (c[0], c[1], c[2]) for n, c in reversed(table) if tuple(c) != BLACK}
        for table in tables
    )


def _key(name: str) -> str:
    """Give what the ways to write the name of a class have in common.

    Neither case, signs, blanks and plural count, nor the endings of COCO's classes.

    Example::

        >>> names = 'Traffic Lights', 'traffic_light', 'sky-other-merged', 'bodies'
        >>> [_key(name) for name in names]
        ['trafficlight', 'trafficlight', 'sky', 'body']
        >>> [_key(name) for name in ('bus', 'buses', 'horses', 'grass', 'people')]
        ['bus', 'bus', 'hors', 'grass', 'person']
    """
    words = re.findall(r'[^\W_]+', name.casefold())
    key = ''.join([word for word in words if word not in ('merged', 'other')] or words)
    for plural, singular in (
        ('people$', 'person'),
        ('(?<=..)ies$', 'y'),
        ('(?<=..[^s])s$', ''),
        ('(?<=..)e$', ''),
    ):
        key = re.sub(plural, singular, key)
    return key
