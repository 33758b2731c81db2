# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Prediction of images that are too large for the network, in overlapping tiles.

The network sees one tile after the other. What it says is put together for the whole
image before the fusion, so that one fusion makes one result: semantic logits are
blended where tiles overlap, and what tiles saw of the same object becomes one
detection.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mmdet_efficientps.structures.bilinear_sampling import (
    Axis,
    box_axis,
    box_reach,
    sample,
)
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.roi_masks import has_area, paste

MIN_TILE = 64
MAX_OVERLAP = 0.9
# Masks are of the same object if their IoU, where both tiles look, is at least this.
_SAME_OBJECT = 0.5
# A tile saw all of an object if its box has this share of that of all tiles.
_WHOLE = 0.9
# Mask logit where a tile looks and finds nothing of an object.
_ABSENT = -6.0
# Of a tile at its border, where no other tile may have a say.
_LEAST_WEIGHT = 1e-3
# Joined masks are sampled at so many points a cell along each side, and averaged.
_POINTS = 4


class Window(NamedTuple):
    """Pixels of an image that a tile shows, ``bottom`` and ``right`` excluded."""

    top: int
    left: int
    bottom: int
    right: int


@dataclass
class _Detection:
    """What one tile says about an object; the box is in pixels of the image."""

    tile: int
    box: list[float]
    score: float
    label: int
    mask: Tensor


def parse_tile(text: str) -> tuple[int, int]:
    """Read the size of tiles from a command line.

    Args:
        text (str): WIDTHxHEIGHT in pixels.

    Returns:
        tuple[int, int]: Width and height.

    Raises:
        ValueError: If it is none, or one of the two is too small.

    Examples:
        >>> parse_tile('1024x512')
        (1024, 512)
    """
    match = re.fullmatch(r'(\d+)x(\d+)', text.strip())
    if not match:
        raise ValueError(
            f'the size of tiles is WIDTHxHEIGHT in pixels, for example 1024x1024, got '
            f'{text!r}'
        )
    tile = int(match[1]), int(match[2])
    check_tiling(tile)
    return tile


def check_tiling(tile: Sequence[int], overlap: float = 0.0) -> None:
    """Refuse tiles that make no sense.

    Args:
        tile (Sequence[int]): Width and height in pixels.
        overlap (float): Share of a tile that the next one shows as well.

    Raises:
        ValueError: If a side is shorter than 64 pixels, or the overlap not in 0..0.9,
            0.9 excluded.
    """
    if len(tile) != 2 or min(tile) < MIN_TILE:
        raise ValueError(
            f'tiles are (width, height), each at least {MIN_TILE} pixels, got '
            f'{tuple(tile)}'
        )
    if not 0 <= overlap < MAX_OVERLAP:
        raise ValueError(
            f'the overlap of tiles is a share of their size from 0 to below '
            f'{MAX_OVERLAP}, got {overlap}'
        )


def tile_windows(
    shape: tuple[int, int], tile: Sequence[int], overlap: float
) -> list[Window]:
    """Lay tiles over an image.

    All have the same size: the last ones of a row or column are moved inwards, and
    overlap more. Along a side that is shorter than a tile, tiles are as long as it.

    Args:
        shape (tuple[int, int]): Height and width of the image.
        tile (Sequence[int]): Width and height of a tile.
        overlap (float): Share of a tile that the next one shows as well.

    Returns:
        list[Window]: Row by row.

    Examples:
        >>> [(w.left, w.right) for w in tile_windows((64, 200), (100, 64), 0.2)]
        [(0, 100), (80, 180), (100, 200)]
    """
    width, height = min(tile[0], shape[1]), min(tile[1], shape[0])
    return [
        Window(top, left, top + height, left + width)
        for top in _starts(shape[0], height, overlap)
        for left in _starts(shape[1], width, overlap)
    ]


def _starts(size: int, tile: int, overlap: float) -> list[int]:
    """Where tiles begin along one side."""
    step = max(tile - round(overlap * tile), 1)
    return [*range(0, size - tile, step), size - tile]


