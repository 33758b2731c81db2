# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Small pictures for pages of many images."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

WIDTHS = (1024, 896, 768, 640, 512, 448, 384, 320, 256)


def shrink(picture: np.ndarray, width: int) -> np.ndarray:
    """Make an image or a map narrower, with its proportions.

    Args:
        picture (np.ndarray): Image (H, W, 3), uint8, which is averaged, or map
            (H, W) of integers, of which pixels are picked.
        width (int): Width of the result at most; nothing is enlarged.

    Returns:
        np.ndarray: The small picture, of the same type.
    """
    old_height, old_width = picture.shape[:2]
    if old_width <= width:
        return picture
    height = max(round(old_height * width / old_width), 1)
    if picture.ndim == 3:
        return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    # The pixels at the centres; OpenCV knows no maps of int64.
    rows = (2 * np.arange(height) + 1) * old_height // (2 * height)
    columns = (2 * np.arange(width) + 1) * old_width // (2 * width)
    return picture[rows[:, None], columns]


def to_webp(picture: np.ndarray, quality: int = 70) -> bytes:
    """Encode a picture as WebP.

    Args:
        picture (np.ndarray): Photograph (H, W, 3), uint8, RGB, or overlay of few
            colors (H, W, 4), uint8, RGBA, which is kept without loss.
        quality (int): Quality of a photograph, 0..100. Defaults to 70.

    Returns:
        bytes: The file.
    """
    is_overlay = picture.shape[2] == 4
    stream = io.BytesIO()
    Image.fromarray(picture).save(
        stream,
        format='WEBP',
        lossless=is_overlay,
        # Of a lossless picture it is the effort: more of it gains nothing here.
        quality=50 if is_overlay else quality,
        method=4,
    )
    return stream.getvalue()


def fit_width(
    count_bytes: Callable[[int], float], num_images: int, budget: float
) -> int:
    """Choose the width of the pictures such that a page does not get too large.

    Args:
        count_bytes (Callable[[int], float]): Mean size in bytes of all pictures of
            one image of a given width; called with ever smaller widths.
        num_images (int): Number of images on the page.
        budget (float): Bytes for all pictures.

    Returns:
        int: The largest of :data:`WIDTHS` that fits, or the smallest if none does.
    """
    for width in WIDTHS:
        # Base64 writes three bytes as four characters.
        if num_images * count_bytes(width) * 4 / 3 <= budget:
            return width
    return WIDTHS[-1]
