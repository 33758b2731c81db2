# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Classes of panoptic data sets."""

import colorsys


def distinct_color(number: int) -> tuple[int, int, int]:
    """Give a colour to a class that has none.

    Args:
        number (int): Number of the class.

    Returns:
        tuple[int, int, int]: RGB, 0..255; classes of near numbers differ in hue.
    """
    # Steps of the golden ratio keep neighbouring hues apart.
    rgb = colorsys.hsv_to_rgb(number * 0.618 % 1, 0.7, 0.9)
    return tuple(round(255 * channel) for channel in rgb)
