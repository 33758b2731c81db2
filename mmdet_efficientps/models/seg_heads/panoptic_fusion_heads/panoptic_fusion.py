# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Parameter-free panoptic fusion of EfficientPS as a function on tensors."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from mmdet.evaluation.functional import INSTANCE_OFFSET
from torch import Tensor

# Marks a pixel whose four surrounding semantic cells disagree about the class.
_UNSETTLED = -1
# Pixels labelled at once, which changes no result. On the CPU few enough to stay
# in the cache. A GPU waits at the end of every stripe: there 1024x2048 pixels are one.
_STRIPE_CPU = 1 << 17
_STRIPE_GPU = 1 << 21


def _efficientps_logits(mla: Tensor, mlb: Tensor) -> Tensor:
    """Section 3.4 of the paper: sum of the confidences times sum of the logits."""
    return (mla.sigmoid() + mlb.sigmoid()) * (mla + mlb)


def _product_logits(mla: Tensor, mlb: Tensor) -> Tensor:
    """Product that is positive only where both are: two refusals are no consent."""
    return torch.copysign(mla * mlb, torch.minimum(mla, mlb))


# Fused logits of an instance from its mask logits MLA and semantic logits MLB.
COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'efficientps': _efficientps_logits,
    'sum': torch.add,
    'product': _product_logits,
}


class _Axis(NamedTuple):
    """Linear sampling along one axis: both neighbour cells, weight of the second."""

    low: Tensor
    high: Tensor
    weight: Tensor

    def part(self, span: slice) -> '_Axis':
        """Return the sampling of the pixels in ``span`` only."""
        return _Axis(self.low[span], self.high[span], self.weight[span])


def _sampling_axis(position: Tensor, num_cells: int) -> _Axis:
    """Sample at fractional cell indices, repeating the first and last cell."""
    position = position.clamp(0, num_cells - 1)
    low = position.long()  # truncation is floor here: nothing is negative
    return _Axis(low, (low + 1).clamp(max=num_cells - 1), position - low)


def _image_axis(
    num_pixels: int, num_valid: float, num_cells: int, device: torch.device
) -> _Axis:
    """Sample ``num_valid`` cells at every pixel, as ``F.interpolate`` does."""
    pixels = torch.arange(num_pixels, device=device)
    return _sampling_axis((pixels + 0.5) * (num_valid / num_pixels) - 0.5, num_cells)


def _mask_axis(
    span: slice, low: float, high: float, num_cells: int, device: torch.device
) -> _Axis:
    """Sample a mask pasted into [low, high], given a zero cell on either side."""
    pixels = torch.arange(span.start, span.stop, device=device)
    position = (pixels + 0.5 - low) * (num_cells / (high - low)) - 0.5
    return _sampling_axis(position + 1, num_cells + 2)


def _sample_cols(grid: Tensor, cols: _Axis) -> Tensor:
    """Interpolate a map (h, w) along its rows to (h, W)."""
    return torch.lerp(
        grid.index_select(1, cols.low), grid.index_select(1, cols.high), cols.weight
    )


def _sample_rows(grid: Tensor, rows: _Axis) -> Tensor:
    """Interpolate a map (h, W) along its columns to (H, W)."""
    return torch.lerp(
        grid.index_select(0, rows.low),
        grid.index_select(0, rows.high),
        rows.weight[:, None],
    )


def _sample(grid: Tensor, rows: _Axis, cols: _Axis) -> Tensor:
    """Interpolate a map (h, w) to every pair of ``rows`` and ``cols``.

    Columns come first: their scattered reads then touch only the low-resolution
    rows, and what follows is copies of whole rows.
    """
    return _sample_rows(_sample_cols(grid, cols), rows)


def _span(start: int, stop: int, num_pixels: int) -> slice:
    """Clip [start, stop) to the image; empty if nothing is left."""
    start = min(max(start, 0), num_pixels)
    return slice(start, min(max(stop, start), num_pixels))


def _mask_span(low: float, high: float, num_cells: int, num_pixels: int) -> slice:
    """Pixels that a mask pasted into [low, high] reaches.

    Interpolation against the zeros around the mask goes half a mask cell beyond the
    box; a pixel counts if its centre lies strictly inside.
    """
    reach = (high - low) / (2 * num_cells)
    return _span(
        math.floor(low - reach + 0.5), math.ceil(high + reach - 0.5), num_pixels
    )


