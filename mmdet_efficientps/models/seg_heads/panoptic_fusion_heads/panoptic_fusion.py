# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Parameter-free panoptic fusion of EfficientPS as a function on tensors."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from torch import Tensor

from mmdet_efficientps.structures.bilinear_sampling import (
    Axis,
    clipped_span,
    image_axis,
    sample,
    sample_columns,
    sample_points,
    sample_rows,
)
from mmdet_efficientps.structures.roi_masks import (
    LARGEST_LOGIT,
    finite_logits,
    is_usable,
    paste,
)

# Marks a pixel whose four surrounding semantic cells disagree about the class.
_UNSETTLED = -1
# Pixels labelled at once, which changes no result. On the CPU few enough to stay
# in the cache. A GPU waits at the end of every stripe: there 1024x2048 pixels are one.
_STRIPE_CPU = 1 << 17
_STRIPE_GPU = 1 << 21


def efficientps_logits(mla: Tensor, mlb: Tensor) -> Tensor:
    """Section 3.4 of the paper: sum of the confidences times sum of the logits.

    Examples:
        >>> efficientps_logits(torch.tensor([0., 0.]), torch.tensor([0., 100.]))
        tensor([  0., 150.])
    """
    return (mla.sigmoid() + mlb.sigmoid()) * (mla + mlb)


def product_logits(mla: Tensor, mlb: Tensor) -> Tensor:
    """Product of the logits, negative if one of them or both are negative.

    Examples:
        >>> product_logits(torch.tensor([2., 2., -2.]), torch.tensor([3., -3., -3.]))
        tensor([ 6., -6., -6.])
    """
    return torch.copysign(mla * mlb, torch.minimum(mla, mlb))


# Fused logits of an instance from its mask logits MLA and semantic logits MLB.
COMBINATIONS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    'efficientps': efficientps_logits,
    'sum': torch.add,
    'product': product_logits,
}


class Fused(NamedTuple):
    """A panoptic map, and where its instances are from.

    Attributes:
        panoptic (Tensor): (H, W), int32: ``label + k * INSTANCE_OFFSET`` for the k-th
            instance (k = 1, 2, ...), the class for stuff, the number of classes for
            void.
        detections (list[int] | None): The detection that instance k is, at k - 1; not
            each of them needs to have pixels. None if the method does not tell.
    """

    panoptic: Tensor
    detections: list[int] | None


def check_labels(labels: Tensor, num_things: int) -> None:
    """Raise a ValueError if a detection is of no thing class.

    Args:
        labels (Tensor): Classes of detections, (N, ), integers.
        num_things (int): Number of thing classes.
    """
    wrong = labels[(labels < 0) | (labels >= num_things)]
    if len(wrong):
        raise ValueError(
            f'a detection is of class {int(wrong[0])}, but there are {num_things} '
            'thing classes: make num_classes of roi_head.bbox_head and '
            'roi_head.mask_head the num_things_classes of panoptic_fusion_head'
        )


def _box_span(start: float, stop: float, num_pixels: int) -> slice:
    """Pixels where semantic logits support a box, rounded as in the release."""
    return clipped_span(math.floor(start) + 1, round(stop - 1) + 1, num_pixels)


def _shifted(span: slice, offset: int) -> slice:
    return slice(span.start - offset, span.stop - offset)


