# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Count parameters and multiply-accumulates (MACs) of a network, part by part.

Counted alike for every config, so that networks can be compared: one image of the
given size, 1000 boxes, 100 masks; MACs of convolutions and matrix products. Nothing is
computed, so any size takes seconds and no memory.

The EfficientPS paper reports 433.94 GFLOPs at 1024x2048. No way of counting that we
know gives this number for the network it describes: compare what is counted here with
what is counted here.

Example::

    python tools/analysis_tools/get_complexity.py \
        efficientps_effb5_16xb1-50k_cityscapes-1024x2048 --shape 1024 2048
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmengine.config import DictAction
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mmdet_efficientps import load_config
from mmdet_efficientps.utils import atomic_path, check_output_file

NUM_BOXES = 1000
NUM_MASKS = 100
NOTE = (
    'The 433.94 GFLOPs of the EfficientPS paper are reproduced by no way of counting '
    'that we know: do not compare with them.'
)


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


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument(
        '--shape',
        type=int,
        nargs=2,
        default=[1024, 2048],
        metavar=('H', 'W'),
        help='size of the network input in pixels, default: 1024 2048',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: a.b=1 c="[1,2]"',
    )
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    parser.add_argument('--out', type=Path, help='write the JSON object to this file')
    args = parser.parse_args()
    if any(side <= 0 or side % 32 for side in args.shape):
        parser.error(
            f'--shape {args.shape[0]} {args.shape[1]}: the sides must be multiples of '
            '32, to which networks pad their input'
        )
    return args


def main() -> None:
    """Build the network, count, and report."""
    args = parse_args()
    try:
        if args.out is not None:
            check_output_file(args.out, [args.config], '--out')
        config = load_config(args.config)
    except ValueError as error:
        raise SystemExit(f'error: {error}') from error
    if args.cfg_options is not None:
        config.merge_from_dict(args.cfg_options)
    init_default_scope(config.get('default_scope', 'mmdet'))
    model = MODELS.build(config.model)
    try:
        counts = count_complexity(model, tuple(args.shape))
    except ValueError as error:
        raise SystemExit(f'error: {args.config}: {error}') from error
    report = {
        'config': Path(args.config).name.removesuffix('.py'),
        'shape': args.shape,
        'boxes': NUM_BOXES,
        'masks': NUM_MASKS,
        'counted': 'MACs of convolutions and matrix products',
        'note': NOTE,
        'components': counts,
    }
    if args.out is not None:
        with atomic_path(args.out) as path:
            path.write_text(json.dumps(report, indent=2))
    if args.json:
        print(json.dumps(report))
        return
    height, width = args.shape
    print(f'{report["config"]}, {height}x{width}, {NUM_BOXES} boxes, {NUM_MASKS} masks')
    print(f'{"":10}{"parameters":>14}{"GMAC":>10}')
    for name, part in counts.items():
        print(f'{name:10}{part["params"]:14,}{part["macs"] / 1e9:10.1f}')
    print(f'MACs of convolutions and matrix products. {NOTE}')


if __name__ == '__main__':
    main()
