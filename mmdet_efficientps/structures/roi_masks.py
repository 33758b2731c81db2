# Licensed under the Apache License, Version 2.0. See LICENSE.
"""From masks of RoI size to masks of the image.

The mask head predicts a small map for each box. Here it is laid into the image one
detection at a time and no further than it reaches, so that beside the result memory
goes to one box. Values are those of mmdet's ``FCNMaskHead``, which pastes on a GPU
into the whole image and on a CPU into the box and one pixel around it.

Boxes are (N, 4) as x1, y1, x2, y2 in pixels of the image; coordinates are continuous,
pixel i covers [i, i + 1].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .bilinear_sampling import box_axis, box_reach, sample
from .run_length_masks import crop_to_rle

# Stands for infinity in logits: sums and differences of these are numbers.
LARGEST_LOGIT = 1e30


def finite_logits(logits: Tensor) -> Tensor:
    """Replace what one cannot calculate with.

    Args:
        logits (Tensor): Logits of any shape, floating point.

    Returns:
        Tensor: Same shape, float32, in [-1e30, 1e30]; NaN, which is no vote for
        anything, becomes the lowest.

    Examples:
        >>> finite_logits(torch.tensor([2., float('inf'), float('nan')])).tolist()
        [2.0, 1.0000000150474662e+30, -1.0000000150474662e+30]
    """
    clamped = logits.float().clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
    return clamped.nan_to_num(nan=-LARGEST_LOGIT)


def has_area(bboxes: Tensor) -> Tensor:
    """Which boxes are finite and have a width and a height, (N, ), bool.

    Examples:
        >>> has_area(torch.tensor([[0., 0., 4., 4.], [4., 0., 4., 4.]])).tolist()
        [True, False]
    """
    return bboxes.isfinite().all(1) & (bboxes[:, 2:] > bboxes[:, :2]).all(1)


def is_usable(bboxes: Tensor, scores: Tensor, mask_logits: Tensor) -> Tensor:
    """Which detections can take part in a fusion.

    Args:
        bboxes (Tensor): Boxes, (N, 4).
        scores (Tensor): (N, ).
        mask_logits (Tensor): Masks, (N, h, w).

    Returns:
        Tensor: (N, ), bool: the box has an area, the score is finite, and no mask
        logit is NaN.
    """
    numbers = ~mask_logits.flatten(1).isnan().any(1)
    return has_area(bboxes) & scores.isfinite() & numbers


def paste(
    mask: Tensor, box: Sequence[float], shape: tuple[int, int]
) -> tuple[Tensor, tuple[slice, slice]]:
    """Lay a mask into an image, bilinearly and with zeros around it.

    Args:
        mask (Tensor): Logits or probabilities, (h, w), floating point.
        box (Sequence[float]): x1, y1, x2, y2, with an area.
        shape (tuple[int, int]): Height and width of the image.

    Returns:
        tuple[Tensor, tuple[slice, slice]]: What the mask comes to, float32, and the
        rows and columns of the image it comes to; it is zero elsewhere. Both are
        empty if the mask does not reach the image.

    Examples:
        A mask of one cell in the middle 2 x 2 of 4 x 4 pixels:

        >>> paste(torch.tensor([[16.]]), (1, 1, 3, 3), (4, 4))[0]
        tensor([[1., 3., 3., 1.],
                [3., 9., 9., 3.],
                [3., 9., 9., 3.],
                [1., 3., 3., 1.]])
    """
    x1, y1, x2, y2 = box
    height, width = mask.shape
    rows = box_reach(y1, y2, height, shape[0])
    columns = box_reach(x1, x2, width, shape[1])
    pasted = sample(
        F.pad(mask.float(), (1, 1, 1, 1)),
        box_axis(rows, y1, y2, height, mask.device),
        box_axis(columns, x1, x2, width, mask.device),
    )
    return pasted, (rows, columns)


def _pasted_masks(
    bboxes: Tensor, mask_logits: Tensor, shape: tuple[int, int], threshold: float
) -> Iterator[tuple[Tensor, tuple[slice, slice]]]:
    """Paste each mask and make it boolean; one whose box has no area is empty."""
    if not 0 < threshold <= 1:
        raise ValueError(
            f'test_cfg.rcnn.mask_thr_binary is {threshold}, must be a probability '
            'above 0 and up to 1'
        )
    nothing = (slice(0, 0), slice(0, 0))
    for box, good, logits in zip(
        bboxes.tolist(), has_area(bboxes).tolist(), mask_logits, strict=True
    ):
        if good:
            pasted, region = paste(logits.float().sigmoid(), box, shape)
            yield pasted >= threshold, region
        else:
            yield logits.new_zeros((0, 0), dtype=torch.bool), nothing


@torch.no_grad()
def boolean_masks(
    bboxes: Tensor,
    mask_logits: Tensor,
    shape: tuple[int, int],
    threshold: float = 0.5,
) -> Tensor:
    """Make image-sized masks of the detections of an image.

    Args:
        bboxes (Tensor): Boxes, (N, 4).
        mask_logits (Tensor): Masks of RoI size, (N, h, w).
        shape (tuple[int, int]): Height H and width W of the image.
        threshold (float): Probability from which a pixel is on, in (0, 1].
            Defaults to 0.5.

    Returns:
        Tensor: (N, H, W), bool, on the device of ``bboxes``. Where a mask logit is NaN
        the mask is off; the mask of a box without area is empty.

    Raises:
        ValueError: If ``threshold`` is not in (0, 1].

    Examples:
        >>> box, logits = torch.tensor([[1., 0., 3., 1.]]), torch.full((1, 8, 8), 9.)
        >>> boolean_masks(box, logits, (2, 4)).int()
        tensor([[[0, 1, 1, 0],
                 [0, 0, 0, 0]]], dtype=torch.int32)
    """
    masks = bboxes.new_zeros((len(bboxes), *shape), dtype=torch.bool)
    pasted = _pasted_masks(bboxes, mask_logits, shape, threshold)
    for mask, (crop, region) in zip(masks, pasted, strict=True):
        mask[region] = crop
    return masks


@torch.no_grad()
def run_length_masks(
    bboxes: Tensor,
    mask_logits: Tensor,
    shape: tuple[int, int],
    threshold: float = 0.5,
) -> list[dict[str, Any]]:
    """Make run-length masks of the detections of an image.

    They are those of :func:`boolean_masks`, made on the CPU: a hundred masks of an
    image of two million pixels are 200 MB, as run-length masks some 30 kB.

    Args:
        bboxes (Tensor): As for :func:`boolean_masks`.
        mask_logits (Tensor): As for :func:`boolean_masks`.
        shape (tuple[int, int]): Height and width of the image.
        threshold (float): As for :func:`boolean_masks`. Defaults to 0.5.

    Returns:
        list[dict]: N compressed run-length masks of the size of the image.

    Raises:
        ValueError: If ``threshold`` is not in (0, 1].

    Examples:
        >>> box, logits = torch.tensor([[1., 0., 3., 1.]]), torch.full((1, 8, 8), 9.)
        >>> (mask,) = run_length_masks(box, logits, (2, 4))
        >>> mask['size']
        [2, 4]
    """
    pasted = _pasted_masks(bboxes.cpu(), mask_logits.cpu(), shape, threshold)
    return [
        crop_to_rle(crop.numpy(), rows.start, columns.start, shape)
        for crop, (rows, columns) in pasted
    ]
