# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Parameters and multiply-accumulates of a panoptic network, part by part."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

NUM_BOXES = 1000
NUM_MASKS = 100


@torch.no_grad()
def count_complexity(
    model: nn.Module, shape: tuple[int, int]
) -> dict[str, dict[str, int]]:
    """Count parameters and multiply-accumulates (MACs) of a two-stage network.

    Every network is counted the same way, whatever its thresholds would let through:
    one image, ``NUM_BOXES`` boxes through the box head and ``NUM_MASKS`` through the
    mask head. MACs are those of convolutions, transposed ones included, and of
    matrix products; biases, norms, activations, resizing, RoIAlign and what comes
    after the heads are not counted.

    Args:
        model (nn.Module): An mmdet two-stage detector with or without a semantic
            head. Moved to the meta device, where nothing is computed: it cannot be
            used afterwards.
        shape (tuple[int, int]): Height and width of the network input.

    Returns:
        dict[str, dict[str, int]]: ``params`` and ``macs`` of 'backbone', 'neck',
        'rpn', 'bbox', 'mask' and 'semantic', of 'other' (the parameters of what is
        none of these) if there is any, and of their 'total'. Parts that the network
        does not have are left out.

    Raises:
        ValueError: If it is no two-stage detector, or a cascade.
    """
    roi_head = getattr(model, 'roi_head', None)
    if roi_head is None or not hasattr(model, 'rpn_head'):
        raise ValueError(
            f'{type(model).__name__} is no two-stage detector: only networks with '
            'rpn_head and roi_head are counted'
        )
    if isinstance(roi_head.bbox_head, nn.ModuleList):
        raise ValueError('the heads of a cascade are not counted')

    model.to('meta').eval()
    counts = {}

    def count(name: str, module: nn.Module, function: Callable, x) -> Tensor:
        with FlopCounterMode(display=False) as counter:
            out = function(x)
        # It counts a multiplication and an addition as two.
        counts[name] = {
            'params': sum(p.numel() for p in module.parameters()),
            'macs': counter.get_total_flops() // 2,
        }
        return out

    def rois(number: int, extractor: nn.Module) -> Tensor:
        size = extractor.roi_layers[0].output_size
        return torch.empty(number, extractor.out_channels, *size, device='meta')

    image = torch.empty(1, 3, *shape, device='meta')
    features = count('backbone', model.backbone, model.backbone, image)
    if model.with_neck:
        features = count('neck', model.neck, model.neck, features)
    count('rpn', model.rpn_head, model.rpn_head, features)
    boxes = rois(NUM_BOXES, roi_head.bbox_roi_extractor)
    count('bbox', roi_head.bbox_head, roi_head.bbox_head, boxes)
    if roi_head.with_mask:
        extractor = (
            roi_head.bbox_roi_extractor
            if roi_head.share_roi_extractor
            else roi_head.mask_roi_extractor
        )
        masks = rois(NUM_MASKS, extractor)
        count('mask', roi_head.mask_head, roi_head.mask_head, masks)
    if getattr(model, 'with_semantic_head', False):
        head = model.semantic_head
        count('semantic', head, head, features)

    params = sum(p.numel() for p in model.parameters())
    if rest := params - sum(part['params'] for part in counts.values()):
        counts['other'] = {'params': rest, 'macs': 0}
    macs = sum(part['macs'] for part in counts.values())
    return counts | {'total': {'params': params, 'macs': macs}}
