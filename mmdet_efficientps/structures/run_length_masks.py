# Licensed under the Apache License, Version 2.0. See LICENSE.
"""COCO's run-length masks, made without bitmaps of the whole image.

A run-length mask counts pixels column after column, off and on in turn. A street scene
of two million pixels has some hundred runs per mask, so this is what masks are kept,
compared and sent as. They are pycocotools' compressed dicts of ``size`` (height,
width) and ``counts`` (bytes).
"""

from collections.abc import Sequence

import numpy as np
import torch
from mmdet.structures.mask import encode_mask_results
from pycocotools import mask as mask_api


def runs_to_rle(
    starts: np.ndarray, lengths: np.ndarray, shape: tuple[int, int]
) -> dict:
    """Make the run-length mask of some runs.

    Args:
        starts (np.ndarray): First pixel of each run, (R, ), int, counted column after
            column; ascending, no run touches or overlaps the one before.
        lengths (np.ndarray): Pixels of each run, (R, ), int, positive.
        shape (tuple[int, int]): Height and width of the image.

    Returns:
        dict: Compressed run-length mask.

    Examples:
        Pixels 1 and 2 of an image of 2 x 3 are the lower one of the first column and
        the upper one of the second.

        >>> mask = runs_to_rle(np.array([1]), np.array([2]), (2, 3))
        >>> mask_api.decode(mask)
        array([[0, 1, 0],
               [1, 0, 0]], dtype=uint8)
    """
    height, width = (int(size) for size in shape)
    stops = starts + lengths
    edges = np.empty(2 * len(starts), dtype=np.int64)
    edges[::2], edges[1::2] = starts, stops
    counts = np.diff(edges, prepend=0, append=height * width)
    # pycocotools writes no run of nothing at the end.
    counts = counts[: len(counts) - (counts[-1] == 0)]
    return mask_api.frPyObjects(
        {'size': [height, width], 'counts': counts.tolist()}, height, width
    )


def crop_to_rle(crop: np.ndarray, top: int, left: int, shape: tuple[int, int]) -> dict:
    """Make a run-length mask of which only a part of the image is given.

    Args:
        crop (np.ndarray): Mask inside a rectangle, (h, w), bool. It is off outside.
        top (int): Row of the image the rectangle begins at.
        left (int): Column of the image the rectangle begins at.
        shape (tuple[int, int]): Height and width of the image, which the rectangle
            does not exceed.

    Returns:
        dict: Compressed run-length mask of the size of the image.

    Examples:
        >>> mask = crop_to_rle(np.array([[True, True]]), 1, 0, (2, 3))
        >>> mask_api.decode(mask)
        array([[0, 0, 0],
               [1, 1, 0]], dtype=uint8)
    """
    height, width = crop.shape
    columns = np.zeros((width, height + 2), dtype=np.int8)
    columns[:, 1:-1] = crop.T
    steps = np.diff(columns, axis=1)
    column, row = np.nonzero(steps == 1)
    lengths = np.nonzero(steps == -1)[1] - row
    starts = (left + column) * shape[0] + top + row
    # Runs over full columns go on in the next one.
    begins = np.append(True, starts[1:] > (starts + lengths)[:-1])[: len(starts)]
    lengths = (
        np.add.reduceat(lengths, np.flatnonzero(begins)) if len(starts) else lengths
    )
    return runs_to_rle(starts[begins], lengths, shape)


def segments_to_rle(index: np.ndarray, numbers: Sequence[int]) -> list[dict]:
    """Make run-length masks of segments of a map.

    Args:
        index (np.ndarray): Number of the segment of each pixel, (H, W), int.
        numbers (Sequence[int]): Numbers of the segments wanted.

    Returns:
        list[dict]: Compressed run-length mask of each, empty for a number that does
        not occur.

    Examples:
        >>> masks = segments_to_rle(np.array([[7, 7, 5]]), [7, 5, 9])
        >>> mask_api.area(masks).tolist()
        [2, 1, 0]
    """
    pixels = np.ascontiguousarray(index.T).ravel()
    starts = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)
    lengths = np.diff(starts, append=pixels.size)
    values = pixels[starts]
    order = np.argsort(values, kind='stable')
    values = values[order]
    low = np.searchsorted(values, numbers, 'left')
    high = np.searchsorted(values, numbers, 'right')
    return [
        runs_to_rle(starts[runs], lengths[runs], index.shape)
        for runs in (order[a:b] for a, b in zip(low, high, strict=True))
    ]


def masks_to_rle(masks: torch.Tensor | Sequence[dict]) -> list[dict]:
    """Give the masks of predicted instances as run-length masks.

    Args:
        masks (torch.Tensor | Sequence[dict]): Masks (N, H, W), bool, on any device,
            or run-length masks, which stay as they are.

    Returns:
        list[dict]: Compressed run-length masks.

    Examples:
        >>> masks_to_rle(torch.tensor([[[False, True]]]))[0]['size']
        [1, 2]
    """
    if isinstance(masks, torch.Tensor):
        return encode_mask_results(masks.cpu().numpy())
    return list(masks)


def rle_intersections(rles: Sequence[dict], other_rles: Sequence[dict]) -> np.ndarray:
    """Count the pixels that masks share with other masks.

    Args:
        rles (Sequence[dict]): N run-length masks.
        other_rles (Sequence[dict]): M run-length masks of the same size.

    Returns:
        np.ndarray: Pixels, (N, M), int64.

    Examples:
        >>> masks = segments_to_rle(np.array([[1, 1, 1]]), [1])
        >>> rle_intersections(masks, segments_to_rle(np.array([[1, 2, 2]]), [1, 2]))
        array([[1, 2]])
    """
    if not rles or not other_rles:
        return np.zeros((len(rles), len(other_rles)), dtype=np.int64)
    # For a crowd pycocotools gives the intersection as a part of the first area.
    share = mask_api.iou(list(rles), list(other_rles), [1] * len(other_rles))
    return np.rint(share * mask_api.area(list(rles))[:, None]).astype(np.int64)
