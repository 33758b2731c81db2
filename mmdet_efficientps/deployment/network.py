# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A trained EfficientPS as a function of tensors, in the form that exporters take.

mmdet's heads work on lists of objects and branch on what they find. Here the same
computation, for one image, is written without either: :class:`DeployedNetwork`. What
PyTorch has no operator for, proposals and RoI features, are operators of our own
(``torch.ops.mmdet_efficientps``) that compute what mmcv computes and that an exporter
translates.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmcv.ops import RoIAlign, nms, roi_align
from mmdet.models.dense_heads import RPNHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.models.task_modules.coders import DeltaXYWHBBoxCoder
from mmengine.model import revert_sync_batchnorm
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmdet_efficientps.models import (
    EfficientPS,
    EfficientPSFusionHead,
    EfficientPSRoIHead,
    EfficientPSSemanticHead,
    InclusiveDeltaXYWHBBoxCoder,
    InclusiveRoIExtractor,
)
from mmdet_efficientps.models.inference import fold_norms
from mmdet_efficientps.models.seg_heads.efficientps_semantic_head import MC

# Sides of the network input are multiples of this.
PAD_DIVISOR = 32


class UnsupportedNetworkError(ValueError):
    """A network that cannot be exported; the message says which part of it and why."""


@torch.library.custom_op('mmdet_efficientps::top_k', mutates_args=())
def top_k(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Choose the largest values.

    Args:
        scores (Tensor): Shape (N,).
        k (int): How many; all of them if there are fewer.

    Returns:
        tuple[Tensor, Tensor]: The values, largest first, and their places, int64. Of
        equal values the first one comes first.
    """
    values, places = scores.sort(descending=True, stable=True)
    return values[:k].clone(), places[:k].clone()


@top_k.register_fake
def _(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    size = torch.sym_min(scores.shape[0], k)
    return scores.new_empty(size), scores.new_empty(size, dtype=torch.int64)


@torch.library.custom_op('mmdet_efficientps::nms', mutates_args=())
def non_maximum_suppression(
    boxes: Tensor, scores: Tensor, iou_thr: float, score_thr: float, max_boxes: int
) -> Tensor:
    """Choose boxes that overlap no better one too much.

    Args:
        boxes (Tensor): Shape (N, 4), x1, y1, x2, y2; as wide as x2 - x1.
        scores (Tensor): Shape (N,).
        iou_thr (float): Boxes that overlap a better one by more are left out.
        score_thr (float): Boxes with at most this score are left out.
        max_boxes (int): How many to choose at most.

    Returns:
        Tensor: Indices of the chosen boxes, best first, shape (M,), int64.
    """
    good = (scores > score_thr).nonzero().squeeze(1)
    _, keep = nms(boxes[good], scores[good], iou_thr)
    return good[keep[:max_boxes]]


@non_maximum_suppression.register_fake
def _(
    boxes: Tensor, scores: Tensor, iou_thr: float, score_thr: float, max_boxes: int
) -> Tensor:
    size = torch.library.get_ctx().new_dynamic_size()
    return scores.new_empty(size, dtype=torch.int64)


@torch.library.custom_op('mmdet_efficientps::roi_align', mutates_args=())
def align_rois(
    features: Tensor,
    boxes: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Average the features in the cells of a grid in each box.

    Args:
        features (Tensor): Shape (1, C, h, w).
        boxes (Tensor): Shape (M, 4), x1, y1, x2, y2.
        height (int): Cells from top to bottom.
        width (int): Cells from left to right.
        spatial_scale (float): Factor from pixels to cells of ``features``.
        sampling_ratio (int): Samples in a cell along each side, 0 for as many as it
            is long.
        aligned (bool): Whether cell i of ``features`` covers [i, i + 1]; otherwise its
            centre is at i, and boxes are at least one cell wide and high.

    Returns:
        Tensor: Shape (M, C, height, width).
    """
    rois = F.pad(boxes, (1, 0))
    size = (height, width)
    return roi_align(
        features, rois, size, spatial_scale, sampling_ratio, 'avg', aligned
    )


@align_rois.register_fake
def _(
    features: Tensor,
    boxes: Tensor,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    return features.new_empty(boxes.shape[0], features.shape[1], height, width)


class Prediction(NamedTuple):
    """What a :class:`DeployedNetwork` computes, boxes as x1, y1, x2, y2 in pixels.

    The first five are the result; the others are what lies between the parts of the
    network, by which an exported one is checked.

    Attributes:
        bboxes (Tensor): Boxes of the detections, (M, 4).
        scores (Tensor): Their scores, descending, (M,).
        labels (Tensor): Their classes, (M,), int64.
        mask_logits (Tensor): Their mask logits, (M, m, m).
        seg_logits (Tensor): Semantic logits at stride 4, things first, (C, h, w).
        rpn_logits (tuple[Tensor, ...]): Logits of the anchors of each level,
            (1, A, h, w).
        rpn_deltas (tuple[Tensor, ...]): Deltas of the anchors of each level,
            (1, 4 * A, h, w).
        anchors (Tensor): Boxes of the best anchors of each level, level by level,
            (K, 4).
        anchor_scores (Tensor): Their scores, (K,); -1 if they are too small.
        proposals (Tensor): Indices of those that the RoI head looks at, (P,), int64.
        class_logits (Tensor): Logits of the proposals, background last, (P, T + 1).
        box_deltas (Tensor): Their deltas, (P, 4 * T), or (P, 4) if class agnostic.
        candidates (Tensor): Boxes of all classes with a sufficient score, (N, 4).
        candidate_scores (Tensor): Their scores, (N,).
        candidate_labels (Tensor): Their classes, (N,), int64.
        detections (Tensor): Indices of those that are detections, (M,), int64.
    """

    bboxes: Tensor
    scores: Tensor
    labels: Tensor
    mask_logits: Tensor
    seg_logits: Tensor
    rpn_logits: tuple[Tensor, ...]
    rpn_deltas: tuple[Tensor, ...]
    anchors: Tensor
    anchor_scores: Tensor
    proposals: Tensor
    class_logits: Tensor
    box_deltas: Tensor
    candidates: Tensor
    candidate_scores: Tensor
    candidate_labels: Tensor
    detections: Tensor


class DeployedNetwork(nn.Module):
    """The prediction of an EfficientPS for one image, up to the fusion.

    The computation is that of :meth:`EfficientPS.predict`, arranged such that it can be
    exported and is fast: see :class:`_FixedRatios` and :func:`_semantic_logits`.

    Args:
        model (EfficientPS): The network. It is copied.

    Raises:
        UnsupportedNetworkError: If it is no EfficientPS, or has a part that does not
            occur in the configs of this package.
    """

    backbone: nn.Module
    neck: nn.Module
    semantic_head: nn.Module
    rpn_head: Any
    roi_head: Any
    score_thr: Tensor

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        check_supported(model)
        plain: Any = with_plain_layers(model)
        self.backbone = plain.backbone
        self.neck = plain.neck
        self.semantic_head = plain.semantic_head
        self.rpn_head = plain.rpn_head
        self.roi_head = plain.roi_head
        # A tensor, so that it can be changed in an exported network; of a shape that no
        # other constant has, as those that are equal become one.
        score_thr = torch.full((1, 1), float(self.roi_head.test_cfg.score_thr))
        self.register_buffer('score_thr', score_thr)
        self.requires_grad_(False).eval()

    def forward(self, image: Tensor, image_size: Tensor) -> Prediction:
        """Predict.

        Args:
            image (Tensor): Shape (1, 3, H, W), float32, normalised, padded at the right
                and bottom; H and W are multiples of 32.
            image_size (Tensor): Height and width without the padding, (2,), int64.

        Returns:
            Prediction: What is predicted; boxes end at the borders of the image.
        """
        with _FixedRatios():
            features = self.neck(self.backbone(image))
            seg_logits = _semantic_logits(self.semantic_head, features)[0]
        rpn_logits, rpn_deltas = (tuple(levels) for levels in self.rpn_head(features))
        anchors, anchor_scores, proposals = self._propose(
            rpn_logits, rpn_deltas, image_size
        )
        boxes = anchors.index_select(0, proposals)
        class_logits, box_deltas = self._classify(features, boxes)
        candidates = self._candidates(boxes, class_logits, box_deltas, image_size)
        detections = self._detect(*candidates)
        bboxes, scores, labels = (x.index_select(0, detections) for x in candidates)
        return Prediction(
            bboxes,
            scores,
            labels,
            self._masks(features, bboxes, labels),
            seg_logits,
            rpn_logits,
            rpn_deltas,
            anchors,
            anchor_scores,
            proposals,
            class_logits,
            box_deltas,
            *candidates,
            detections,
        )

    def _propose(
        self,
        rpn_logits: Sequence[Tensor],
        rpn_deltas: Sequence[Tensor],
        image_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes that may hold something, their scores, and indices of the chosen."""
        head, cfg = self.rpn_head, self.rpn_head.test_cfg
        anchors = head.prior_generator.grid_priors(
            [level.shape[-2:] for level in rpn_logits], device=rpn_logits[0].device
        )
        scores, boxes, levels = [], [], []
        for level, (logits, deltas, priors) in enumerate(
            zip(rpn_logits, rpn_deltas, anchors, strict=True)
        ):
            # Not `sigmoid`: that of ONNX Runtime ends at -18, and what is below would
            # lose its order.
            flat = 1 / (1 + torch.exp(-logits[0].permute(1, 2, 0).flatten()))
            k = cfg.get('nms_pre', -1)
            best, index = top_k(flat, k if k > 0 else 2**31)
            scores.append(best)
            boxes.append(
                decode(
                    head.bbox_coder,
                    priors.index_select(0, index),
                    deltas[0].permute(1, 2, 0).reshape(-1, 4).index_select(0, index),
                    image_size,
                )
            )
            levels.append(torch.full_like(best, level))
        all_scores, all_boxes = torch.cat(scores), torch.cat(boxes)
        min_size = cfg.get('min_bbox_size', -1)
        if min_size >= 0:
            sides = all_boxes[:, 2:] - all_boxes[:, :2]
            small = (sides <= min_size).any(dim=1)
            all_scores = torch.where(small, -1.0, all_scores)
            # Not counted for the largest coordinate, either.
            all_boxes = torch.where(small[:, None], 0.0, all_boxes)
        keep = _nms_by_group(
            all_boxes, all_scores, torch.cat(levels), cfg.nms, cfg.max_per_img
        )
        return all_boxes, all_scores, keep

    def _classify(
        self, features: Sequence[Tensor], proposals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Class logits and box deltas of proposals."""
        rois, place = _roi_features(
            self.roi_head.bbox_roi_extractor, features, proposals
        )
        class_logits, box_deltas = self.roi_head.bbox_head(rois)
        return class_logits.index_select(0, place), box_deltas.index_select(0, place)

    def _candidates(
        self,
        boxes: Tensor,
        class_logits: Tensor,
        box_deltas: Tensor,
        image_size: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Boxes, scores and labels that may be detections."""
        head = self.roi_head.bbox_head
        all_scores = class_logits.softmax(dim=1)[:, : head.num_classes]
        # Only what counts is decoded.
        index, labels = (all_scores > self.score_thr).nonzero().unbind(1)
        deltas = box_deltas.unflatten(1, (-1, 4))
        candidates = decode(
            head.bbox_coder,
            boxes.index_select(0, index),
            deltas[index, 0 if head.reg_class_agnostic else labels],
            image_size,
        )
        return candidates, all_scores[index, labels], labels

    def _detect(self, boxes: Tensor, scores: Tensor, labels: Tensor) -> Tensor:
        """Indices of what is detected."""
        cfg = self.roi_head.test_cfg
        return _nms_by_group(
            boxes, scores, labels.to(boxes.dtype), cfg.nms, cfg.max_per_img
        )

    def _masks(
        self, features: Sequence[Tensor], bboxes: Tensor, labels: Tensor
    ) -> Tensor:
        """Mask logits of detections."""
        rois, place = _roi_features(self.roi_head.mask_roi_extractor, features, bboxes)
        head = self.roi_head.mask_head
        logits = head(rois).index_select(0, place)
        if head.class_agnostic:
            return logits[:, 0]
        index = labels[:, None, None, None].expand(-1, 1, *logits.shape[2:])
        return logits.gather(1, index)[:, 0]


def decode(coder: Any, boxes: Tensor, deltas: Tensor, image_size: Tensor) -> Tensor:
    """Apply deltas to boxes and clip them to the image.

    Args:
        coder (DeltaXYWHBBoxCoder | InclusiveDeltaXYWHBBoxCoder): Gives means, standard
            deviations and convention.
        boxes (Tensor): Shape (N, 4), x1, y1, x2, y2.
        deltas (Tensor): Shape (N, 4), dx, dy, dw, dh.
        image_size (Tensor): Height and width of the image, (2,), int64.

    Returns:
        Tensor: Boxes, (N, 4).
    """
    inclusive = int(isinstance(coder, InclusiveDeltaXYWHBBoxCoder))
    means, stds = boxes.new_tensor(coder.means), boxes.new_tensor(coder.stds)
    deltas = deltas * stds + means
    start, end = boxes[:, :2], boxes[:, 2:] + inclusive
    size, centre = end - start, (start + end) * 0.5
    centre = centre + size * deltas[:, :2]
    # wh_ratio_clip, which no config of mmdet changes.
    largest = -torch.log(torch.tensor(16 / 1000, dtype=torch.float64)).item()
    half = size * deltas[:, 2:].clamp(-largest, largest).exp() * 0.5
    corners = torch.cat([centre - half, centre + half - inclusive], dim=1)
    last = image_size.flip(0).repeat(2).to(boxes.dtype) - inclusive
    return corners.clamp(min=0).minimum(last)


def _nms_by_group(
    boxes: Tensor, scores: Tensor, groups: Tensor, cfg: dict, max_boxes: int
) -> Tensor:
    """Suppress boxes by better ones of their group, as :func:`mmcv.ops.batched_nms`.

    Args:
        boxes (Tensor): Shape (N, 4), not negative.
        scores (Tensor): Shape (N,); boxes with a negative one do not count.
        groups (Tensor): Number of the group of each box, (N,), of the type of boxes.
        cfg (dict): Config of the NMS.
        max_boxes (int): How many to keep at most, not positive for all.

    Returns:
        Tensor: Indices of the kept boxes, best first, shape (M,), int64.
    """
    if not cfg.get('class_agnostic', False):
        # The zero is for there being no boxes.
        largest = torch.cat([boxes.flatten(), boxes.new_zeros(1)]).amax(0)
        boxes = boxes + (groups * (largest + 1))[:, None]
    if cfg.get('offset', 0):
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    limits = [n for n in (max_boxes, cfg.get('max_num', -1)) if n > 0]
    score_thr = cfg.get('score_threshold', 0)
    return non_maximum_suppression(
        boxes,
        scores,
        float(cfg['iou_threshold']),
        float(score_thr) if score_thr > 0 else -0.5,
        min(limits, default=2**31),
    )


def _roi_features(
    extractor: SingleRoIExtractor, features: Sequence[Tensor], boxes: Tensor
) -> tuple[Tensor, Tensor]:
    """Features of boxes, each from the level of its size.

    Args:
        extractor (SingleRoIExtractor): What the network has for it.
        features (Sequence[Tensor]): Features of each level, (1, C, h, w).
        boxes (Tensor): Shape (M, 4), x1, y1, x2, y2.

    Returns:
        tuple[Tensor, Tensor]: The features, (M, C, height, width), ordered by level,
        and the place of each box in them, (M,). What is made of the features is smaller
        and put in order for less.
    """
    if isinstance(extractor, InclusiveRoIExtractor):
        boxes = boxes + boxes.new_tensor([0, 0, 1, 1])
    features = features[: len(extractor.roi_layers)]
    sides = boxes[:, 2:] - boxes[:, :2]
    # Level i is for log2(...) in [i, i + 1). Powers of two are compared exactly, where
    # runtimes differ in how they round a logarithm.
    size = (sides[:, 0] * sides[:, 1]).sqrt() / extractor.finest_scale + 1e-6
    level = torch.zeros_like(size, dtype=torch.int64)
    for i in range(1, len(features)):
        level = level + (size >= 2.0**i)
    parts, places = [], []
    for i, (layer, level_features) in enumerate(
        zip(extractor.roi_layers, features, strict=True)
    ):
        index = (level == i).nonzero().squeeze(1)
        parts.append(
            align_rois(
                level_features,
                boxes.index_select(0, index),
                *layer.output_size,
                layer.spatial_scale,
                layer.sampling_ratio,
                layer.aligned,
            )
        )
        places.append(index)
    # Boxes in the order of the features; its inverse gives where a box is.
    order = torch.cat(places)
    place = torch.zeros_like(level).scatter(
        0, order, torch.arange(order.shape[0], device=order.device)
    )
    return torch.cat(parts), place


def _semantic_logits(head: Any, features: Sequence[Tensor]) -> Tensor:
    """Semantic logits, (1, C, h, w), at stride 4.

    The last layer of :class:`EfficientPSSemanticHead` is a 1x1 conv of features that
    were resized bilinearly and joined. Either order of the two gives the same, as the
    weights of a resize add up to 1: here each part goes through its share of the conv
    at its own size, and the few channels of the logits are resized.
    """
    if not isinstance(head, EfficientPSSemanticHead):
        return head(features)['seg_preds']
    p4, p8, p16, p32 = features
    d32 = head.dpc32(p32)
    d16 = head.dpc16(p16)
    sum16 = d16 + _resize(d32, d16)
    mc8, mc4 = head.mc8, head.mc4
    l8 = head.lsfe8(p8) + _resize(
        mc8.convs(sum16) if isinstance(mc8, MC) else sum16, p8
    )
    l4 = head.lsfe4(p4)
    to4 = mc4.convs(l8) if isinstance(mc4, MC) else l8
    weight, bias = head.conv_logits.weight, head.conv_logits.bias
    w4, w8, w16, w32 = weight.chunk(4, dim=1)
    parts = F.conv2d(l8, w8) + F.conv2d(to4, w4), F.conv2d(d16, w16), F.conv2d(d32, w32)
    return sum((_resize(part, p4) for part in parts), F.conv2d(l4, w4, bias))


def _resize(x: Tensor, reference: Tensor) -> Tensor:
    """Bilinear resize to the height and width of a reference."""
    return F.interpolate(
        x, size=reference.shape[-2:], mode='bilinear', align_corners=False
    )


class _FixedRatios(TorchFunctionMode):
    """Resizes to given sizes become resizes by the ratio of the sizes.

    Within a network whose input is a multiple of 32 they are powers of two. With these,
    ONNX Runtime keeps the layout that its convs work in, and halving is a pooling.
    """

    def __torch_function__(self, func, types, args=(), kwargs=None):
        """Call a function of PyTorch, or what stands for it."""
        kwargs = kwargs or {}
        if func is not F.interpolate or kwargs.get('size') is None:
            return func(*args, **kwargs)
        (x,), size = args, kwargs['size']
        options = {**kwargs, 'size': None}
        if _is_multiple(size, x.shape[-2:], 1):
            return x
        for ratio in (2, 4, 8):
            if _is_multiple(size, x.shape[-2:], ratio):
                return func(x, **{**options, 'scale_factor': float(ratio)})
            if kwargs['mode'] == 'nearest' and _is_multiple(x.shape[-2:], size, ratio):
                return F.max_pool2d(x, 1, ratio)
        return func(*args, **kwargs)


def _is_multiple(size: Sequence[Any], of: Sequence[Any], ratio: int) -> bool:
    """Whether a size is so many times another one; of symbols, as they are traced."""
    return all(
        _value(side) == ratio * _value(other)
        for side, other in zip(size, of, strict=True)
    )


def _value(size: Any) -> int:
    """The number, or what a symbol stands for in the image that is traced."""
    return size.node.hint if isinstance(size, torch.SymInt) else size


def check_supported(model: Any) -> None:
    """Refuse networks that a :class:`DeployedNetwork` cannot stand for.

    Args:
        model (nn.Module): Any network.

    Raises:
        UnsupportedNetworkError: If it is one; names the field of the config.
    """
    if not isinstance(model, EfficientPS):
        raise UnsupportedNetworkError(
            f'model.type is {type(model).__name__}: only networks of type EfficientPS '
            'can be exported'
        )

    def need(field: str, part: object, *types: type) -> None:
        if not isinstance(part, types):
            raise UnsupportedNetworkError(
                f'model.{field}.type is {type(part).__name__}, which cannot be '
                f'exported: it must be {" or ".join(t.__name__ for t in types)}'
            )

    coders = (DeltaXYWHBBoxCoder, InclusiveDeltaXYWHBBoxCoder)
    rpn_head, roi_head = model.rpn_head, model.roi_head
    need('rpn_head', rpn_head, RPNHead)
    need('rpn_head.bbox_coder', rpn_head.bbox_coder, *coders)
    need('roi_head', roi_head, EfficientPSRoIHead)
    need('roi_head.bbox_head', roi_head.bbox_head, BBoxHead)
    need('roi_head.bbox_head.bbox_coder', roi_head.bbox_head.bbox_coder, *coders)
    need('roi_head.mask_head', roi_head.mask_head, FCNMaskHead)
    for name in ('bbox_roi_extractor', 'mask_roi_extractor'):
        extractor = getattr(roi_head, name)
        need(f'roi_head.{name}', extractor, SingleRoIExtractor)
        layer = extractor.roi_layers[0]
        need(f'roi_head.{name}.roi_layer', layer, RoIAlign)
        if layer.pool_mode != 'avg':
            raise UnsupportedNetworkError(
                f'model.roi_head.{name}.roi_layer.pool_mode is {layer.pool_mode!r}, '
                "which cannot be exported: it must be 'avg'"
            )
    fusion = model.panoptic_fusion_head
    if type(fusion) is not EfficientPSFusionHead:
        raise UnsupportedNetworkError(
            f'model.panoptic_fusion_head.type is {type(fusion).__name__}, which the '
            'runtime without PyTorch does not have: it must be EfficientPSFusionHead'
        )
    for field, cfg in (('rpn', rpn_head.test_cfg), ('rcnn', roi_head.test_cfg)):
        kind = cfg.nms.get('type', 'nms')
        if kind != 'nms':
            raise UnsupportedNetworkError(
                f'model.test_cfg.{field}.nms.type is {kind!r}, which cannot be '
                "exported: it must be 'nms'"
            )


def with_plain_layers(model: nn.Module) -> nn.Module:
    """Copy a network with layers of PyTorch that compute the same in evaluation.

    Args:
        model (nn.Module): The network.

    Returns:
        nn.Module: A copy whose batch norms are part of the convs before them, iABN
        leaves its activation, and convs with padding as in TensorFlow have the padding
        of even sizes.
    """
    model = revert_sync_batchnorm(copy.deepcopy(model).eval())
    fold_norms(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, Conv2dAdaptivePadding):
                setattr(parent, name, _plain_conv(layer))
    return model


def _plain_conv(layer: Conv2dAdaptivePadding) -> nn.Module:
    """Conv with padding that computes the same where strides divide the sizes."""
    totals = [
        max(d * (k - 1) + 1 - s, 0)
        for k, s, d in zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ]
    even = all(total % 2 == 0 for total in totals)
    conv = nn.Conv2d(
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        layer.stride,
        tuple(total // 2 for total in totals) if even else 0,
        layer.dilation,
        layer.groups,
        layer.bias is not None,
    ).to(layer.weight)
    conv.load_state_dict(layer.state_dict())
    if even:
        return conv
    height, width = totals
    pads = (width // 2, width - width // 2, height // 2, height - height // 2)
    return nn.Sequential(nn.ZeroPad2d(pads), conv)
