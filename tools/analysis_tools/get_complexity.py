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
from pathlib import Path

from mmdet.registry import MODELS
from mmengine.config import DictAction
from mmengine.registry import init_default_scope

from mmdet_efficientps import load_config
from mmdet_efficientps.utils import atomic_path
from mmdet_efficientps.utils.complexity import NUM_BOXES, NUM_MASKS, count_complexity

NOTE = (
    'The 433.94 GFLOPs of the EfficientPS paper are reproduced by no way of counting '
    'that we know: do not compare with them.'
)


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