def _box_span(low: float, high: float, num_pixels: int) -> slice:
    """Pixels where semantic logits support a box, rounded as in the release."""
    return _span(math.floor(low) + 1, round(high - 1) + 1, num_pixels)


def _shifted(span: slice, offset: int) -> slice:
    return slice(span.start - offset, span.stop - offset)


def _fuse_instances(
    sem_logits: Tensor,
    rows: _Axis,
    cols: _Axis,
    bboxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    mask_logits: Tensor,
    overlap_thr: float,
    mask_logits_scale: float,
    combine: str,
) -> tuple[Tensor, Tensor, list[int]]:
    """Find the kept instance with the highest fused logits at every pixel.

    The work on an instance stays inside the pixels that its mask reaches.

    Returns:
        The winner's fused logits, (H, W), -inf where there is no instance; the
        winner as index into the third item, (H, W) int32, 0 where there is none;
        indices of the kept instances by descending score.
    """
    height, width = len(rows.low), len(cols.low)
    num_cells = mask_logits.shape[-1]
    best = sem_logits.new_full((height, width), -math.inf)
    winner = torch.zeros_like(best, dtype=torch.int32)
    taken = torch.zeros_like(best, dtype=torch.bool)
    kept = []

    padded_masks = F.pad(mask_logits.float(), (1, 1, 1, 1))
    boxes, classes = bboxes.tolist(), labels.tolist()
    usable = bboxes.isfinite().all(1) & (bboxes[:, 2:] > bboxes[:, :2]).all(1)
    order = scores.argsort(descending=True, stable=True)
    for index in order[usable[order]].tolist():
        x1, y1, x2, y2 = boxes[index]
        region = (
            _mask_span(y1, y2, num_cells, height),
            _mask_span(x1, x2, num_cells, width),
        )
        if any(span.start == span.stop for span in region):
            continue
        from_mask = _sample(
            padded_masks[index],
            _mask_axis(region[0], y1, y2, num_cells, best.device),
            _mask_axis(region[1], x1, x2, num_cells, best.device),
        )
        mask = from_mask > 0
        shared = torch.count_nonzero(mask & taken[region])
        if shared > overlap_thr * torch.count_nonzero(mask):
            continue
        taken[region] |= mask

        # The box lies inside the region: the mask reaches beyond it on every side.
        box = _box_span(y1, y2, height), _box_span(x1, x2, width)
        box_in_region = tuple(
            _shifted(inner, outer.start)
            for inner, outer in zip(box, region, strict=True)
        )
        from_semantic = torch.zeros_like(from_mask)
        from_semantic[box_in_region] = _sample(
            sem_logits[classes[index]], rows.part(box[0]), cols.part(box[1])
        )

        from_mask *= mask_logits_scale
        fused = COMBINATIONS[combine](from_mask, from_semantic)
        winner[region].masked_fill_(fused > best[region], len(kept))
        best[region] = torch.maximum(best[region], fused)
        kept.append(index)
    return best, winner, kept


def _crop_padding(
    sem_logits: Tensor,
    out_shape: tuple[int, int],
    valid_shape: tuple[float, float] | None,
) -> tuple[Tensor, _Axis, _Axis]:
    """Return the cells that show the image, and how to sample them at its pixels."""
    valid_y, valid_x = valid_shape or sem_logits.shape[1:]
    cells = sem_logits[:, : math.ceil(valid_y), : math.ceil(valid_x)].float()
    rows = _image_axis(out_shape[0], valid_y, cells.shape[1], cells.device)
    cols = _image_axis(out_shape[1], valid_x, cells.shape[2], cells.device)
    return cells, rows, cols


def _agreed_classes(cell_logits: Tensor) -> Tensor:
    """Class of a cell if its right and lower neighbours have it too.

    Args:
        cell_logits: Semantic logits, (h, w, C).

    Returns:
        Classes, (h, w) int32, with ``_UNSETTLED`` where they differ.
    """
    classes = cell_logits.argmax(2).int()
    right = torch.cat((classes[:, 1:], classes[:, -1:]), 1)
    pair = classes.where(classes == right, _UNSETTLED)
    below = torch.cat((pair[1:], pair[-1:]))
    return pair.where(pair == below, _UNSETTLED)


