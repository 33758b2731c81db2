# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Export a trained EfficientPS to one ONNX file that needs no PyTorch.

Leaves ``model.onnx`` in the folder, and ``panoptic_onnx.py`` beside it, which predicts
with it. The file is compared with PyTorch before it gets its name.

Example::

    python tools/deployment/export_onnx.py \
        efficientps_lite0-small_1xb2-760_toy-city-256x512 \
        work_dirs/demo/iter_760.pth --out work_dirs/demo/onnx
"""

import argparse
from pathlib import Path

from mmdet_efficientps import init_model
from mmdet_efficientps.deployment.export import (
    LARGEST_DIFFERENCE,
    ExportError,
    copy_runtime,
    export_onnx,
)
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'model',
        help='checkpoint of a training run, which holds its config; or a config file '
        'or the name of one, with its checkpoint',
    )
    parser.add_argument(
        'checkpoint', nargs='?', help='weights of the config: a file or an address'
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='folder for the exported files'
    )
    parser.add_argument(
        '--largest-difference',
        type=float,
        default=LARGEST_DIFFERENCE,
        metavar='X',
        help='how far an output may be from that of PyTorch, boxes in pixels; '
        f'default: {LARGEST_DIFFERENCE:g}',
    )
    args = parser.parse_args()
    if args.checkpoint is None and not args.model.endswith(('.pth', '.pt')):
        parser.error(f'{args.model} is a config: give its checkpoint, too')
    return args


def main() -> None:
    """Export, compare, and report."""
    args = parse_args()
    path = args.out / 'model.onnx'
    try:
        model = init_model(args.model, args.checkpoint, device='cpu')
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    try:
        print('exporting, which takes a minute or two ...', flush=True)
        differences = export_onnx(model, path, args.largest_difference)
        runtime = copy_runtime(args.out)
    except (ExportError, ImportError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    except OSError as error:
        raise SystemExit(f'error: {args.out} cannot be written to: {error}') from error
    print('largest differences from PyTorch, boxes in pixels:')
    for name, value in differences.items():
        print(f'  {name:16}{value:.2g}')
    largest = max(differences.values())
    print(
        f'largest difference of all: {largest:.2g} '
        f'(allowed: {args.largest_difference:g})\n'
        f'{path}: {path.stat().st_size / 1e6:.1f} MB'
    )
    if runtime is not None:
        print(f'Predict without PyTorch: python {runtime} IMAGE_OR_FOLDER --out DIR')


if __name__ == '__main__':
    main()
