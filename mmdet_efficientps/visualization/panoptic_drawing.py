# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pictures of panoptic segmentations, as functions on arrays."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from mmdet.evaluation.functional import INSTANCE_OFFSET

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_WHITE, _GREY, _BLACK = (255, 255, 255), (200, 200, 200), (0, 0, 0)


def draw_panoptic(
    image: np.ndarray,
    panoptic: np.ndarray,
    palette: Sequence[Sequence[int]],
    alpha: float = 0.55,
) -> np.ndarray:
    """Lay the classes over an image and outline the instances.

    Every instance has its own shade of the color of its class; void keeps the
    image, darkened.

    Args:
        image (np.ndarray): Shape (H, W, 3), uint8, RGB.
        panoptic (np.ndarray): Shape (H, W), int: class + instance *
            INSTANCE_OFFSET; a class beyond the palette is void.
        palette (Sequence[Sequence[int]]): RGB color of every class.
        alpha (float): Opacity of the colors in [0, 1]. Defaults to 0.55.

    Returns:
        np.ndarray: Shape (H, W, 3), uint8, RGB.

    Raises:
        ValueError: If image and map differ in size.
    """
    if image.shape[:2] != panoptic.shape:
        raise ValueError(
            f'the image is {image.shape[:2]} (height, width), the panoptic map '
            f'{panoptic.shape}: they must be of one size'
        )
    colors, outline = _color_segments(panoptic, palette)
    overlay = ((1 - alpha) * image + alpha * colors).round().astype(np.uint8)
    overlay[outline] = _WHITE
    return overlay


def panoptic_overlay(
    panoptic: np.ndarray, palette: Sequence[Sequence[int]], alpha: float = 0.55
) -> np.ndarray:
    """Make a translucent picture which, laid over an image, is as good as drawn on it.

    Args:
        panoptic (np.ndarray): See :func:`draw_panoptic`.
        palette (Sequence[Sequence[int]]): RGB color of every class.
        alpha (float): Opacity of the colors in [0, 1]; outlines are opaque.
            Defaults to 0.55.

    Returns:
        np.ndarray: Shape (H, W, 4), uint8, RGBA.
    """
    colors, outline = _color_segments(panoptic, palette)
    overlay = np.full((*panoptic.shape, 4), round(255 * alpha), dtype=np.uint8)
    overlay[..., :3] = colors.round()
    overlay[outline] = 255
    return overlay


def segment_colors(codes: np.ndarray, palette: Sequence[Sequence[int]]) -> np.ndarray:
    """Give every segment its color: instances have shades of that of their class.

    Example::

        >>> segment_colors(np.array([0, 1000, 1]), [(100, 0, 0)]).round().tolist()
        [[100.0, 0.0, 0.0], [112.0, 6.0, 6.0], [0.0, 0.0, 0.0]]

    Args:
        codes (np.ndarray): Class + instance * INSTANCE_OFFSET, shape (N, ), int; a
            class beyond the palette is void.
        palette (Sequence[Sequence[int]]): RGB color of every class.

    Returns:
        np.ndarray: RGB, shape (N, 3), float32 in 0..255, black for void.
    """
    classes, instances = codes % INSTANCE_OFFSET, codes // INSTANCE_OFFSET
    void = classes >= len(palette)
    colors = np.asarray([*palette, _BLACK], dtype=np.float32)[
        np.where(void, len(palette), classes)
    ]
    # Shades around the class color; the golden ratio spreads neighbours apart.
    shade = 0.75 + 0.5 * (instances * 0.618034 % 1.0)
    colors = np.where(
        instances[:, None] > 0,
        colors * shade[:, None] + 20 * (shade[:, None] - 0.75),
        colors,
    ).clip(0, 255)
    return colors.astype(np.float32)


