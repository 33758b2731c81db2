# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Generate toy_city, procedural street scenes in the layout of Cityscapes."""

import argparse
from pathlib import Path

from mmdet_efficientps.datasets.prepare.cityscapes import prepare_cityscapes

from .writer import write_toy_city


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command line arguments."""
    parser.add_argument(
        '--out', type=Path, default=Path('data/toy_city'), help='folder to write'
    )
    parser.add_argument(
        '--num-train', type=int, default=240, help='number of training scenes'
    )
    parser.add_argument(
        '--num-val', type=int, default=40, help='number of validation scenes'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(256, 512),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of the images in pixels',
    )
    parser.add_argument(
        '--density', type=float, default=1.0, help='relative number of things'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the data set')
    parser.add_argument(
        '--overwrite', action='store_true', help='make everything again'
    )


def main(args: argparse.Namespace) -> None:
    """Generate the data set and prepare it as Cityscapes is prepared.

    Raises:
        FileExistsError: If the folder holds something else.
        ValueError: If an option is out of range.
    """
    write_toy_city(
        args.out,
        num_train=args.num_train,
        num_val=args.num_val,
        size=tuple(args.size),
        density=args.density,
        seed=args.seed,
        nproc=args.nproc,
        overwrite=args.overwrite,
    )
    prepare_cityscapes(args.out, nproc=args.nproc)
    print(f'toy_city is ready: {args.out}')
