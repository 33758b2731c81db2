# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Convert a checkpoint of the authors' release of EfficientPS.

Example::

    python tools/model_converters/efficientps_release_to_mmdet.py SRC.pth DST.pth

It is for the configs ``efficientps-release_*``; the published Cityscapes and KITTI
checkpoints have the same classes. See docs/checkpoints.md.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn

from mmdet_efficientps.checkpoints import convert_release_state_dict
from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.utils import atomic_path, check_output_file
from mmdet_efficientps.utils.checkpoint_loading import (
    CheckpointError,
    find_state_dict,
    read_checkpoint,
)

CONFIGS = Path(__file__).parents[2] / 'configs/efficientps'
LICENCE = (
    'GPLv3, for academic use: the terms of the release, under which a converted '
    'checkpoint stays'
)
CONFIG_NAME = 'efficientps-release_eff{arch}_16xb1-160e_cityscapes-1024x2048.py'


def build_release_model(
    arch: str = 'b5', num_classes: Sequence[int] | None = None
) -> nn.Module:
    """Build the release variant of EfficientPS.

    Args:
        arch (str): Backbone, 'b5' or 'b0'. Defaults to 'b5'.
        num_classes (Sequence[int], optional): Numbers of thing and stuff classes of
            your own. Defaults to those of the config.

    Returns:
        nn.Module: The network. With ``num_classes`` its heads are initialised.
    """
    register_all_modules(init_default_scope=True)
    cfg = Config.fromfile(CONFIGS / CONFIG_NAME.format(arch=arch)).model
    if num_classes is None:
        return MODELS.build(cfg)
    things, stuff = num_classes
    for part in (cfg.semantic_head, cfg.panoptic_fusion_head):
        part.update(num_things_classes=things, num_stuff_classes=stuff)
    for part in (cfg.roi_head.bbox_head, cfg.roi_head.mask_head):
        part.num_classes = things
    model = MODELS.build(cfg)
    # mmengine reports on every single parameter it initialises.
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    for part in (model.semantic_head, model.roi_head):
        part.init_weights()
    logger.setLevel(level)
    return model


def converted_meta(source: Mapping, path: str, own_classes: bool) -> dict:
    """Make the meta of a converted checkpoint.

    Args:
        source (Mapping): Checkpoint of the release.
        path (str): Its file.
        own_classes (bool): Whether the classes are not those of Cityscapes.

    Returns:
        dict: ``converted_from``, where the weights come from, ``license`` and, by
        which mmdet draws, ``dataset_meta`` with names and colors.
    """
    old = source.get('meta') or {}
    known = ('epoch', 'iter', 'mmdet_version', 'time')
    meta = dict(
        converted_from=dict(
            file=Path(path).name, **{key: old[key] for key in known if key in old}
        ),
        license=LICENCE,
    )
    if not own_classes:
        meta['dataset_meta'] = CityscapesPanopticDataset.METAINFO
    return meta


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line tool.

    Args:
        argv (Sequence[str], optional): Arguments. Defaults to those of the process.
    """
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('source', metavar='SRC.pth', help='checkpoint of the release')
    parser.add_argument('target', metavar='DST.pth', help='file to write')
    parser.add_argument('--arch', choices=['b5', 'b0'], default='b5', help='backbone')
    parser.add_argument(
        '--num-classes',
        nargs=2,
        type=int,
        metavar=('THINGS', 'STUFF'),
        help='classes of your own data: the last layers are initialised anew',
    )
    parser.add_argument(
        '--unsafe-load',
        action='store_true',
        help='read files that hold more than weights; runs whatever code they hold',
    )
    args = parser.parse_args(argv)
    if args.num_classes and min(args.num_classes) < 1:
        parser.error('--num-classes needs at least one thing and one stuff class')
    try:
        check_output_file(args.target, [args.source], 'DST.pth')
        if Path(args.target).exists():
            # It may be the outcome of days of training.
            raise ValueError(
                f'DST.pth {args.target} exists: give another name, or remove it to '
                'convert again'
            )
        checkpoint = read_checkpoint(args.source, unsafe=args.unsafe_load)
        state = convert_release_state_dict(
            find_state_dict(checkpoint),
            build_release_model(args.arch, args.num_classes),
            reinitialize=args.num_classes is not None,
        )
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        sys.exit(str(error))
    meta = converted_meta(checkpoint, args.source, args.num_classes is not None)
    with atomic_path(args.target) as temporary:
        torch.save(dict(meta=meta, state_dict=state), temporary)
    print(f'{args.target}: {len(state)} tensors\nLicence: {LICENCE}.')


if __name__ == '__main__':
    main()
