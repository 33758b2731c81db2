# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Boundary regions of segments.

Source: Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation" (CVPR 2021). The boundary region of a segment consists of its pixels that
lie within a distance d of its contour. As in the authors' evaluators the distance is
counted in king's moves (diagonal steps count one) and the image border cuts segments
like a contour.
"""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from mmdet_efficientps.structures.panoptic import index_segments

from .segment_overlaps import segment_overlaps


def boundary_distance(shape: Sequence[int], dilation_ratio: float = 0.02) -> int:
    """Give the width of boundary regions in an image.

    Args:
        shape (Sequence[int]): Height and width of the image in pixels.
        dilation_ratio (float): Width as a part of the image diagonal.
            Defaults to 0.02, that of the authors' evaluator for COCO; theirs for
            Cityscapes has 0.005.

    Returns:
        int: Width in pixels, rounded, at least 1.

    Example:
        >>> boundary_distance((300, 400))  # 2 percent of a diagonal of 500
        10
        >>> boundary_distance((3, 4))
        1
    """
    return max(1, round(dilation_ratio * math.hypot(*shape)))


def segment_boundaries(index: np.ndarray, distance: int) -> np.ndarray:
    """Find the boundary regions of all segments of a map at once.

    A pixel is inside, not at the boundary, if the square of ``2 * distance + 1``
    pixels around it lies in the image and in its own segment, that is if the minimum
    and the maximum over the square are the same.

    Args:
        index (np.ndarray): Index map, shape (H, W), integers, 0 = void.
        distance (int): Width of the boundary regions in pixels.

    Returns:
        np.ndarray: Shape (H, W), bool; where not void, whether the pixel is in the
        boundary region of its segment.

    Example:
        >>> whole = np.ones((3, 5), dtype=int)
        >>> segment_boundaries(whole, 1).astype(int)
        array([[1, 1, 1, 1, 1],
               [1, 0, 0, 0, 1],
               [1, 1, 1, 1, 1]])
    """
    # The smallest type that OpenCV erodes and that holds every index exactly.
    last = index.max(initial=0)
    dtype = np.uint8 if last < 2**8 else np.uint16 if last < 2**16 else np.float32
    index = np.ascontiguousarray(index, dtype=dtype)
    square = np.ones((2 * distance + 1, 2 * distance + 1), dtype=np.uint8)
    # Beyond the image border the minimum sees void, and the maximum nothing.
    lowest = cv2.erode(index, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return lowest != cv2.dilate(index, square)


def boundary_overlaps(
    gt_ids: np.ndarray,
    gt_segment_ids: Sequence[int],
    pred_ids: np.ndarray,
    pred_segment_ids: Sequence[int],
    dilation_ratio: float = 0.02,
) -> np.ndarray:
    """Count the pixels that the boundary regions of two segments share.

    Args:
        gt_ids (np.ndarray): True segment ids, shape (H, W), integers, 0 = void.
        gt_segment_ids (Sequence[int]): Ids of the G true segments.
        pred_ids (np.ndarray): Predicted segment ids, shape (H, W), 0 = void.
        pred_segment_ids (Sequence[int]): Ids of the P predicted segments.
        dilation_ratio (float): See :func:`boundary_distance`. Defaults to 0.02.

    Returns:
        np.ndarray: Pixels, shape (G + 2, P + 2), int64; as
        :func:`~.segment_overlaps` with one more row and column, the last, for the
        pixels inside segments. Row and column 0 hold all of void.

    Raises:
        ValueError: As :func:`~.segment_overlaps`.

    Example:
        A segment of 3 x 5 pixels has 12 at its boundary and 3 inside.

        >>> whole = np.ones((3, 5), dtype=int)
        >>> boundary_overlaps(whole, [1], whole, [1])
        array([[ 0,  0,  0],
               [ 0, 12,  0],
               [ 0,  0,  3]])
    """
    distance = boundary_distance(gt_ids.shape, dilation_ratio)

    def without_inside(
        ids: np.ndarray, segment_ids: Sequence[int]
    ) -> tuple[np.ndarray, Sequence[int]]:
        index = index_segments(ids, segment_ids)
        index[(index > 0) & ~segment_boundaries(index, distance)] = len(segment_ids) + 1
        return index, range(1, len(segment_ids) + 2)

    return segment_overlaps(
        *without_inside(gt_ids, gt_segment_ids),
        *without_inside(pred_ids, pred_segment_ids),
    )
