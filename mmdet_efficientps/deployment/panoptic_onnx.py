# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic segmentation with an exported EfficientPS: NumPy, OpenCV, ONNX Runtime.

This one file and ``model.onnx`` beside it are all there is to take to another machine:

    pip install numpy opencv-python-headless onnxruntime
    python panoptic_onnx.py IMAGE_OR_FOLDER --out DIR

In Python:

    from panoptic_onnx import PanopticOnnx
    model = PanopticOnnx('model.onnx')
    result = model.predict(cv2.imread('street.jpg'))

The package that trains the network has the same steps on PyTorch; of that package
nothing is imported here. Boxes are x1, y1, x2, y2 in pixels; coordinates are
continuous, pixel i covers [i, i + 1].
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import cv2
import numpy as np

# Key of the model's metadata, and the newest form of what is there.
METADATA_KEY = 'mmdet_efficientps'
FORMAT = 1
CPU = ('CPUExecutionProvider',)
INPUTS = ('image', 'image_size')
OUTPUTS = ('bboxes', 'scores', 'labels', 'mask_logits', 'seg_logits')

# A panoptic map has label + k * INSTANCE_OFFSET for the k-th instance, as in mmdet.
INSTANCE_OFFSET = 1000
IMAGE_SUFFIXES = ('.bmp', '.gif', '.jp2', '.jpeg', '.jpg', '.pgm', '.png', '.pnm',
                  '.ppm', '.tif', '.tiff', '.webp')  # fmt: skip

# Stands for infinity in logits: sums and differences of these are numbers.
_LARGEST_LOGIT = 1e30
# Marks a pixel whose four surrounding semantic cells disagree about the class.
_UNSETTLED = -1
# Pixels worked on at once, few enough to stay in the cache. Changes no result.
_STRIPE = 1 << 17
# The largest side that a JPEG can have.
_LARGEST_JPEG = 65500
_SECONDS_BETWEEN_LINES = 10.0


class ModelError(ValueError):
    """A file that is no exported EfficientPS; the message says why and what to do."""


class OutputError(OSError):
    """Results that cannot be written; the message names the file."""


@dataclass
class PanopticLogits:
    """What the network predicts for an image, before the fusion.

    Attributes:
        bboxes (np.ndarray): (M, 4), float32, in pixels of the original image.
        scores (np.ndarray): (M, ), float32.
        labels (np.ndarray): (M, ), int64, things.
        mask_logits (np.ndarray): (M, m, m), float32, of each box's own class.
        seg_logits (np.ndarray): (C, h, w), float32, things first, at a quarter of the
            size of the network's input.
        out_shape (tuple[int, int]): Height and width of the original image.
        valid_shape (tuple[float, float]): Height and width of the part of
            ``seg_logits`` that shows the image, in cells, not necessarily whole. The
            rest is padding.
    """

    bboxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    mask_logits: np.ndarray
    seg_logits: np.ndarray
    out_shape: tuple[int, int]
    valid_shape: tuple[float, float]


@dataclass(frozen=True)
class Segment:
    """A segment of an image.

    Attributes:
        id (int): Its number in :attr:`PanopticResult.ids`.
        category_id (int): Id of its class among the categories.
        isthing (bool): Whether it is an object; stuff otherwise.
        score (float | None): How sure the network is of an object, 0..1; stuff has no
            score.
        area (int): Pixels.
        bbox (tuple[int, int, int, int]): x and y of the upper left pixel, width and
            height.
    """

    id: int
    category_id: int
    isthing: bool
    score: float | None
    area: int
    bbox: tuple[int, int, int, int]


@dataclass
class PanopticResult:
    """The panoptic segmentation of an image.

    Attributes:
        panoptic (np.ndarray): (H, W), int32: ``label + k * INSTANCE_OFFSET`` for the
            k-th instance, the label for stuff, the number of classes for void.
        segments (list[Segment]): The segments that have pixels, by id.
        num_classes (int): Number of classes, the value of void.
    """

    panoptic: np.ndarray
    segments: list[Segment]
    num_classes: int

    @property
    def ids(self) -> np.ndarray:
        """Segment ids as in a panoptic PNG, (H, W), int32, 0 = void."""
        # One more than the code, because 0 is a valid code but the id of void.
        ids = self.panoptic + 1
        ids[self.panoptic == self.num_classes] = 0
        return ids


class Axis(NamedTuple):
    """Linear sampling of P pixels along one axis.

    Attributes:
        low (np.ndarray): Cell before each pixel, (P, ), intp.
        high (np.ndarray): Cell after it, (P, ), intp.
        weight (np.ndarray): Weight of ``high``, (P, ), float32 in [0, 1); ``low`` has
            the rest.
    """

    low: np.ndarray
    high: np.ndarray
    weight: np.ndarray

    def part(self, pixels: slice) -> Axis:
        """Give the sampling of some of the pixels."""
        return Axis(self.low[pixels], self.high[pixels], self.weight[pixels])


def _axis(position: np.ndarray, num_cells: int) -> Axis:
    """Sample at fractional indices of cells, where 0 is the center of the first."""
    position = position.clip(0, num_cells - 1)
    low = position.astype(np.intp)  # truncation is floor here: nothing is negative
    high = np.minimum(low + 1, num_cells - 1)
    return Axis(low, high, position - low.astype(np.float32))


def _image_axis(num_pixels: int, extent: float, num_cells: int) -> Axis:
    """Resize: sample cells, of which the image covers ``extent``, at every pixel."""
    half = np.float32(0.5)
    pixels = np.arange(num_pixels, dtype=np.float32)
    return _axis((pixels + half) * np.float32(extent / num_pixels) - half, num_cells)


def _box_axis(pixels: slice, start: float, stop: float, num_cells: int) -> Axis:
    """Paste: sample cells laid into a box, with a ring of zeros around them."""
    half = np.float32(0.5)
    position = np.arange(pixels.start, pixels.stop, dtype=np.float32) + half
    position = (position - np.float32(start)) * np.float32(num_cells / (stop - start))
    return _axis(position - half + np.float32(1), num_cells + 2)