def _stripes(out_shape: tuple[int, int], device: torch.device) -> list[slice]:
    """Cut an image into stripes of rows."""
    height, width = out_shape
    num_pixels = _STRIPE_CPU if device.type == 'cpu' else _STRIPE_GPU
    num_rows = max(num_pixels // width, 1)
    return [slice(top, top + num_rows) for top in range(0, height, num_rows)]


def _sample_pixels(
    cell_logits: Tensor, rows: _Axis, cols: _Axis, y: Tensor, x: Tensor
) -> Tensor:
    """Interpolate all classes at single pixels.

    Args:
        cell_logits: Semantic logits, (h, w, C).
        rows: Sampling of the image rows.
        cols: Sampling of the image columns.
        y: Indices into ``rows``, (P,).
        x: Indices into ``cols``, (P,).

    Returns:
        Logits, (P, C).
    """
    num_cols = cell_logits.shape[1]
    top, bottom, weight_y = (values[y] for values in rows)
    left, right, weight_x = (values[x] for values in cols)
    corners = ((top, left), (top, right), (bottom, left), (bottom, right))
    weights = (
        (1 - weight_y) * (1 - weight_x),
        (1 - weight_y) * weight_x,
        weight_y * (1 - weight_x),
        weight_y * weight_x,
    )
    # A weighted sum of four rows of a table: just what this operation does.
    return F.embedding_bag(
        torch.stack([row * num_cols + col for row, col in corners], 1),
        cell_logits.flatten(0, 1),
        mode='sum',
        per_sample_weights=torch.stack(weights, 1),
    )


def _segment_stripe(
    cell_logits: Tensor,
    agreed_classes: Tensor,
    stuff_peak: Tensor,
    rows: _Axis,
    cols: _Axis,
    best: Tensor,
    winner: Tensor,
    num_things: int,
) -> Tensor:
    """Number the segment of every pixel in some rows: class, or C + winner.

    Args:
        cell_logits: Semantic logits, (h, w, C).
        agreed_classes: What ``_agreed_classes`` returned, repeated to (h, W).
        stuff_peak: Highest stuff logit of each cell, interpolated to (h, W).
        rows: Sampling of the image rows wanted.
        cols: Sampling of all image columns.
        best: Fused logits of the winners, (rows, W).
        winner: Winners among the kept instances, (rows, W).
        num_things: Number of thing classes.

    Returns:
        Segment numbers, (rows, W) int32.
    """
    num_classes = cell_logits.shape[2]

    # Settle what low resolution decides.
    segments = agreed_classes.index_select(0, rows.low)
    won = best > _sample_rows(stuff_peak, rows)
    contested = (best > -math.inf) & (segments < num_things)
    unsettled = ((segments == _UNSETTLED) | contested) & ~won
    segments = torch.where(won, winner + num_classes, segments)

    # Interpolate the rest.
    y, x = unsettled.nonzero(as_tuple=True)
    logits = _sample_pixels(cell_logits, rows, cols, y, x)
    won = best[y, x] > logits[:, num_things:].amax(1)
    segments[y, x] = torch.where(
        won, winner[y, x] + num_classes, logits.argmax(1).int()
    )
    return segments


@torch.no_grad()
def semantic_argmax(
    sem_logits: Tensor,
    out_shape: tuple[int, int],
    valid_shape: tuple[float, float] | None = None,
) -> Tensor:
    """Class of every pixel, without logits of all classes at full size.

    The same as resizing the valid logits bilinearly and taking the argmax.

    Args:
        sem_logits: Semantic logits, (C, h, w), at any resolution.
        out_shape: Height and width of the output in pixels.
        valid_shape: As for ``panoptic_fusion``.

    Returns:
        Classes, (H, W) int32.
    """
    sem_logits, rows, cols = _crop_padding(sem_logits, out_shape, valid_shape)
    cell_logits = sem_logits.permute(1, 2, 0).contiguous()
    agreed_classes = _agreed_classes(cell_logits).index_select(1, cols.low)
    classes = agreed_classes.index_select(0, rows.low)
    for stripe in _stripes(out_shape, sem_logits.device):
        y, x = (classes[stripe] == _UNSETTLED).nonzero(as_tuple=True)
        logits = _sample_pixels(cell_logits, rows.part(stripe), cols, y, x)
        classes[stripe][y, x] = logits.argmax(1).int()
    return classes


@torch.no_grad()
def panoptic_fusion(
    sem_logits: Tensor,
    bboxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    mask_logits: Tensor,
    out_shape: tuple[int, int],
    num_things: int,
    *,
    valid_shape: tuple[float, float] | None = None,
    overlap_thr: float = 0.5,
    min_stuff_area: int = 2048,
    mask_logits_scale: float = 4.0,
    combine: str = 'efficientps',
) -> Tensor:
    """Fuse semantic and instance logits into one panoptic map.

    Section 3.4 of the paper. Instances are visited by descending score; one is
    dropped if more than ``overlap_thr`` of its mask (pasted logits > 0) is taken by
    those kept before. Of a kept instance, the pasted mask logits MLA and the semantic
    logits of its class inside its box MLB make the fused logits
    ``(sigmoid(MLA) + sigmoid(MLB)) * (MLA + MLB)``. A pixel belongs to the instance
    with the highest fused logits where these exceed every stuff logit; elsewhere to
    the class of highest semantic logit if that is stuff, and to nothing (void) if it
    is a thing or a stuff class left with too few pixels.

    Differs from the release: an instance wins only pixels that its pasted mask
    reaches; boxes without area or with non-finite coordinates are ignored; no
    instance is lost where no stuff wins; padding is cropped, and the result has the
    size asked for.

    Two facts keep it cheap. Bilinear interpolation makes weighted means, so where the
    four cells around a pixel have the same class, so has the pixel; and the
    interpolated maximum of the stuff logits is never below the maximum of the
    interpolated ones, and equal to it where one stuff class leads in all four cells.
    Only the remaining pixels are interpolated over all classes.

    Args:
        sem_logits: Semantic logits, (C, h, w), things first, at any resolution.
        bboxes: Boxes, (N, 4), as x1, y1, x2, y2 in pixels of the output. Coordinates
            are continuous: pixel i covers [i, i + 1].
        scores: Detection scores, (N,).
        labels: Thing classes, (N,), integers in [0, ``num_things``).
        mask_logits: Mask logits of each box's own class, (N, m, m).
        out_shape: Height and width of the output in pixels.
        num_things: Number of thing classes; the other channels are stuff.
        valid_shape: Height and width of the part of ``sem_logits`` that shows the
            image, from the upper left corner, in cells, not necessarily whole. The
            rest is padding. Defaults to all of it.
        overlap_thr: Largest share of a mask that may be taken already.
        min_stuff_area: Stuff classes with fewer pixels become void.
        mask_logits_scale: Factor of the mask logits in MLA; 4 in the release.
        combine: How MLA and MLB make the fused logits, a key of ``COMBINATIONS``:
            'efficientps' as above; 'sum', ``MLA + MLB``, as UPSNet does; 'product',
            ``MLA * MLB`` where both are positive, ``-|MLA * MLB|`` elsewhere.

    Returns:
        Panoptic map, (H, W) int32: ``label + k * INSTANCE_OFFSET`` for the k-th kept
        instance (k = 1, 2, ...), the class for stuff, C for void.

    Raises:
        ValueError: ``sem_logits`` has no stuff channel.
    """
    num_classes = len(sem_logits)
    if num_classes <= num_things:
        raise ValueError(
            f'sem_logits has {num_classes} channels, but {num_things} thing classes '
            'and at least one stuff class are needed'
        )
    sem_logits, rows, cols = _crop_padding(sem_logits, out_shape, valid_shape)
    best, winner, kept = _fuse_instances(
        sem_logits,
        rows,
        cols,
        bboxes,
        scores,
        labels,
        mask_logits,
        overlap_thr,
        mask_logits_scale,
        combine,
    )

    # One map numbers the segments: classes first, then kept instances.
    cell_logits = sem_logits.permute(1, 2, 0).contiguous()
    agreed_classes = _agreed_classes(cell_logits).index_select(1, cols.low)
    stuff_peak = _sample_cols(sem_logits[num_things:].amax(0), cols)
    segments = torch.empty_like(winner)
    for stripe in _stripes(out_shape, sem_logits.device):
        segments[stripe] = _segment_stripe(
            cell_logits,
            agreed_classes,
            stuff_peak,
            rows.part(stripe),
            cols,
            best[stripe],
            winner[stripe],
            num_things,
        )

    # Translate segments to the panoptic encoding.
    areas = segments.flatten().bincount(minlength=num_classes + len(kept))
    codes = torch.arange(num_classes, device=segments.device)
    codes[(codes < num_things) | (areas[:num_classes] < min_stuff_area)] = num_classes
    ranks = torch.arange(1, len(kept) + 1, device=segments.device)
    codes = torch.cat((codes, labels[kept] + ranks * INSTANCE_OFFSET)).int()
    return codes.index_select(0, segments.flatten()).view(out_shape)
