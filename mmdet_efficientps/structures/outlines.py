# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Outlines of masks as polygons, in the way that COCO has them."""

import cv2
import numpy as np
from contourpy import FillType, contour_generator


def mask_outlines(mask: np.ndarray, tolerance: float = 0.0) -> list[list[float]]:
    """Give polygons that cover a mask.

    COCO's polygons have no holes: the outline of a hole is joined to that around it by
    a line that is gone there and back. pycocotools draws nothing for such a line.

    Example::

        >>> mask_outlines(np.array([[False, True, True]]))
        [[1.0, 0.0, 3.0, 0.0, 3.0, 1.0, 1.0, 1.0]]

    Args:
        mask (np.ndarray): Shape (H, W), bool.
        tolerance (float): How far the outline may be from the edges of the pixels, in
            pixels. Defaults to 0: exactly the mask, with a corner for every step.

    Returns:
        list[list[float]]: x and y of each corner in turn, in pixels; pixel i covers
        [i, i + 1]. Empty if the mask is.
    """
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    crop = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # Between the centres of pixels on both sides lies the edge.
    generator = contour_generator(
        z=np.pad(crop, 1).astype(float), fill_type=FillType.OuterOffset
    )
    polygons = []
    for points, offsets in zip(*generator.filled(0.5, np.inf), strict=True):
        points = points + (left - 0.5, top - 0.5)
        rings = [
            points[start : stop - 1]
            for start, stop in zip(offsets[:-1], offsets[1:], strict=True)
        ]
        outer, *holes = (_simplified(ring, tolerance) for ring in rings)
        if len(outer) < 3:
            outer = _corners(rings[0])
        polygons.append(_joined(outer, [hole for hole in holes if len(hole) > 2]))
    return [polygon.ravel().tolist() for polygon in polygons]


def _simplified(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Leave points out; of a ring through the middles of the pixels' edges."""
    if not tolerance:
        return _corners(ring)
    points = cv2.approxPolyDP(ring.astype(np.float32)[:, None], tolerance, True)
    return points[:, 0].astype(float)


def _corners(ring: np.ndarray) -> np.ndarray:
    """Give the corners that a ring through the middles of edges cuts off.

    An upright edge has its middle at a whole x, a level one at a whole y. Where one
    follows the other there is a corner, at both of these.
    """
    is_upright = ring[:, 0] == np.floor(ring[:, 0])
    following = np.roll(ring, -1, axis=0)
    turns = is_upright != np.roll(is_upright, -1)
    corners = np.where(
        is_upright[:, None],
        np.stack([ring[:, 0], following[:, 1]], axis=1),
        np.stack([following[:, 0], ring[:, 1]], axis=1),
    )
    return corners[turns]


def _joined(outer: np.ndarray, holes: list[np.ndarray]) -> np.ndarray:
    """Join holes to the ring around them, each by a short line there and back."""
    for hole in holes:
        distances = np.abs(outer - hole[0]).sum(axis=1)
        place = int(distances.argmin()) + 1
        way = [outer[:place], hole, hole[:1], outer[place - 1 :]]
        outer = np.concatenate(way)
    return outer
