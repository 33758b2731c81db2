# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Bilinear sampling of maps at the pixels of an image, and of those pixels alone.

Coordinates are continuous: pixel i of an image and cell i of a map cover [i, i + 1],
their centres are at i + 0.5. What is sampled outside the outermost centres repeats the
border. This is ``F.interpolate(..., mode='bilinear', align_corners=False)``, and with
a ring of zeros around the map ``F.grid_sample(..., align_corners=False)``; neither can
be asked for a few rows, or for single pixels.

Bilinear sampling is linear sampling along one axis after the other, so all functions
work on an :class:`Axis` for the rows and one for the columns.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Axis(NamedTuple):
    """Linear sampling of P pixels along one axis.

    Attributes:
        low (Tensor): Cell before each pixel, (P, ), int64.
        high (Tensor): Cell after it, (P, ), int64.
        weight (Tensor): Weight of ``high``, (P, ), float in [0, 1]; ``low`` has the
            rest.
    """

    low: Tensor
    high: Tensor
    weight: Tensor

    def part(self, pixels: slice) -> Axis:
        """Give the sampling of some of the pixels."""
        return Axis(self.low[pixels], self.high[pixels], self.weight[pixels])


def _axis(position: Tensor, num_cells: int) -> Axis:
    """Sample at fractional indices of cells, where 0 is the centre of the first."""
    position = position.clamp(0, num_cells - 1)
    low = position.long()  # truncation is floor here: nothing is negative
    return Axis(low, (low + 1).clamp(max=num_cells - 1), position - low)


def image_axis(
    num_pixels: int, extent: float, num_cells: int, device: torch.device | str = 'cpu'
) -> Axis:
    """Resize: sample cells at every pixel of an image.

    Args:
        num_pixels (int): Pixels of the image along this axis.
        extent (float): How many cells the image covers, not necessarily whole.
        num_cells (int): How many cells there are, at least ``extent`` rounded up.
        device (torch.device | str): Where the result is. Defaults to 'cpu'.

    Returns:
        Axis: Of ``num_pixels`` pixels.

    Examples:
        Pixels 1 and 2 have their centres at 0.75 and 1.25 cells, which is a quarter
        and three quarters of the way from the centre of cell 0 to that of cell 1.

        >>> image_axis(4, 2, 2).weight.tolist()
        [0.0, 0.25, 0.75, 0.0]
    """
    pixels = torch.arange(num_pixels, device=device)
    return _axis((pixels + 0.5) * (extent / num_pixels) - 0.5, num_cells)


def box_axis(
    pixels: slice,
    start: float,
    stop: float,
    num_cells: int,
    device: torch.device | str = 'cpu',
) -> Axis:
    """Paste: sample a map laid into a box, which has a ring of zeros around it.

    Args:
        pixels (slice): Pixels of the image, with ``start`` and ``stop``.
        start (float): Where the box begins, in pixels.
        stop (float): Where the box ends, beyond ``start``.
        num_cells (int): Cells of the map without the ring.
        device (torch.device | str): Where the result is. Defaults to 'cpu'.

    Returns:
        Axis: Of the ``pixels``, into ``num_cells + 2`` cells.

    Examples:
        One cell laid into [1, 3], and the ring before and after it:

        >>> axis = box_axis(slice(0, 4), 1, 3, 1)
        >>> axis.low.tolist(), axis.weight.tolist()
        ([0, 0, 1, 1], [0.25, 0.75, 0.25, 0.75])
    """
    positions = torch.arange(pixels.start, pixels.stop, device=device) + 0.5
    positions = (positions - start) * (num_cells / (stop - start)) - 0.5
    return _axis(positions + 1, num_cells + 2)


def clipped_span(start: int, stop: int, num_pixels: int) -> slice:
    """Clip a range of pixels to the image; it is empty if nothing is left.

    Examples:
        >>> clipped_span(-2, 3, 10), clipped_span(12, 15, 10)
        (slice(0, 3, None), slice(10, 10, None))
    """
    start = min(max(start, 0), num_pixels)
    return slice(start, min(max(stop, start), num_pixels))


