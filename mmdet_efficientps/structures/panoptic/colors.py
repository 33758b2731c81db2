# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Colors of classes that have none."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

Color = tuple[int, int, int]


def choose_colors(
    names: Sequence[str], isthing: Sequence[bool], given: Sequence[Color | None]
) -> list[Color]:
    """Give a color to every class that has none.

    Args:
        names (Sequence[str]): Names of the classes, N.
        isthing (Sequence[bool]): Whether each is a thing, N.
        given (Sequence[Color | None]): RGB in 0..255 where a class has a color, N.

    Returns:
        list[Color]: RGB of all classes, N; those given stay as they are.
    """
    # Steps of the golden ratio keep neighbouring hues apart.
    hues = (colorsys.hsv_to_rgb(k * 0.618 % 1, 0.7, 0.9) for k in range(len(names)))
    return [
        color or (round(255 * r), round(255 * g), round(255 * b))
        for color, (r, g, b) in zip(given, hues, strict=True)
    ]
