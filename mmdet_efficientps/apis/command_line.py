# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What command lines have in common: of training and testing, and of prediction."""

from __future__ import annotations

import os
import os.path as osp
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import Any

from mmdet.utils import setup_cache_size_limit_of_dynamo
from mmengine.config import Config, DictAction

from .predictors import PRECISIONS
from .tiling import parse_tile


def add_run_arguments(parser: ArgumentParser, leaves: str) -> None:
    """Add the arguments of mmdet's tools that every run has.

    Args:
        parser (ArgumentParser): Parser with the positional arguments.
        leaves (str): What the run leaves in its work folder, for the help.
    """
    parser.add_argument(
        '--work-dir',
        help=f'folder for {leaves}, by default work_dirs/<config name>',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: a.b=1 c="[1,2]"',
    )
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how distributed processes are started',
    )
    # torch.distributed.launch passes one spelling or the other
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0)


def read_run_config(args: Namespace) -> Config:
    """Read the config of a run and put into it what the command line says.

    Args:
        args (Namespace): With config and the arguments of :func:`add_run_arguments`.

    Returns:
        Config: The config, with a work folder.

    Raises:
        SystemExit: If there is no such file.
    """
    if not osp.isfile(args.config):
        raise SystemExit(
            f'error: there is no config file {args.config}. Give its path; those that '
            'come with the package are in configs/'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    setup_cache_size_limit_of_dynamo()
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        name = osp.splitext(osp.basename(args.config))[0]
        cfg.work_dir = osp.join('work_dirs', name)
    return cfg


def add_network_arguments(parser: ArgumentParser) -> None:
    """Add a network, and how it predicts: what :func:`network_settings` takes.

    Args:
        parser (ArgumentParser): Parser that has the input.
    """
    parser.add_argument('model', help='config file or name, checkpoint, or .onnx')
    parser.add_argument('checkpoint', nargs='?', help='checkpoint of the config')
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='fp32', help='default: fp32'
    )
    parser.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='images of one size that go through the network at once',
    )
    parser.add_argument(
        '--tta',
        action='store_true',
        help='predict in several sizes and mirrored, and merge: slower, mostly better',
    )
    parser.add_argument(
        '--tile',
        type=_tile_size,
        metavar='WIDTHxHEIGHT',
        help='predict larger images in tiles of this size, such as 1024x1024',
    )
    parser.add_argument(
        '--overlap',
        type=float,
        default=0.2,
        metavar='X',
        help='share of a tile that the next one shows as well (0.2)',
    )
    for option, kind, text in (
        ('--score-thr', float, 'detections below are left out'),
        ('--overlap-thr', float, 'largest share of a thing that others may cover'),
        ('--min-stuff-area', int, 'stuff with fewer pixels becomes void'),
    ):
        parser.add_argument(
            option, type=kind, metavar='X', help=f'{text}; default: as the config says'
        )


def network_settings(args: Namespace) -> dict[str, Any]:
    """Give the arguments of :class:`PanopticInferencer` that a command line has.

    Args:
        args (Namespace): With the arguments of :func:`add_network_arguments`.

    Returns:
        dict[str, Any]: Keyword arguments, all but the device.
    """
    return {
        'model': args.model,
        'weights': args.checkpoint,
        'precision': args.precision,
        'batch_size': args.batch_size,
        'score_thr': args.score_thr,
        'overlap_thr': args.overlap_thr,
        'min_stuff_area': args.min_stuff_area,
        'tta': args.tta,
        'tile': args.tile,
        'overlap': args.overlap,
    }


def _tile_size(text: str) -> tuple[int, int]:
    """Take the value of --tile; the parser shows why it is none."""
    try:
        return parse_tile(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