def _color_segments(
    panoptic: np.ndarray, palette: Sequence[Sequence[int]]
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the color of every pixel and find the outlines of the instances.

    Args:
        panoptic (np.ndarray): See :func:`draw_panoptic`.
        palette (Sequence[Sequence[int]]): RGB color of every class.

    Returns:
        tuple[np.ndarray, np.ndarray]: RGB colors, shape (H, W, 3), float32 in
        0..255, black for void, and where an outline is, shape (H, W), bool.
    """
    values, index = np.unique(panoptic, return_inverse=True)
    index = index.reshape(panoptic.shape)
    colors = segment_colors(values, palette)

    # An outline is a pixel of an instance that touches another segment.
    core = index.astype(np.float32)
    edge = cv2.dilate(core, np.ones((3, 3))) != cv2.erode(core, np.ones((3, 3)))
    is_instance = values >= INSTANCE_OFFSET
    return colors[index], edge & is_instance[index]


def draw_legend(
    width: int,
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    row_height: int = 22,
) -> np.ndarray:
    """Draw a legend: a colored box and the name of every class, in rows.

    Args:
        width (int): Width of the result in pixels.
        classes (Sequence[str]): Names.
        palette (Sequence[Sequence[int]]): RGB colors.
        row_height (int): Height of a row in pixels. Defaults to 22.

    Returns:
        np.ndarray: Shape (rows * row_height, width, 3), uint8, RGB.
    """
    scale = row_height / 48
    box = row_height - 8
    places, x, y = [], 6, 0
    for name in classes:
        text_width = cv2.getTextSize(name, _FONT, scale, 1)[0][0]
        entry_width = box + 6 + text_width + 14
        if x > 6 and x + entry_width > width:
            x, y = 6, y + row_height
        places.append((x, y))
        x += entry_width
    legend = np.full((y + row_height, width, 3), 255, dtype=np.uint8)
    for name, color, (x, y) in zip(classes, palette, places, strict=True):
        corner = (x, y + 4)
        cv2.rectangle(
            legend, corner, (x + box, y + 4 + box), tuple(map(int, color)), cv2.FILLED
        )
        cv2.rectangle(legend, corner, (x + box, y + 4 + box), _BLACK)
        baseline = y + row_height - 7
        cv2.putText(
            legend, name, (x + box + 6, baseline), _FONT, scale, _BLACK, 1, cv2.LINE_AA
        )
    return legend


def draw_comparison(
    image: np.ndarray,
    panels: dict[str, np.ndarray],
    classes: Sequence[str],
    palette: Sequence[Sequence[int]],
    alpha: float = 0.55,
) -> np.ndarray:
    """Draw an image and its segmentations side by side over a legend.

    Args:
        image (np.ndarray): Shape (H, W, 3), uint8, RGB.
        panels (dict[str, np.ndarray]): Title and panoptic map (H, W) of each panel,
            such as 'ground truth' and 'prediction'.
        classes (Sequence[str]): Names of the classes; those that occur are in the
            legend.
        palette (Sequence[Sequence[int]]): RGB color of every class.
        alpha (float): Opacity of the colors in [0, 1]. Defaults to 0.55.

    Returns:
        np.ndarray: RGB picture, uint8, W * (1 + number of panels) wide.
    """
    height, width = image.shape[:2]
    bar = max(height // 14, 18)
    titled = {'image': image}
    for title, panoptic in panels.items():
        titled[title] = draw_panoptic(image, panoptic, palette, alpha)
    columns = []
    for title, picture in titled.items():
        header = np.full((bar, width, 3), 32, dtype=np.uint8)
        cv2.putText(header, title, (8, bar - 6), _FONT, bar / 36, _GREY, 1, cv2.LINE_AA)
        columns.append(np.concatenate([header, picture]))
    picture = np.concatenate(columns, axis=1)
    present = sorted(
        {int(v) % INSTANCE_OFFSET for p in panels.values() for v in np.unique(p)}
        & set(range(len(classes)))
    )
    legend = draw_legend(
        picture.shape[1],
        [classes[i] for i in present],
        [palette[i] for i in present],
        row_height=max(height // 12, 22),
    )
    return np.concatenate([picture, legend])
