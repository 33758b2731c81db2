# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Write a config that fits itself to a data set in the COCO-panoptic format.

Reads the annotations and images once, chooses sizes, anchors, thresholds and the length
of the training by their figures, and writes a short config that inherits and says
behind each value which figure it comes from; beside it a picture of the data. Refuses
data that cannot be trained on, and warns of images that are on both sides.

Example::

    python tools/new_config.py data/mine/train.json data/mine/images \
        --val-fraction 0.2 --memory 8GB --out my_config.py
    python tools/train.py my_config.py
"""

import argparse
from pathlib import Path

from mmdet_efficientps.apis.fitted_settings import MODEL_SIZES, parse_memory
from mmdet_efficientps.apis.new_config import make_config
from mmdet_efficientps.datasets.fingerprint import DataFiles
from mmdet_efficientps.structures.panoptic import default_png_folder
from mmdet_efficientps.utils import num_processors


def memory(text: str) -> float:
    """Read an amount of memory for argparse."""
    try:
        return parse_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'train', type=Path, metavar='TRAIN.json', help='panoptic json to train on'
    )
    parser.add_argument('images', type=Path, metavar='IMAGES', help='its images')
    parser.add_argument(
        '--seg', type=Path, metavar='DIR', help='its PNGs, by default TRAIN/'
    )
    parser.add_argument(
        '--val',
        type=Path,
        nargs=2,
        metavar=('VAL.json', 'IMAGES'),
        help='panoptic json to validate on, and its images',
    )
    parser.add_argument(
        '--val-seg', type=Path, metavar='DIR', help='its PNGs, by default VAL/'
    )
    parser.add_argument(
        '--val-fraction',
        type=float,
        metavar='SHARE',
        help='share of the training images to validate on instead of --val, such as '
        '0.2: equal pictures stay together, and every class is on both sides if it can',
    )
    parser.add_argument(
        '--model',
        choices=MODEL_SIZES,
        default='small',
        help='small: for minutes on a CPU; lite0, lite2: for one GPU; b5: the network '
        'of the paper. Default: small',
    )
    parser.add_argument(
        '--memory',
        type=memory,
        default='8GB',
        help='for the training, on the GPU if there is one. Default: 8GB',
    )
    parser.add_argument(
        '--iters',
        type=int,
        metavar='N',
        help='steps of the training, by default by the number of images',
    )
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='CONFIG.py',
        help='config to write; CONFIG.png, the picture of the data, and with '
        '--val-fraction CONFIG_train.json and CONFIG_val.json go beside it',
    )
    parser.add_argument(
        '--overwrite', action='store_true', help='replace files of a former call'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of --val-fraction, default: 0'
    )
    parser.add_argument(
        '--nproc', type=int, default=num_processors(), help='number of processes'
    )
    args = parser.parse_args()
    if args.iters is not None and args.iters < 2:
        parser.error(f'--iters must be at least 2, got {args.iters}')
    if args.val_fraction is not None and not 0 < args.val_fraction < 1:
        parser.error(
            '--val-fraction is a share of the images above 0 and below 1, got '
            f'{args.val_fraction}'
        )
    return args


def main() -> None:
    """Write the config and say what was chosen.

    Raises:
        SystemExit: With a message if the data or the output cannot be used.
    """
    args = parse_args()
    train = DataFiles(
        args.train, args.images, args.seg or default_png_folder(args.train)
    )
    val = None
    if args.val:
        val_json, val_images = args.val
        png_dir = args.val_seg or default_png_folder(val_json)
        val = DataFiles(val_json, val_images, png_dir)
    elif args.val_seg:
        raise SystemExit('error: --val-seg belongs to --val, which is not given')
    try:
        made = make_config(
            train,
            args.out,
            val=val,
            val_fraction=args.val_fraction,
            model=args.model,
            memory=args.memory,
            max_iters=args.iters,
            seed=args.seed,
            overwrite=args.overwrite,
            nproc=args.nproc,
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    print(made.summary())
    print(
        f'\n{made.path} is ready, a picture of the data is {made.figure}. Now\n'
        f'  python tools/train.py {made.path}'
    )


if __name__ == '__main__':
    main()