def box_reach(start: float, stop: float, num_cells: int, num_pixels: int) -> slice:
    """Pixels of an image that a map laid into a box has an effect on.

    Interpolation between the outer cells and the ring of zeros goes half a cell beyond
    the box. A pixel counts if its centre lies strictly inside.

    Args:
        start (float): Where the box begins, in pixels, finite.
        stop (float): Where the box ends, finite.
        num_cells (int): Cells of the map.
        num_pixels (int): Pixels of the image along this axis.

    Returns:
        slice: With ``start`` and ``stop``.

    Examples:
        Two cells in [2, 6] are two pixels wide each, so they reach from 1 to 7.

        >>> box_reach(2, 6, 2, 100)
        slice(1, 7, None)
    """
    half_cell = (stop - start) / (2 * num_cells)
    return clipped_span(
        math.floor(start - half_cell + 0.5),
        math.ceil(stop + half_cell - 0.5),
        num_pixels,
    )


def sample_rows(grid: Tensor, rows: Axis) -> Tensor:
    """Interpolate a map (h, W) along its columns to (H, W)."""
    return torch.lerp(
        grid.index_select(0, rows.low),
        grid.index_select(0, rows.high),
        rows.weight[:, None],
    )


def sample_columns(grid: Tensor, columns: Axis) -> Tensor:
    """Interpolate a map (h, w) along its rows to (h, W)."""
    return torch.lerp(
        grid.index_select(1, columns.low),
        grid.index_select(1, columns.high),
        columns.weight,
    )


def sample(grid: Tensor, rows: Axis, columns: Axis) -> Tensor:
    """Interpolate a map to every pair of ``rows`` and ``columns``.

    Args:
        grid (Tensor): Map, (h, w), float.
        rows (Axis): Sampling of H rows.
        columns (Axis): Sampling of W columns.

    Returns:
        Tensor: (H, W).

    Examples:
        >>> sample(torch.tensor([[0., 8.]]), image_axis(1, 1, 1), image_axis(4, 2, 2))
        tensor([[0., 2., 6., 8.]])
    """
    # Columns come first: their scattered reads then touch only the low-resolution
    # rows, and what follows is copies of whole rows.
    return sample_rows(sample_columns(grid, columns), rows)


def sample_points(
    grid: Tensor, rows: Axis, columns: Axis, y: Tensor, x: Tensor
) -> Tensor:
    """Interpolate a map of C channels at single pixels.

    Args:
        grid (Tensor): Map, (h, w, C), float, contiguous.
        rows (Axis): Sampling of the rows of the image.
        columns (Axis): Sampling of its columns.
        y (Tensor): Indices into ``rows``, (P, ), int64.
        x (Tensor): Indices into ``columns``, (P, ), int64.

    Returns:
        Tensor: (P, C).

    Examples:
        >>> axes = image_axis(1, 1, 1), image_axis(4, 2, 2)
        >>> grid = torch.tensor([[[0., 1.], [8., 1.]]])
        >>> sample_points(grid, *axes, torch.tensor([0]), torch.tensor([2]))
        tensor([[6., 1.]])
    """
    num_columns = grid.shape[1]
    top, bottom, weight_y = (values[y] for values in rows)
    left, right, weight_x = (values[x] for values in columns)
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    weights = (
        (1 - weight_y) * (1 - weight_x),
        (1 - weight_y) * weight_x,
        weight_y * (1 - weight_x),
        weight_y * weight_x,
    )
    # A weighted sum of four rows of a table: just what this operation does.
    return F.embedding_bag(
        torch.stack([row * num_columns + column for row, column in corners], 1),
        grid.flatten(0, 1),
        mode='sum',
        per_sample_weights=torch.stack(weights, 1),
    )