def _fuse_instances(
    sem_logits: Tensor,
    rows: Axis,
    columns: Axis,
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
    shape = height, width = len(rows.low), len(columns.low)
    best = sem_logits.new_full(shape, -math.inf)
    winner = torch.zeros_like(best, dtype=torch.int32)
    taken = torch.zeros_like(best, dtype=torch.bool)
    kept: list[int] = []

    boxes, classes = bboxes.tolist(), labels.tolist()
    usable = is_usable(bboxes, scores, mask_logits)
    mask_logits = finite_logits(mask_logits)
    order = scores.argsort(descending=True, stable=True)
    for index in order[usable[order]].tolist():
        from_mask, region = paste(mask_logits[index], boxes[index], shape)
        mask = from_mask > 0
        area = torch.count_nonzero(mask)
        shared = torch.count_nonzero(mask & taken[region])
        if (area == 0) | (shared > overlap_thr * area):
            continue
        taken[region] |= mask

        # The box lies inside the region: the mask reaches beyond it on every side.
        x1, y1, x2, y2 = boxes[index]
        box = _box_span(y1, y2, height), _box_span(x1, x2, width)
        box_in_region = tuple(
            _shifted(inner, outer.start)
            for inner, outer in zip(box, region, strict=True)
        )
        from_semantic = torch.zeros_like(from_mask)
        from_semantic[box_in_region] = sample(
            sem_logits[classes[index]], rows.part(box[0]), columns.part(box[1])
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
) -> tuple[Tensor, Axis, Axis]:
    """Return the cells that show the image, and how to sample them at its pixels."""
    valid_y, valid_x = valid_shape or sem_logits.shape[1:]
    cells = sem_logits[:, : math.ceil(valid_y), : math.ceil(valid_x)].float()
    # The sum tells without another map whether one of them is NaN or infinite.
    if not cells.sum().isfinite():
        cells = finite_logits(cells)
    rows = image_axis(out_shape[0], valid_y, cells.shape[1], cells.device)
    columns = image_axis(out_shape[1], valid_x, cells.shape[2], cells.device)
    return cells, rows, columns


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


def _segment_stripe(
    cell_logits: Tensor,
    agreed_classes: Tensor,
    stuff_peak: Tensor,
    rows: Axis,
    columns: Axis,
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
        columns: Sampling of all image columns.
        best: Fused logits of the winners, (rows, W).
        winner: Winners among the kept instances, (rows, W).
        num_things: Number of thing classes.

    Returns:
        Segment numbers, (rows, W) int32.
    """
    num_classes = cell_logits.shape[2]

    # Settle what low resolution decides.
    segments = agreed_classes.index_select(0, rows.low)
    won = best > sample_rows(stuff_peak, rows)
    contested = (best > -math.inf) & (segments < num_things)
    unsettled = ((segments == _UNSETTLED) | contested) & ~won
    segments = torch.where(won, winner + num_classes, segments)

    # Interpolate the rest.
    y, x = unsettled.nonzero(as_tuple=True)
    logits = sample_points(cell_logits, rows, columns, y, x)
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
        Classes, (H, W) int32. A logit that is NaN is the lowest.

    Examples:
        At the centre of pixel 1, a quarter of the way from one cell to the next, the
        logits are 3 and 1; at that of pixel 2 they are 1 and 3.

        >>> semantic_argmax(torch.tensor([[[4., 0.]], [[0., 4.]]]), (1, 4))
        tensor([[0, 0, 1, 1]], dtype=torch.int32)
    """
    sem_logits, rows, columns = _crop_padding(sem_logits, out_shape, valid_shape)
    cell_logits = sem_logits.permute(1, 2, 0).contiguous()
    agreed_classes = _agreed_classes(cell_logits).index_select(1, columns.low)
    classes = agreed_classes.index_select(0, rows.low)
    for stripe in _stripes(out_shape, sem_logits.device):
        y, x = (classes[stripe] == _UNSETTLED).nonzero(as_tuple=True)
        logits = sample_points(cell_logits, rows.part(stripe), columns, y, x)
        classes[stripe][y, x] = logits.argmax(1).int()
    return classes


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
    reaches; no instance is lost where no stuff wins; padding is cropped, and the
    result has the size asked for. What a broken network predicts harms nothing else:
    detections are ignored whose box has no area, whose score is not finite, or whose
    mask is nowhere positive or has a NaN; a semantic logit that is NaN is the lowest.

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
        mask_logits_scale: Factor of the mask logits in MLA. Defaults to 4, as in the
            release; the paper has no such factor, which is 1.
        combine: How MLA and MLB make the fused logits, a key of ``COMBINATIONS``:
            'efficientps' as above; 'sum', ``MLA + MLB``, as UPSNet does; 'product',
            ``MLA * MLB`` where both are positive, ``-|MLA * MLB|`` elsewhere.
            ``mask_logits_scale`` counts in all of them.

    Returns:
        Panoptic map, (H, W) int32: ``label + k * INSTANCE_OFFSET`` for the k-th kept
        instance (k = 1, 2, ...), the class for stuff, C for void.
        :func:`fuse_segments` tells which detections these are.

    Raises:
        ValueError: ``sem_logits`` has fewer channels than there are thing classes, or
            a label is none of these.

    Examples:
        A thing whose mask fills the first two of four pixels, on stuff of class 1:

        >>> panoptic_fusion(
        ...     sem_logits=torch.tensor([[[0.]], [[5.]]]),
        ...     bboxes=torch.tensor([[0., 0., 2., 1.]]),
        ...     scores=torch.tensor([0.9]),
        ...     labels=torch.tensor([0]),
        ...     mask_logits=torch.full((1, 8, 8), 9.),
        ...     out_shape=(1, 4),
        ...     num_things=1,
        ...     min_stuff_area=1,
        ... )
        tensor([[1000, 1000,    1,    1]], dtype=torch.int32)
    """
    return fuse_segments(
        sem_logits,
        bboxes,
        scores,
        labels,
        mask_logits,
        out_shape,
        num_things,
        valid_shape=valid_shape,
        overlap_thr=overlap_thr,
        min_stuff_area=min_stuff_area,
        mask_logits_scale=mask_logits_scale,
        combine=combine,
    ).panoptic


@torch.no_grad()
def fuse_segments(
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
) -> Fused:
    """Fuse, and tell which detections the instances of the map are.

    Args:
        sem_logits: This and all others as for :func:`panoptic_fusion`.
        bboxes: See there.
        scores: See there.
        labels: See there.
        mask_logits: See there.
        out_shape: See there.
        num_things: See there.
        valid_shape: See there.
        overlap_thr: See there.
        min_stuff_area: See there.
        mask_logits_scale: See there.
        combine: See there.

    Returns:
        The panoptic map and the detections of its instances.

    Raises:
        ValueError: As :func:`panoptic_fusion`.
    """
    void = len(sem_logits)
    if void < num_things:
        raise ValueError(
            f'sem_logits has {void} channels, but there are {num_things} thing '
            'classes: make semantic_head.num_things_classes the num_things_classes '
            'of panoptic_fusion_head'
        )
    check_labels(labels, num_things)
    sem_logits, rows, columns = _crop_padding(sem_logits, out_shape, valid_shape)
    if void == num_things:
        # No stuff at all: void takes its place, and loses against every instance.
        lowest = sem_logits.new_full((1, *sem_logits.shape[1:]), -LARGEST_LOGIT)
        sem_logits = torch.cat((sem_logits, lowest))
    num_classes = len(sem_logits)
    best, winner, kept = _fuse_instances(
        sem_logits,
        rows,
        columns,
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
    agreed_classes = _agreed_classes(cell_logits).index_select(1, columns.low)
    stuff_peak = sample_columns(sem_logits[num_things:].amax(0), columns)
    segments = torch.empty_like(winner)
    for stripe in _stripes(out_shape, sem_logits.device):
        segments[stripe] = _segment_stripe(
            cell_logits,
            agreed_classes,
            stuff_peak,
            rows.part(stripe),
            columns,
            best[stripe],
            winner[stripe],
            num_things,
        )

    # Translate segments to the panoptic encoding.
    areas = segments.flatten().bincount(minlength=num_classes + len(kept))
    encoded = torch.arange(num_classes, device=segments.device)
    encoded[(encoded < num_things) | (areas[:num_classes] < min_stuff_area)] = void
    ranks = torch.arange(1, len(kept) + 1, device=segments.device)
    encoded = torch.cat((encoded, labels[kept] + ranks * INSTANCE_OFFSET)).int()
    return Fused(encoded.index_select(0, segments.flatten()).view(out_shape), kept)
