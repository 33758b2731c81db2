# Licensed under the Apache License, Version 2.0. See LICENSE.
"""RoIAlign as a weighted sum of rows of a table, which is fast on a CPU.

A bin of RoIAlign (He et al., "Mask R-CNN", ICCV 2017) is the mean of S x S samples,
each interpolated between four cells: a weighted sum of 4 * S * S cells. With the
features in channels-last, a cell is a row of a table, all its channels side by side,
and PyTorch has one operation for weighted sums of rows. It reads whole rows and uses
every thread; mmcv's loop reads one channel after the other and uses one thread.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmcv.ops import RoIAlign
from torch import Tensor, nn


def can_gather(layer: nn.Module) -> bool:
    """Whether :func:`gathered_roi_align` computes what a RoI layer does.

    Args:
        layer (nn.Module): Any RoI layer.

    Returns:
        bool: True for :class:`mmcv.ops.RoIAlign` that averages a fixed number of
        samples. A ``sampling_ratio`` of 0 takes a number that depends on the RoI.
    """
    return (
        isinstance(layer, RoIAlign)
        and layer.pool_mode == 'avg'
        and layer.sampling_ratio > 0
    )


def _taps(
    start: Tensor, extent: Tensor, num_bins: int, sampling_ratio: int, num_cells: int
) -> tuple[Tensor, Tensor]:
    """Cells and weights along one axis.

    Args:
        start (Tensor): Where the RoIs begin, in cells, (K, ); 0 is the centre of the
            first cell.
        extent (Tensor): How many cells they cover, (K, ).
        num_bins (int): Bins P.
        sampling_ratio (int): Samples S in a bin.
        num_cells (int): Cells of the features.

    Returns:
        tuple[Tensor, Tensor]: Cells, int32, and weights, float32, (K, P, 2 * S).
    """
    size = (extent / num_bins)[:, None, None]
    bins = torch.arange(num_bins, device=start.device)[:, None]
    samples = torch.arange(sampling_ratio, device=start.device) + 0.5
    # The order of mmcv, so that rounding is the same: a RoI far from the origin has
    # few digits left behind the point.
    position = start[:, None, None] + bins * size + samples * size / sampling_ratio
    # More than a cell beyond the outermost centres nothing is added.
    inside = (position >= -1) & (position <= num_cells)
    position = position.clamp(0, num_cells - 1)
    low = position.int()  # truncation is floor here: nothing is negative
    high = (low + 1).clamp_(max=num_cells - 1)
    weight = position - low
    cells = torch.stack((low, high), -1)
    weights = torch.stack((1 - weight, weight), -1) * inside[..., None]
    return cells.flatten(2), weights.flatten(2) / sampling_ratio


def gathered_roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: tuple[int, int],
    spatial_scale: float = 1.0,
    sampling_ratio: int = 2,
    aligned: bool = True,
) -> Tensor:
    """Do what :func:`mmcv.ops.roi_align` does, equal to it up to rounding.

    Args:
        features (Tensor): (N, C, h, w), float32; best in channels-last, which any
            other layout is copied to.
        rois (Tensor): (K, 5), float32, image index and x1, y1, x2, y2, finite.
        output_size (tuple[int, int]): Bins along height and width.
        spatial_scale (float): What to multiply boxes by to have cells.
            Defaults to 1.
        sampling_ratio (int): Samples along each side of a bin, at least 1.
            Defaults to 2.
        aligned (bool): Whether continuous coordinate 0.5 is the centre of the first
            cell, rather than 0 with boxes at least a cell wide. Defaults to True.

    Returns:
        Tensor: (K, C, *output_size), float32, in channels-last.

    Examples:
        A box around the middle of four cells:

        >>> features = torch.tensor([[[[0., 2.], [4., 6.]]]])
        >>> box = torch.tensor([[0., 0.5, 0.5, 1.5, 1.5]])
        >>> gathered_roi_align(features, box, (1, 1)).item()
        3.0
    """
    num_images, channels, height, width = features.shape
    bins_y, bins_x = output_size
    corners = rois[:, 1:] * spatial_scale
    if aligned:
        corners = corners - 0.5
    (x1, y1), (extent_x, extent_y) = (
        corners[:, :2].T,
        (corners[:, 2:] - corners[:, :2]).T,
    )
    if not aligned:
        extent_x, extent_y = extent_x.clamp(min=1), extent_y.clamp(min=1)
    y, weight_y = _taps(y1, extent_y, bins_y, sampling_ratio, height)
    x, weight_x = _taps(x1, extent_x, bins_x, sampling_ratio, width)

    # 32 bits are enough for 2**31 cells, which no features have.
    first_cell = rois[:, :1, None].int() * (height * width)
    rows = first_cell + y * width
    num_taps = y.shape[2] * x.shape[2]
    cells = rows[:, :, None, :, None] + x[:, None, :, None, :]
    weights = weight_y[:, :, None, :, None] * weight_x[:, None, :, None, :]
    bins = F.embedding_bag(
        cells.view(-1, num_taps),
        features.permute(0, 2, 3, 1).reshape(num_images * height * width, channels),
        mode='sum',
        per_sample_weights=weights.view(-1, num_taps),
    )
    return bins.view(len(rois), bins_y, bins_x, channels).permute(0, 3, 1, 2)