def predict_tiles(
    image: np.ndarray,
    predict: Callable[[list[np.ndarray]], list[FusionInputs]],
    tile: Sequence[int] = (1024, 1024),
    overlap: float = 0.2,
    batch_size: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> FusionInputs:
    """Predict an image in overlapping tiles, up to the fusion.

    Semantic logits are blended on one grid, of as many cells a pixel as tiles have:
    the weight of a tile falls towards its borders, but for those of the image.

    Detections of the same class from two tiles are of one object if their masks agree
    where both tiles look (IoU of 0.5), or, of tiles without overlap, along the seam;
    the same tile never has an object twice. An object that a tile saw whole is taken
    as it was seen there. Of another the box is that around all its parts, and mask
    logits are blended like those of the classes, with as many cells as any mask has.
    The score is the highest.

    Args:
        image (np.ndarray): (H, W, 3), BGR, uint8.
        predict (Callable): Gives what the network says about some images, all of the
            same size; ``out_shape`` is the size of each.
        tile (Sequence[int]): Width and height of tiles in pixels. Defaults to
            (1024, 1024).
        overlap (float): Share of a tile that the next one shows as well, below 0.9.
            Objects up to this size are seen whole by some tile. Defaults to 0.2.
        batch_size (int): How many tiles ``predict`` gets at once. Defaults to 1.
        progress (Callable, optional): Called with the number of tiles that are done
            and that of all, after each batch.

    Returns:
        FusionInputs: Of the whole image, semantic logits in float32. An image that one
        tile holds is given to ``predict`` as it is, and so is the result.

    Raises:
        ValueError: If tiles are too small, the overlap too large, or a prediction has
            not the size of its tile.
    """
    check_tiling(tile, overlap)
    height, width = image.shape[:2]
    windows = tile_windows((height, width), tile, overlap)
    if len(windows) == 1:
        return predict([image])[0]

    blend = None
    detections: list[_Detection] = []
    for start in range(0, len(windows), batch_size):
        batch = windows[start : start + batch_size]
        pixels = [
            np.ascontiguousarray(image[w.top : w.bottom, w.left : w.right])
            for w in batch
        ]
        for number, (window, inputs) in enumerate(
            zip(batch, predict(pixels), strict=True), start=start
        ):
            if tuple(inputs.out_shape) != (
                window.bottom - window.top,
                window.right - window.left,
            ):
                raise ValueError(
                    f'the prediction of tile {number} has the size '
                    f'{tuple(inputs.out_shape)}, but the tile is {window}'
                )
            blend = blend or _Blend((height, width), inputs, overlap)
            blend.add(inputs, window)
            detections += _placed(inputs, window, number)
        if progress is not None:
            progress(start + len(batch), len(windows))
    assert blend is not None
    joined = [
        _join(members, windows, blend) for members in _same_objects(detections, windows)
    ]
    return blend.result(sorted(joined, key=lambda one: -one.score))


def _placed(inputs: FusionInputs, window: Window, number: int) -> Iterator[_Detection]:
    """Bring the detections of a tile to the image."""
    offset = inputs.bboxes.new_tensor([window.left, window.top] * 2)
    boxes = (inputs.bboxes + offset).float().cpu()
    masks = inputs.mask_logits.float().cpu()
    for box, score, label, mask, good in zip(
        boxes.tolist(),
        inputs.scores.tolist(),
        inputs.labels.tolist(),
        masks,
        has_area(boxes).tolist(),
        strict=True,
    ):
        # What has no area has no pixel either.
        if good:
            yield _Detection(number, box, score, label, mask)


class _Blend:
    """Semantic logits of an image, from those of its tiles.

    Args:
        shape: Height and width of the image.
        first: What is said about one of the tiles; all have its resolution.
        overlap: Share of a tile that the next one shows as well.
    """

    def __init__(
        self, shape: tuple[int, int], first: FusionInputs, overlap: float
    ) -> None:
        self.shape = shape
        self.ramp = [max(overlap * side, 1.0) for side in first.out_shape]
        grid = [
            math.ceil(size * cells / pixels)
            for size, cells, pixels in zip(
                shape, first.valid_shape, first.out_shape, strict=True
            )
        ]
        seg_logits = first.seg_logits
        self.logits = seg_logits.new_zeros(
            (len(seg_logits), *grid), dtype=torch.float32
        )
        self.weights = self.logits.new_zeros(grid)
        self.mask_size = first.mask_logits.shape[1:]

    def add(self, inputs: FusionInputs, window: Window) -> None:
        """Add the logits of a tile."""
        valid_y, valid_x = inputs.valid_shape
        cells = inputs.seg_logits[:, : math.ceil(valid_y), : math.ceil(valid_x)]
        # What box_axis takes for the ring around a map repeats the border here.
        cells = F.pad(cells[None].float(), (1, 1, 1, 1), mode='replicate')[0]
        rows, row_axis, row_weights = self._side(0, window, cells.shape[1] - 2, valid_y)
        columns, column_axis, column_weights = self._side(
            1, window, cells.shape[2] - 2, valid_x
        )
        weights = row_weights[:, None] * column_weights
        for total, grid in zip(self.logits, cells, strict=True):
            total[rows, columns] += sample(grid, row_axis, column_axis) * weights
        self.weights[rows, columns] += weights

    def _side(
        self, dim: int, window: Window, num_cells: int, valid: float
    ) -> tuple[slice, Axis, Tensor]:
        """Cells of the image along one side that a tile shows.

        Returns:
            The cells, how to sample those of the tile at them, and their weights.
        """
        cells_a_pixel = self.weights.shape[dim] / self.shape[dim]
        start, stop = window[dim] * cells_a_pixel, window[dim + 2] * cells_a_pixel
        # A cell counts if its centre lies in the tile.
        cells = slice(math.ceil(start - 0.5), math.ceil(stop - 0.5))
        device = self.weights.device
        end = start + (stop - start) * num_cells / valid
        axis = box_axis(cells, start, end, num_cells, device)
        centres = torch.arange(cells.start, cells.stop, device=device) + 0.5
        return cells, axis, self.falloff(dim, window, centres / cells_a_pixel)

    def falloff(self, dim: int, window: Window, positions: Tensor) -> Tensor:
        """Weight of a tile: 1 inside, less towards borders that other tiles go beyond.

        Args:
            dim: 0 for rows, 1 for columns.
            window: What the tile shows.
            positions: In pixels of the image, (P, ), within the tile.

        Returns:
            (P, ), float, above 0 and up to 1.
        """
        first, last = window[dim], window[dim + 2]
        distance = torch.full_like(positions, math.inf)
        if first > 0:
            distance = positions - first
        if last < self.shape[dim]:
            distance = torch.minimum(distance, last - positions)
        return (distance / self.ramp[dim]).clamp(_LEAST_WEIGHT, 1)

    def result(self, detections: list[_Detection]) -> FusionInputs:
        """Give the logits and some detections. Nothing can be added afterwards."""
        device = self.weights.device
        masks = [one.mask for one in detections]
        height, width = self.weights.shape
        return FusionInputs(
            torch.tensor([one.box for one in detections], device=device).reshape(-1, 4),
            torch.tensor([one.score for one in detections], device=device),
            torch.tensor(
                [one.label for one in detections], dtype=torch.long, device=device
            ),
            torch.stack(masks).to(device)
            if masks
            else self.logits.new_zeros(0, *self.mask_size),
            self.logits.div_(self.weights),
            (height, width),
            self.shape,
        )


def _same_objects(
    detections: list[_Detection], windows: list[Window]
) -> list[list[_Detection]]:
    """Group detections by object."""
    of_tile: list[list[int]] = [[] for _ in windows]
    for index, one in enumerate(detections):
        of_tile[one.tile].append(index)
    agreements = [
        (agreement, i, j)
        for a in range(len(windows))
        for b in range(a)
        if (regions := _common_regions(windows[a], windows[b])) is not None
        for i, j, agreement in _agreements(detections, of_tile[a], of_tile[b], regions)
    ]
    groups = {index: [index] for index in range(len(detections))}
    group_of = list(range(len(detections)))
    for _, i, j in sorted(agreements, key=lambda found: (-found[0], *found[1:])):
        first, second = group_of[i], group_of[j]
        if first == second:
            continue
        tiles = [{detections[k].tile for k in groups[g]} for g in (first, second)]
        # A tile that tells two objects apart is right.
        if tiles[0].isdisjoint(tiles[1]):
            for k in groups[second]:
                group_of[k] = first
            groups[first] += groups.pop(second)
    return [[detections[k] for k in group] for group in groups.values()]


def _common_regions(one: Window, two: Window) -> tuple[Window, Window] | None:
    """Where to compare what two tiles saw.

    Returns:
        For each tile the same pixels, where they overlap; those on its side of the
        seam, if there is one; None if they have nothing to do with each other.
    """
    top, left = max(one.top, two.top), max(one.left, two.left)
    bottom, right = min(one.bottom, two.bottom), min(one.right, two.right)
    if bottom < top or right < left or (bottom == top and right == left):
        return None
    seen = Window(top, left, bottom, right)
    if bottom == top:
        above, below = (
            Window(top - 1, left, top, right),
            Window(top, left, top + 1, right),
        )
        return (above, below) if one.top < two.top else (below, above)
    if right == left:
        before, after = (
            Window(top, left - 1, bottom, left),
            Window(top, left, bottom, left + 1),
        )
        return (before, after) if one.left < two.left else (after, before)
    return seen, seen


def _agreements(
    detections: list[_Detection],
    ones: list[int],
    twos: list[int],
    regions: tuple[Window, Window],
) -> Iterator[tuple[int, int, float]]:
    """Find pairs of detections of two tiles whose masks agree, and how well."""
    masks = [
        {index: _mask_in(detections[index], region) for index in indices}
        for indices, region in zip((ones, twos), regions, strict=True)
    ]
    for i, mask in masks[0].items():
        for j, other in masks[1].items():
            if mask is None or other is None:
                continue
            if detections[i].label != detections[j].label:
                continue
            agreement = _iou(mask, other)
            if agreement >= _SAME_OBJECT:
                yield i, j, agreement


_Crop = tuple[Tensor, tuple[slice, slice]]


def _mask_in(one: _Detection, region: Window) -> _Crop | None:
    """Mask of a detection within a region; None if it has no pixel there."""
    x1, y1, x2, y2 = one.box
    shape = region.bottom - region.top, region.right - region.left
    box = x1 - region.left, y1 - region.top, x2 - region.left, y2 - region.top
    height, width = one.mask.shape
    for start, stop, num_cells, num_pixels in (
        (box[1], box[3], height, shape[0]),
        (box[0], box[2], width, shape[1]),
    ):
        reach = box_reach(start, stop, num_cells, num_pixels)
        if reach.start == reach.stop:
            return None
    pasted, place = paste(one.mask, box, shape)
    mask = pasted > 0
    return (mask, place) if mask.any() else None


def _iou(one: _Crop, two: _Crop) -> float:
    """IoU of two masks of the same region, of which only a part is given."""
    (mask, place), (other, other_place) = one, two
    inside, other_inside = [], []
    for own, others in zip(place, other_place, strict=True):
        start, stop = max(own.start, others.start), min(own.stop, others.stop)
        if start >= stop:
            return 0.0
        inside.append(slice(start - own.start, stop - own.start))
        other_inside.append(slice(start - others.start, stop - others.start))
    shared = int((mask[tuple(inside)] & other[tuple(other_inside)]).sum())
    return shared / (int(mask.sum()) + int(other.sum()) - shared)


def _join(
    members: list[_Detection], windows: list[Window], blend: _Blend
) -> _Detection:
    """Make one detection of what tiles saw of an object."""
    if len(members) == 1:
        return members[0]
    boxes = torch.tensor([one.box for one in members])
    box = [*boxes[:, :2].amin(0).tolist(), *boxes[:, 2:].amax(0).tolist()]
    score = max(one.score for one in members)
    area = (box[2] - box[0]) * (box[3] - box[1])
    sizes = boxes[:, 2:] - boxes[:, :2]
    whole = [
        one
        for one, share in zip(members, (sizes.prod(1) / area).tolist(), strict=True)
        if share >= _WHOLE
    ]
    if whole:
        best = max(whole, key=lambda one: one.score)
        return _Detection(best.tile, best.box, score, best.label, best.mask)
    mask = _joined_mask(members, windows, box, blend)
    return _Detection(members[0].tile, box, score, members[0].label, mask)


def _joined_mask(
    members: list[_Detection], windows: list[Window], box: list[float], blend: _Blend
) -> Tensor:
    """Blend the mask logits of an object that no tile saw whole, (m, m)."""
    cells = members[0].mask.shape[0]
    num_points = cells * _POINTS
    pixels = [(box[k + 2] - box[k]) / num_points for k in (1, 0)]
    points = torch.arange(num_points) + 0.5
    places = [box[k] + points * size for k, size in zip((1, 0), pixels, strict=True)]
    total = torch.zeros(num_points, num_points)
    weights = torch.zeros_like(total)
    for one in members:
        window = windows[one.tile]
        axes, found, seen = [], [], []
        for dim, (place, size) in enumerate(zip(places, pixels, strict=True)):
            first, last = one.box[1 - dim], one.box[3 - dim]
            origin = box[1 - dim]
            axes.append(
                box_axis(
                    slice(0, num_points),
                    (first - origin) / size,
                    (last - origin) / size,
                    cells,
                )
            )
            found.append((place >= first) & (place <= last))
            inside = (place >= window[dim]) & (place <= window[dim + 2])
            seen.append(inside * blend.falloff(dim, window, place))
        ringed = F.pad(one.mask[None], (1, 1, 1, 1), mode='replicate')[0]
        there = found[0][:, None] & found[1]
        logits = sample(ringed, *axes).where(there, torch.tensor(_ABSENT))
        weight = seen[0][:, None] * seen[1]
        total += logits * weight
        weights += weight
    blended = torch.where(weights > 0, total / weights.clamp(min=1e-6), _ABSENT)
    return F.avg_pool2d(blended[None], _POINTS)[0]