def _clipped_span(start: int, stop: int, num_pixels: int) -> slice:
    """Clip a range of pixels to the image; it is empty if nothing is left."""
    start = min(max(start, 0), num_pixels)
    return slice(start, min(max(stop, start), num_pixels))


def _box_reach(start: float, stop: float, num_cells: int, num_pixels: int) -> slice:
    """Pixels that cells laid into a box reach: half a cell beyond it."""
    half_cell = (stop - start) / (2 * num_cells)
    return _clipped_span(
        math.floor(start - half_cell + 0.5),
        math.ceil(stop + half_cell - 0.5),
        num_pixels,
    )


def _box_span(start: float, stop: float, num_pixels: int) -> slice:
    """Pixels where semantic logits support a box."""
    return _clipped_span(math.floor(start) + 1, round(stop - 1) + 1, num_pixels)


def _lerp(low: np.ndarray, high: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Interpolate, in the memory of ``high``."""
    high -= low
    high *= weight
    high += low
    return high


def _sample_rows(grid: np.ndarray, rows: Axis) -> np.ndarray:
    """Interpolate a map (h, W) along its columns to (H, W)."""
    weight = rows.weight[:, None]
    return _lerp(grid.take(rows.low, 0), grid.take(rows.high, 0), weight)


def _sample_columns(grid: np.ndarray, columns: Axis) -> np.ndarray:
    """Interpolate a map (h, w) along its rows to (h, W)."""
    return _lerp(grid.take(columns.low, 1), grid.take(columns.high, 1), columns.weight)


def _sample(grid: np.ndarray, rows: Axis, columns: Axis) -> np.ndarray:
    """Interpolate a map (h, w) to every pair of ``rows`` and ``columns``, (H, W)."""
    # Columns first, on the few rows of cells that the wanted rows lie between.
    first, last = (rows.low[0], rows.high[-1] + 1) if len(rows.low) else (0, 0)
    shifted = Axis(rows.low - first, rows.high - first, rows.weight)
    return _sample_rows(_sample_columns(grid[first:last], columns), shifted)


def _finite_logits(logits: np.ndarray) -> np.ndarray:
    """Bring logits to [-1e30, 1e30]; NaN, no vote for anything, is the lowest."""
    clipped = logits.astype(np.float32).clip(-_LARGEST_LOGIT, _LARGEST_LOGIT)
    return np.nan_to_num(clipped, copy=False, nan=-_LARGEST_LOGIT)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    result = np.negative(x)
    np.exp(result, out=result)  # infinite for very negative x, and so 0 in the end
    result += 1
    return np.reciprocal(result, out=result)


def _efficientps_logits(mla: np.ndarray, mlb: np.ndarray) -> np.ndarray:
    """Sum of the confidences times sum of the logits: section 3.4 of the paper."""
    confidence = _sigmoid(mla)
    confidence += _sigmoid(mlb)
    confidence *= mla + mlb
    return confidence


def _product_logits(mla: np.ndarray, mlb: np.ndarray) -> np.ndarray:
    """Product of the logits, negative if one of them or both are negative."""
    return np.copysign(mla * mlb, np.minimum(mla, mlb))


# Fused logits of an instance from its mask logits MLA and semantic logits MLB.
COMBINATIONS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    'efficientps': _efficientps_logits,
    'sum': np.add,
    'product': _product_logits,
}


def _usable(bboxes: np.ndarray, scores: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Which detections have an area, a finite score and no NaN in the mask."""
    return (
        np.isfinite(bboxes).all(1)
        & (bboxes[:, 2:] > bboxes[:, :2]).all(1)
        & np.isfinite(scores)
        & ~np.isnan(masks).any((1, 2))
    )


def _fuse_instances(
    sem_logits: np.ndarray,
    rows: Axis,
    columns: Axis,
    bboxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    mask_logits: np.ndarray,
    overlap_thr: float,
    mask_logits_scale: float,
    combine: str,
) -> tuple[np.ndarray, np.ndarray, list[int]]:
    """Find the kept instance with the highest fused logits at every pixel.

    The work on an instance stays inside the pixels that its mask reaches.

    Returns:
        tuple[np.ndarray, np.ndarray, list[int]]: The winner's fused logits, (H, W),
        -inf where there is no instance; the winner as index into the third item,
        (H, W) int32; the kept instances by descending score.
    """
    shape = height, width = len(rows.low), len(columns.low)
    best = np.full(shape, -np.inf, np.float32)
    winner = np.zeros(shape, np.int32)
    taken = np.zeros(shape, bool)
    kept: list[int] = []
    usable = _usable(bboxes, scores, mask_logits)
    mask_logits = _finite_logits(mask_logits)
    order = np.argsort(-scores, kind='stable')
    for index in order[usable[order]].tolist():
        x1, y1, x2, y2 = bboxes[index].tolist()
        cells = np.pad(mask_logits[index], 1)
        cells_y, cells_x = mask_logits.shape[1:]
        region = (
            _box_reach(y1, y2, cells_y, height),
            _box_reach(x1, x2, cells_x, width),
        )
        from_mask = _sample(
            cells,
            _box_axis(region[0], y1, y2, cells_y),
            _box_axis(region[1], x1, x2, cells_x),
        )
        mask = from_mask > 0
        area = np.count_nonzero(mask)
        shared = np.count_nonzero(mask & taken[region])
        # In float32, as where the network was trained.
        most = np.float32(overlap_thr) * np.float32(area)
        if area == 0 or np.float32(shared) > most:
            continue
        taken[region] |= mask

        # The box lies inside the region: the mask reaches beyond it on every side.
        box = _box_span(y1, y2, height), _box_span(x1, x2, width)
        from_semantic = np.zeros_like(from_mask)
        inside = tuple(
            slice(inner.start - outer.start, inner.stop - outer.start)
            for inner, outer in zip(box, region, strict=True)
        )
        from_semantic[inside] = _sample(
            sem_logits[labels[index]], rows.part(box[0]), columns.part(box[1])
        )
        from_mask *= np.float32(mask_logits_scale)
        fused = COMBINATIONS[combine](from_mask, from_semantic)
        np.copyto(winner[region], len(kept), where=fused > best[region])
        np.maximum(best[region], fused, out=best[region])
        kept.append(index)
    return best, winner, kept


def _agreed_classes(sem_logits: np.ndarray) -> np.ndarray:
    """Class of a cell if its right and lower neighbors have it too, (h, w) int32."""
    highest = sem_logits[0].copy()
    classes = np.zeros(highest.shape, np.int32)
    for label, logits in enumerate(sem_logits[1:], start=1):
        np.copyto(classes, label, where=logits > highest)
        np.maximum(highest, logits, out=highest)
    differs = np.zeros(classes.shape, bool)
    differs[:, :-1] = classes[:, 1:] != classes[:, :-1]
    differs[:-1] |= differs[1:] | (classes[1:] != classes[:-1])
    classes[differs] = _UNSETTLED
    return classes


def _settle_points(
    sem_logits: np.ndarray,
    num_things: int,
    rows: Axis,
    columns: Axis,
    y: np.ndarray,
    x: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate all classes at P single pixels.

    Args:
        sem_logits (np.ndarray): (C, h, w), contiguous.
        num_things (int): Number of thing classes.
        rows (Axis): Sampling of the rows.
        columns (Axis): Sampling of the columns.
        y (np.ndarray): Indices into ``rows``, (P, ).
        x (np.ndarray): Indices into ``columns``, (P, ).

    Returns:
        tuple[np.ndarray, np.ndarray]: Class of the highest logit, (P, ) int32, and
        the highest stuff logit, (P, ) float32.
    """
    top, bottom = (cells[y] * sem_logits.shape[2] for cells in (rows.low, rows.high))
    left, right = columns.low[x], columns.high[x]
    down, across = rows.weight[y], columns.weight[x]
    up, back = 1 - down, 1 - across
    corners = [
        (top + left, up * back),
        (top + right, up * across),
        (bottom + left, down * back),
        (bottom + right, down * across),
    ]
    highest = np.full(len(y), -np.inf, np.float32)
    highest_stuff = highest.copy()
    classes = np.zeros(len(y), np.int32)
    value, term = np.empty_like(highest), np.empty_like(highest)
    for label, plane in enumerate(sem_logits.reshape(len(sem_logits), -1)):
        value.fill(0)
        for index, weight in corners:
            # All indices are within the plane; mode 'clip' saves a copy.
            plane.take(index, out=term, mode='clip')
            np.multiply(term, weight, out=term)
            np.add(value, term, out=value)
        if label >= num_things:
            np.maximum(highest_stuff, value, out=highest_stuff)
        np.copyto(classes, label, where=value > highest)
        np.maximum(highest, value, out=highest)
    return classes, highest_stuff


@np.errstate(over='ignore', invalid='ignore')
def panoptic_fusion(
    sem_logits: np.ndarray,
    bboxes: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    mask_logits: np.ndarray,
    out_shape: tuple[int, int],
    num_things: int,
    *,
    valid_shape: tuple[float, float] | None = None,
    overlap_thr: float = 0.5,
    min_stuff_area: int = 2048,
    mask_logits_scale: float = 4.0,
    combine: str = 'efficientps',
) -> tuple[np.ndarray, np.ndarray]:
    """Fuse semantic and instance logits into one panoptic map.

    Section 3.4 of the EfficientPS paper (Mohan & Valada, IJCV 2021). Instances are
    visited by descending score; one is dropped if more than ``overlap_thr`` of its mask
    (pasted logits > 0) is taken by those kept before. Of a kept instance, the pasted
    mask logits MLA and the semantic logits of its class inside its box MLB make the
    fused logits ``(sigmoid(MLA) + sigmoid(MLB)) * (MLA + MLB)``. A pixel belongs to the
    instance with the highest fused logits where these exceed every stuff logit;
    elsewhere to the class of highest semantic logit if that is stuff, and to nothing
    (void) if it is a thing or a stuff class left with too few pixels. Detections whose
    box has no area, whose score is not finite, or whose mask is nowhere positive or has
    a NaN are ignored; a semantic logit that is NaN is the lowest.

    Where the four cells around a pixel have the same class, so has the pixel; and the
    interpolated maximum of the stuff logits is never below the maximum of the
    interpolated ones. Only the remaining pixels are interpolated over all classes.

    Args:
        sem_logits (np.ndarray): Semantic logits, (C, h, w), things first, at any
            resolution.
        bboxes (np.ndarray): Boxes, (N, 4), in pixels of the output.
        scores (np.ndarray): Detection scores, (N, ).
        labels (np.ndarray): Thing classes, (N, ), integers.
        mask_logits (np.ndarray): Mask logits of each box's own class, (N, m, m).
        out_shape (tuple[int, int]): Height and width of the output in pixels.
        num_things (int): Number of thing classes; the other channels are stuff.
        valid_shape (tuple[float, float] | None): Height and width of the part of
            ``sem_logits`` that shows the image, in cells, not necessarily whole.
            Defaults to None, which is all of it.
        overlap_thr (float): Largest share of a mask that may be taken already.
            Defaults to 0.5.
        min_stuff_area (int): Stuff classes with fewer pixels become void. Defaults
            to 2048.
        mask_logits_scale (float): Factor of the mask logits in MLA. Defaults to 4.
        combine (str): How MLA and MLB make the fused logits, a key of
            ``COMBINATIONS``. Defaults to 'efficientps', as above.

    Returns:
        tuple[np.ndarray, np.ndarray]: Panoptic map, (H, W) int32:
        ``label + k * INSTANCE_OFFSET`` for the k-th kept instance (k = 1, 2, ...), the
        class for stuff, C for void; and the index of the detection of each k, (K, ).

    Raises:
        ValueError: If ``sem_logits`` has fewer channels than there are thing classes,
            a label is none of these, or ``combine`` is not known.

    Examples:
        A thing whose mask fills the first two of four pixels, on stuff of class 1:

        >>> panoptic, kept = panoptic_fusion(
        ...     sem_logits=np.array([[[0.]], [[5.]]]),
        ...     bboxes=np.array([[0., 0., 2., 1.]]),
        ...     scores=np.array([0.9]),
        ...     labels=np.array([0]),
        ...     mask_logits=np.full((1, 8, 8), 9.),
        ...     out_shape=(1, 4),
        ...     num_things=1,
        ...     min_stuff_area=1,
        ... )
        >>> panoptic.tolist(), kept.tolist()
        ([[1000, 1000, 1, 1]], [0])
    """
    void = len(sem_logits)
    wrong = labels[(labels < 0) | (labels >= num_things)]
    if void < num_things or len(wrong):
        raise ValueError(
            f'there are {num_things} thing classes, but {void} channels of semantic '
            f'logits and detections of the classes {np.unique(labels).tolist()}'
        )
    if combine not in COMBINATIONS:
        raise ValueError(f'combine is {combine!r}, must be one of {[*COMBINATIONS]}')

    # Crop the padding.
    valid_y, valid_x = valid_shape or sem_logits.shape[1:]
    sem_logits = sem_logits[:, : math.ceil(valid_y), : math.ceil(valid_x)]
    sem_logits = np.ascontiguousarray(sem_logits, np.float32)
    # The sum tells without another map whether one of them is NaN or infinite.
    if not np.isfinite(sem_logits.sum()):
        sem_logits = _finite_logits(sem_logits)
    if void == num_things:
        # No stuff at all: void takes its place, and loses against every instance.
        sem_logits = np.pad(
            sem_logits, ((0, 1), (0, 0), (0, 0)), constant_values=-_LARGEST_LOGIT
        )
    rows = _image_axis(out_shape[0], valid_y, sem_logits.shape[1])
    columns = _image_axis(out_shape[1], valid_x, sem_logits.shape[2])
    best, segments, kept = _fuse_instances(
        sem_logits,
        rows,
        columns,
        bboxes.astype(np.float32, copy=False),
        scores,
        labels,
        mask_logits,
        overlap_thr,
        mask_logits_scale,
        combine,
    )

    # One map numbers the segments: classes first, then kept instances.
    num_classes = len(sem_logits)
    agreed_classes = _agreed_classes(sem_logits).take(columns.low, 1)
    stuff_peak = _sample_columns(sem_logits[num_things:].max(0), columns)
    areas = np.zeros(num_classes + len(kept), np.int64)
    for stripe in _stripes(*out_shape):
        stripe_rows = rows.part(stripe)
        stripe_best = best[stripe]
        instances = segments[stripe]
        instances += num_classes
        # Settle what low resolution decides.
        numbers = agreed_classes.take(stripe_rows.low, 0)
        won = stripe_best > _sample_rows(stuff_peak, stripe_rows)
        contested = (stripe_best > -np.inf) & (numbers < num_things)
        y, x = np.nonzero(((numbers == _UNSETTLED) | contested) & ~won)
        np.copyto(numbers, instances, where=won)
        # Interpolate the rest.
        classes, highest = _settle_points(
            sem_logits, num_things, stripe_rows, columns, y, x
        )
        won = stripe_best[y, x] > highest
        numbers[y, x] = np.where(won, instances[y, x], classes)
        areas += np.bincount(numbers.ravel(), minlength=len(areas))
        segments[stripe] = numbers

    # Translate segments to the panoptic encoding.
    codes = np.arange(num_classes, dtype=np.int32)
    codes[(codes < num_things) | (areas[:num_classes] < min_stuff_area)] = void
    ranks = np.arange(1, len(kept) + 1)
    translated = np.append(codes, labels[kept] + ranks * INSTANCE_OFFSET)
    translated = translated.astype(np.int32)
    for stripe in _stripes(*out_shape):
        segments[stripe] = translated.take(segments[stripe])
    return segments, np.array(kept, np.int64)


def _stripes(height: int, width: int) -> list[slice]:
    """Cut an image into stripes of rows."""
    num_rows = max(_STRIPE // width, 1)
    return [slice(top, top + num_rows) for top in range(0, height, num_rows)]


def measure_segments(
    panoptic: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the segments of a map, their areas and their boxes.

    Example::

        >>> codes, areas, boxes = measure_segments(np.array([[7, 7, 2], [7, 2, 2]]))
        >>> codes.tolist(), areas.tolist(), boxes.tolist()
        ([2, 7], [3, 3], [[1, 0, 2, 2], [0, 0, 2, 2]])

    Args:
        panoptic (np.ndarray): (H, W), integers.

    Returns:
        tuple[np.ndarray, np.ndarray, np.ndarray]: The values that occur, ascending,
        (S, ); the pixels of each, (S, ); and their boxes x, y, width and height in
        pixels, (S, 4).
    """
    # Runs of equal pixels are far fewer than pixels. A new row begins a new run.
    width = panoptic.shape[1]
    starts_run = np.ones(panoptic.shape, bool)
    np.not_equal(panoptic[:, 1:], panoptic[:, :-1], out=starts_run[:, 1:])
    starts = np.flatnonzero(starts_run)
    lengths = np.diff(starts, append=panoptic.size)
    values = panoptic.ravel()[starts]
    order = np.argsort(values, kind='stable')
    values, lengths = values[order], lengths[order]
    y, left = np.divmod(starts[order], width)
    first = np.flatnonzero(np.diff(values, prepend=values[0] - 1))
    x1, y1 = (np.minimum.reduceat(side, first) for side in (left, y))
    x2, y2 = (np.maximum.reduceat(side, first) for side in (left + lengths, y + 1))
    boxes = np.stack([x1, y1, x2 - x1, y2 - y1], 1)
    return values[first], np.add.reduceat(lengths, first), boxes


def draw_panoptic(
    image: np.ndarray,
    panoptic: np.ndarray,
    palette: Sequence[Sequence[int]],
    alpha: float = 0.55,
) -> np.ndarray:
    """Lay the classes over an image and outline the instances in white.

    Every instance has its own shade of the color of its class; void keeps the image,
    darkened.

    Args:
        image (np.ndarray): (H, W, 3), uint8, BGR.
        panoptic (np.ndarray): (H, W): label + k * INSTANCE_OFFSET; a class beyond the
            palette is void.
        palette (Sequence[Sequence[int]]): RGB color of every class, 0..255.
        alpha (float): Opacity of the colors in [0, 1]. Defaults to 0.55.

    Returns:
        np.ndarray: (H, W, 3), uint8, BGR.

    Raises:
        ValueError: If image and map differ in size.
    """
    if image.shape[:2] != panoptic.shape:
        raise ValueError(
            f'the image is {image.shape[:2]} (height, width), the panoptic map '
            f'{panoptic.shape}: they must be of one size'
        )
    codes = measure_segments(panoptic)[0]
    classes, instances = codes % INSTANCE_OFFSET, codes // INSTANCE_OFFSET
    colors = np.asarray([*palette, (0, 0, 0)], np.float32)
    colors = colors[np.minimum(classes, len(palette)), ::-1]
    # Shades around the class color; the golden ratio spreads neighbors apart.
    shade = (0.75 + 0.5 * (instances * 0.618034 % 1.0))[:, None]
    shaded = colors * shade + 20 * (shade - 0.75)
    colors = np.where(instances[:, None] > 0, shaded, colors).clip(0, 255)
    colors = alpha * colors.astype(np.float32)

    numbers = np.zeros(codes[-1] + 1, np.uint16)
    numbers[codes] = np.arange(len(codes))
    index = np.empty(panoptic.shape, np.uint16)
    picture = np.empty_like(image)
    for stripe in _stripes(*panoptic.shape):
        index[stripe] = numbers.take(panoptic[stripe])
        blend = (1 - alpha) * image[stripe] + colors.take(index[stripe], 0)
        picture[stripe] = blend.round()
    # An outline is a pixel of an instance that touches another segment.
    square = np.ones((3, 3), np.uint8)
    edge = cv2.dilate(index, square) != cv2.erode(index, square)
    picture[edge & (panoptic >= INSTANCE_OFFSET)] = 255
    return picture


class PanopticOnnx:
    """An exported EfficientPS.

    Args:
        model (str | Path): The file that ``export_onnx.py`` wrote.
        providers (Sequence[str] | None): Execution providers of ONNX Runtime.
            Defaults to None, which is the CPU.
        threads (int | None): Threads of the network. Defaults to None, which leaves
            it to ONNX Runtime: one for each core.

    Attributes:
        categories (list[dict]): ``id``, ``name``, ``supercategory``, ``isthing`` and
            ``color`` (RGB) of every class, things first; the place is the label.
        metadata (dict): All that the exporter wrote beside the network.

    Raises:
        ModelError: If there is no such file, it cannot be loaded, or it is no exported
            EfficientPS.
        ValueError: If the first provider cannot be used.
        ImportError: If ONNX Runtime is not installed.
    """

    def __init__(
        self,
        model: str | Path,
        providers: Sequence[str] | None = None,
        threads: int | None = None,
    ) -> None:
        onnxruntime = _import_onnxruntime()
        if not Path(model).is_file():
            raise ModelError(f'there is no model {model}')
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors, no warnings
        options.intra_op_num_threads = threads or 0
        wanted = list(providers or CPU)
        try:
            self.session = onnxruntime.InferenceSession(
                str(model), options, providers=wanted
            )
        # ONNX Runtime's errors have no class in common but this.
        except Exception as error:
            raise ModelError(
                f'{model} cannot be loaded: it is damaged, no ONNX file, or needs '
                f'another ONNX Runtime ({error})'
            ) from error
        # ONNX Runtime itself goes on on the CPU.
        if wanted[0] not in self.session.get_providers():
            raise ValueError(
                f'{wanted[0]} is not in this ONNX Runtime or does not start: what it '
                'needs (for CUDA: driver, CUDA and cuDNN) is missing or of another '
                'version'
            )
        self.metadata = _read_metadata(self.session, model)
        self.categories: list[dict[str, Any]] = self.metadata['categories']

    def logits(self, image: np.ndarray) -> PanopticLogits:
        """Run the network.

        Args:
            image (np.ndarray): (H, W, 3), uint8, BGR, as ``cv2.imread`` gives it.

        Returns:
            PanopticLogits: What :meth:`fuse` takes.

        Raises:
            ValueError: If the image is of another shape or type.
        """
        if not (
            isinstance(image, np.ndarray)
            and image.dtype == np.uint8
            and image.ndim == 3
            and image.shape[2] == 3
            and image.size
        ):
            given = getattr(image, 'shape', type(image)), getattr(image, 'dtype', None)
            raise ValueError(
                'an image must be an array of shape (height, width, 3), uint8, BGR, '
                f'as cv2.imread gives it; this is {given}'
            )
        inputs, (height, width) = self._preprocess(image)
        outputs = self.session.run(
            OUTPUTS, {'image': inputs, 'image_size': np.array([height, width])}
        )
        bboxes, scores, labels, mask_logits, seg_logits = outputs
        factor = (image.shape[1] / width, image.shape[0] / height)
        # Multiplied first, so that whole numbers of cells come out whole.
        cells_y, cells_x = seg_logits.shape[1:]
        return PanopticLogits(
            bboxes * np.array([*factor, *factor], np.float32),
            scores,
            labels,
            mask_logits,
            seg_logits,
            image.shape[:2],
            (height * cells_y / inputs.shape[2], width * cells_x / inputs.shape[3]),
        )

    def _preprocess(self, image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
        """Resize, normalize and pad an image as in training.

        Args:
            image (np.ndarray): (H, W, 3), uint8, BGR.

        Returns:
            tuple[np.ndarray, tuple[int, int]]: The input, (1, 3, H, W), float32, and
            height and width of the image in it.
        """
        height, width = image.shape[:2]
        if self.metadata['scale'] is not None:
            size = scaled_size(
                (width, height), self.metadata['scale'], self.metadata['keep_ratio']
            )
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            width, height = size
        divisor = self.metadata['pad_divisor']
        padded = (-(-side // divisor) * divisor for side in (height, width))
        inputs = np.zeros((1, 3, *padded), np.float32)
        channels = cv2.split(image)
        if self.metadata['to_rgb']:
            channels = channels[::-1]
        levels = np.arange(256, dtype=np.float32)
        for channel, mean, std, target in zip(
            channels,
            self.metadata['mean'],
            self.metadata['std'],
            inputs[0],
            strict=True,
        ):
            # There are but 256 different results.
            table = (levels - np.float32(mean)) / np.float32(std)
            target[:height, :width] = cv2.LUT(channel, table)
        return inputs, (height, width)

    def fuse(
        self,
        logits: PanopticLogits,
        score_thr: float | None = None,
        overlap_thr: float | None = None,
        min_stuff_area: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Make the panoptic map.

        Args:
            logits (PanopticLogits): What :meth:`logits` returned.
            score_thr (float | None): Detections below are left out. Defaults to None,
                which is what the network was exported with; so are the others.
            overlap_thr (float | None): See :func:`panoptic_fusion`.
            min_stuff_area (int | None): See :func:`panoptic_fusion`.

        Returns:
            tuple[np.ndarray, np.ndarray]: Panoptic map, (H, W) int32:
            ``label + k * INSTANCE_OFFSET``, void is the number of classes; and for
            each k = 1..K the index of its detection, (K, ) int64.
        """
        settings = dict(self.metadata['fusion'])
        given = {
            'score_thr': score_thr,
            'overlap_thr': overlap_thr,
            'min_stuff_area': min_stuff_area,
        }
        settings.update((k, value) for k, value in given.items() if value is not None)
        sure = np.flatnonzero(logits.scores >= settings.pop('score_thr'))
        panoptic, kept = panoptic_fusion(
            logits.seg_logits,
            logits.bboxes[sure],
            logits.scores[sure],
            logits.labels[sure],
            logits.mask_logits[sure],
            logits.out_shape,
            self.metadata['num_things'],
            valid_shape=logits.valid_shape,
            **settings,
        )
        return panoptic, sure[kept]

    def result(
        self, logits: PanopticLogits, panoptic: np.ndarray, kept: np.ndarray
    ) -> PanopticResult:
        """List the segments of a panoptic map.

        Args:
            logits (PanopticLogits): What :meth:`logits` returned.
            panoptic (np.ndarray): What :meth:`fuse` returned.
            kept (np.ndarray): What :meth:`fuse` returned.

        Returns:
            PanopticResult: The map and its segments.
        """
        void = len(self.categories)
        segments = []
        for code, area, box in zip(
            *(values.tolist() for values in measure_segments(panoptic)), strict=True
        ):
            rank, label = divmod(code, INSTANCE_OFFSET)
            if label == void:
                continue
            segments.append(
                Segment(
                    id=code + 1,
                    category_id=self.categories[label]['id'],
                    isthing=bool(self.categories[label]['isthing']),
                    score=float(logits.scores[kept[rank - 1]]) if rank else None,
                    area=area,
                    bbox=tuple(box),
                )
            )
        return PanopticResult(panoptic, segments, void)

    def predict(
        self,
        image: np.ndarray,
        score_thr: float | None = None,
        overlap_thr: float | None = None,
        min_stuff_area: int | None = None,
    ) -> PanopticResult:
        """Predict the panoptic segmentation of an image.

        Args:
            image (np.ndarray): See :meth:`logits`.
            score_thr (float | None): See :meth:`fuse`.
            overlap_thr (float | None): See :meth:`fuse`.
            min_stuff_area (int | None): See :meth:`fuse`.

        Returns:
            PanopticResult: At the size of the image.
        """
        logits = self.logits(image)
        fused = self.fuse(logits, score_thr, overlap_thr, min_stuff_area)
        return self.result(logits, *fused)

    def draw(self, image: np.ndarray, result: PanopticResult) -> np.ndarray:
        """Draw a result over its image.

        Args:
            image (np.ndarray): (H, W, 3), uint8, BGR.
            result (PanopticResult): What :meth:`predict` returned.

        Returns:
            np.ndarray: (H, W, 3), uint8, BGR.
        """
        palette = [category['color'] for category in self.categories]
        return draw_panoptic(image, result.panoptic, palette)


def _import_onnxruntime() -> Any:
    """Import what only the network needs: fusion and drawing do without."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError(
            f'ONNX Runtime cannot be imported ({error}): pip install onnxruntime'
        ) from error
    return onnxruntime


def scaled_size(
    size: tuple[int, int], scale: Sequence[int], keep_ratio: bool
) -> tuple[int, int]:
    """Give the size an image has for the network.

    Example::

        >>> scaled_size((1000, 500), (512, 1024), True)
        (1024, 512)

    Args:
        size (tuple[int, int]): Width and height in pixels.
        scale (Sequence[int]): The long and the short side in either order if
            ``keep_ratio``, width and height otherwise.
        keep_ratio (bool): Whether the image fits into ``scale`` undistorted.

    Returns:
        tuple[int, int]: Width and height, at least one pixel.
    """
    if keep_ratio:
        factor = min(max(scale) / max(size), min(scale) / min(size))
        scale = [int(side * factor + 0.5) for side in size]
    return max(scale[0], 1), max(scale[1], 1)


def _read_metadata(session: Any, model: str | Path) -> dict[str, Any]:
    """Check that a network is one of ours, and give what the exporter wrote."""
    not_ours = (
        f'{model} is no exported EfficientPS: {{}}. Export a checkpoint with '
        'tools/deployment/export_onnx.py'
    )
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(not_ours.format(f'it has no metadata {METADATA_KEY!r}'))
    try:
        metadata = json.loads(text)
        version = metadata['format']
        if version != FORMAT:
            raise ModelError(
                f'{model} has metadata of format {version}, this file knows {FORMAT}: '
                'take the panoptic_onnx.py that was written beside the model'
            )
        for key in ('mean', 'std', 'to_rgb', 'scale', 'keep_ratio', 'pad_divisor'):
            metadata[key]
        for category in metadata['categories']:
            category['id'], category['name'], category['isthing'], category['color']
        fusion = {
            key: metadata['fusion'][key]
            for key in (
                'score_thr',
                'overlap_thr',
                'min_stuff_area',
                'mask_logits_scale',
                'combine',
            )
        }
        metadata = {**metadata, 'fusion': fusion, 'num_things': metadata['num_things']}
    except (LookupError, TypeError, json.JSONDecodeError) as error:
        raise ModelError(not_ours.format(f'its metadata lack {error}')) from error
    for kind, wanted, found in (
        ('inputs', INPUTS, session.get_inputs()),
        ('outputs', OUTPUTS, session.get_outputs()),
    ):
        names = [node.name for node in found]
        if not set(wanted) <= set(names) or (kind == 'inputs' and len(names) > 2):
            raise ModelError(
                not_ours.format(f'its {kind} are {names}, not {[*wanted]}')
            )
    return metadata


@contextmanager
def _atomic_path(path: Path) -> Iterator[Path]:
    """Write a file under another name and rename it once it is complete.

    Raises:
        OutputError: If it cannot be written; nothing is left of it.
    """
    temporary = path.with_name(f'.{os.getpid()}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield temporary
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(
            f'{path} cannot be written: {error.strerror or error}'
        ) from error


def write_image(path: Path, image: np.ndarray) -> None:
    """Write an image, whole or not at all.

    Args:
        path (Path): The file; its suffix is the format. Folders on the way are made.
        image (np.ndarray): (H, W, 3), uint8, BGR.

    Raises:
        OutputError: If it cannot be written.
    """
    content = cv2.imencode(path.suffix, image)[1]
    with _atomic_path(path) as temporary:
        temporary.write_bytes(content.tobytes())


def write_panoptic_png(path: Path, ids: np.ndarray) -> None:
    """Write segment ids as a panoptic PNG, 8-bit RGB with id = R + 256 G + 65536 B.

    Args:
        path (Path): The PNG. Folders on the way are made.
        ids (np.ndarray): (H, W), integers in 0..2**24 - 1, 0 = void.

    Raises:
        OutputError: If it cannot be written.
    """
    # The bytes of a little-endian number are R, G, B and 0.
    rgba = np.ascontiguousarray(ids, '<i4').view(np.uint8).reshape(*ids.shape, 4)
    write_image(path, cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGR))


def read_image(path: Path) -> np.ndarray:
    """Read an image as the training reads it, turned as its EXIF data say.

    Args:
        path (Path): The file: grey, with alpha or a palette, of 16 bits.

    Returns:
        np.ndarray: (H, W, 3), uint8, BGR.

    Raises:
        OSError: If the system refuses to read it.
        ValueError: If it is no image, or an animation.
    """
    content = path.read_bytes()
    if content.startswith(b'GIF8'):
        raise ValueError('a GIF may have many frames: make single images of them')
    image = None
    if content:
        try:
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        except cv2.error as error:
            raise ValueError(f'cannot be decoded as an image ({error.err})') from error
    if image is None:
        raise ValueError(
            'cannot be decoded as an image: it is damaged, incomplete or of another '
            'type'
        )
    return image


def find_images(source: Path) -> dict[str, Path]:
    """Find the images in a folder and below; linked folders are followed.

    Args:
        source (Path): An image or a folder.

    Returns:
        dict[str, Path]: Files by their name relative to the folder, sorted.

    Raises:
        ValueError: If there is none.
    """
    if source.is_file():
        return {source.name: source}
    if not source.is_dir():
        raise ValueError(f'there is no image or folder {source}')
    found: dict[str, Path] = {}
    seen = set()
    for folder, folders, files in os.walk(source, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link to a folder that it is in
            folders.clear()
            continue
        seen.add(real)
        for file in files:
            path = Path(folder, file)
            if path.suffix.lower() in IMAGE_SUFFIXES and not file.startswith('.'):
                found[path.relative_to(source).as_posix()] = path
    if not found:
        kinds = ', '.join(IMAGE_SUFFIXES)
        raise ValueError(f'there are no images ({kinds}) in {source}')
    return dict(sorted(found.items()))


def check_output(out: Path, images: Sequence[Path]) -> None:
    """Refuse a folder that has results already, or inputs.

    Args:
        out (Path): The folder for the results.
        images (Sequence[Path]): Files that are read.

    Raises:
        ValueError: If it is one of these, links followed.
    """
    if (out / 'panoptic.json').exists():
        raise ValueError(
            f'{out / "panoptic.json"} exists: give another folder, or remove it to '
            'predict again'
        )
    if out.exists() and not out.is_dir():
        raise ValueError(f'--out {out} is a file: give a folder')
    target = out.resolve()
    for path in images:
        here = Path(os.path.abspath(path))
        for place in (here, here.parent.resolve() / here.name, path.resolve()):
            if target in place.parents:
                raise ValueError(
                    f'--out {out} is a folder that holds inputs, such as {place}: give '
                    'another folder'
                )


class _Progress:
    """Says on stderr how many images are done, how fast, and how long it will take."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.start = self.said = time.monotonic()
        self.live = sys.stderr.isatty()

    def show(self, done: int) -> None:
        """Say it: on one line of a terminal, else now and then on a new one."""
        now = time.monotonic()
        last = done == self.total
        if not (self.live or last or now - self.said >= _SECONDS_BETWEEN_LINES):
            return
        self.said = now
        rate = done / max(now - self.start, 1e-9)
        left = round((self.total - done) / rate)
        text = f'{done} of {self.total} images, {rate:.2f} images/s'
        text += '' if last else f', {left // 60}:{left % 60:02d} min left'
        if self.live:
            # Go to the beginning of the line, and delete what is left of it behind.
            print(f'\r{text}\x1b[K', end='\n' if last else '', file=sys.stderr)
        else:
            print(text, file=sys.stderr)
        sys.stderr.flush()


def predict_files(
    model: PanopticOnnx,
    images: dict[str, Path],
    out: Path,
    overlay: bool = False,
    **thresholds: Any,
) -> list[str]:
    """Predict images and write the results.

    In the folder ``out``: ``panoptic/<name>.png`` and ``panoptic.json`` in the
    COCO-panoptic format, and ``overlay/<name>``. Names are those of the images, with
    ``.png`` after those that are no PNG; the json is written last.

    Args:
        model (PanopticOnnx): The network.
        images (dict[str, Path]): Files by their relative names.
        out (Path): Folder for the results.
        overlay (bool): Whether to draw the results. Defaults to False.
        **thresholds (float): See :meth:`PanopticOnnx.predict`.

    Returns:
        list[str]: What was wrong with which image; the others are done.

    Raises:
        OutputError: If results cannot be written.
    """
    problems: list[str] = []
    listed: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    progress = _Progress(len(images))
    for done, (name, path) in enumerate(images.items(), start=1):
        try:
            image = read_image(path)
        except (OSError, ValueError) as error:
            problems.append(f'{path}: {getattr(error, "strerror", None) or error}')
            progress.show(done)
            continue
        height, width = image.shape[:2]
        try:
            result = model.predict(image, **thresholds)
            picture = model.draw(image, result) if overlay else None
        # Whatever ONNX Runtime raises, out of memory above all: the next image may fit.
        except Exception as error:
            reason = str(error) or type(error).__name__
            problems.append(f'{path} ({width} x {height} pixels): {reason}')
            progress.show(done)
            continue
        png = f'{name.removesuffix(".png")}.png'
        write_panoptic_png(out / 'panoptic' / png, result.ids)
        if picture is not None:
            suffix = PurePath(name).suffix.lower()
            # A JPEG has no room for longer sides.
            fits = suffix in ('.jpg', '.jpeg') and max(height, width) <= _LARGEST_JPEG
            drawn = name if fits or suffix == '.png' else f'{name}.png'
            write_image(out / 'overlay' / drawn, picture)
        listed.append({'id': name, 'file_name': name, 'width': width, 'height': height})
        annotations.append(
            {
                'image_id': name,
                'file_name': png,
                'segments_info': [_segment_entry(s) for s in result.segments],
            }
        )
        progress.show(done)
    if listed:
        content = {
            'images': listed,
            'annotations': annotations,
            'categories': model.categories,
        }
        with _atomic_path(out / 'panoptic.json') as temporary:
            temporary.write_text(json.dumps(content), encoding='utf-8')
    return problems


def _segment_entry(segment: Segment) -> dict[str, Any]:
    """Give a segment as a panoptic json has it."""
    entry = {
        'id': segment.id,
        'category_id': segment.category_id,
        'area': segment.area,
        'bbox': list(segment.bbox),
        'iscrowd': 0,
    }
    return entry if segment.score is None else {**entry, 'score': segment.score}


def _find_providers(name: str) -> list[str]:
    """Find an execution provider by its short name, such as 'cuda'.

    Raises:
        ValueError: If the ONNX Runtime here has none of that name.
    """
    available = {
        provider.removesuffix('ExecutionProvider').lower(): provider
        for provider in _import_onnxruntime().get_available_providers()
    }
    if name.lower() not in available:
        hint = ' (for cuda: pip install onnxruntime-gpu instead of onnxruntime)'
        raise ValueError(
            f'--provider {name}: the ONNX Runtime installed here has '
            f'{", ".join(available)}{hint if name.lower() == "cuda" else ""}'
        )
    # What a provider does not know is left to the CPU.
    return list(dict.fromkeys([available[name.lower()], *CPU]))


def _parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Panoptic segmentation of images with an exported EfficientPS.',
        epilog='Exit status: 0, all images are done; 1, some could not be read or '
        'predicted and are listed; 2, nothing could be done, or not written.',
    )
    add = parser.add_argument
    add('input', type=Path, help='image, or folder of images, searched to its depths')
    add('--out', type=Path, required=True, metavar='DIR', help='folder for the results')
    add(
        '--model',
        type=Path,
        default=Path(__file__).resolve().with_name('model.onnx'),
        metavar='FILE',
        help='exported network, by default model.onnx beside this file',
    )
    add('--overlay', action='store_true', help='draw the results over the images')
    add('--score-thr', type=float, metavar='X', help='leave out objects less sure')
    add(
        '--overlap-thr',
        type=float,
        metavar='X',
        help='leave out objects of which surer ones cover a larger share',
    )
    add(
        '--min-stuff-area',
        type=int,
        metavar='PIXELS',
        help='leave out stuff with fewer pixels in the image',
    )
    add('--threads', type=int, metavar='N', help='CPU threads, by default all cores')
    add(
        '--provider',
        default='cpu',
        help='what runs the network: cpu, or another execution provider of the ONNX '
        'Runtime that is installed, such as cuda',
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv (Sequence[str] | None): Arguments. Defaults to None, those of the process.

    Returns:
        int: Exit status.
    """
    args = _parse_args(argv)
    try:
        images = find_images(args.input)
        check_output(args.out, list(images.values()))
        if args.threads is not None:
            cv2.setNumThreads(args.threads)
        providers = _find_providers(args.provider)
        model = PanopticOnnx(args.model, providers, args.threads)
        problems = predict_files(
            model,
            images,
            args.out,
            args.overlay,
            score_thr=args.score_thr,
            overlap_thr=args.overlap_thr,
            min_stuff_area=args.min_stuff_area,
        )
    except (ImportError, OSError, ValueError) as error:
        print(f'panoptic_onnx.py: {error}', file=sys.stderr)
        return 2
    if problems:
        print(f'{len(problems)} of {len(images)} images failed:', file=sys.stderr)
        print(*(f'    {problem}' for problem in problems), sep='\n', file=sys.stderr)
    done = len(images) - len(problems)
    if done:
        print(f'{done} images: {args.out / "panoptic.json"}')
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
