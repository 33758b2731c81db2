# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Choose the thresholds of the panoptic fusion for a trained network.

The network runs once on every image, the fusion once for every combination of the
values given, and the table shows which has the highest PQ. The fusion has no
parameters, so nothing is trained again: put what is chosen into the config, or give
it to tools/test.py with the ``--cfg-options`` that are printed.

What is chosen for some images is best for these. So do not choose on the images that
you report: choose on ``--data train``, the training images without augmentation, or on
a part of your own. How much of the gain is luck of the choice is measured, too: the
values best on every second image are scored on the other half, and the other way round.
On training images a network is surer than elsewhere, so of two settings that are as
good there, the lower score_thr is the safer one.

Example::

    python tools/analysis_tools/tune_fusion.py \
        configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py \
        work_dirs/demo/iter_760.pth --data train
"""

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path

import torch
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmengine.utils import track_iter_progress
from terminaltables import AsciiTable

from mmdet_efficientps import init_model, load_config
from mmdet_efficientps.datasets.parts import data_set_files, data_set_parts
from mmdet_efficientps.evaluation.functional.panoptic_quality import (
    PanopticQualityStat,
    summarize,
)
from mmdet_efficientps.evaluation.functional.panoptic_segments import (
    encoded_quality_stats,
)
from mmdet_efficientps.evaluation.functional.quality_report import class_groups
from mmdet_efficientps.evaluation.metrics.sample_fields import load_gt_ids
from mmdet_efficientps.structures.panoptic.annotations import write_json
from mmdet_efficientps.utils import check_output_file
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError

GRID = {
    'score_thr': [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7],
    'overlap_thr': [0.5],
    'min_stuff_area': [0, 64, 256, 1024, 2048],
    'mask_logits_scale': [4.0],
}
SHOWN = 10

Setting = tuple[float, ...]
Stats = dict[Setting, PanopticQualityStat]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or name of one of the package')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument(
        '--data',
        choices=['train', 'val', 'test'],
        default='train',
        help='whose images to choose on, default: train',
    )
    parser.add_argument(
        '--num', type=int, help='number of images, spread over the set; default: all'
    )
    for name, values in GRID.items():
        default = ' '.join(f'{value:g}' for value in values)
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            type=float,
            nargs='+',
            default=values,
            help=f'values to try, default: {default}',
        )
    parser.add_argument('--out', type=Path, help='json for the table')
    parser.add_argument('--device', default='auto', help='default: a GPU if there is')
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: a.b=1 c="[1,2]"',
    )
    args = parser.parse_args()
    if args.num is not None and args.num < 2:
        parser.error(f'--num must be at least 2, one for each half, got {args.num}')
    return args


def choose_data(cfg: Config, name: str) -> dict:
    """Give the data set to choose on, with the pipeline of a test.

    Args:
        cfg (Config): Config of the network.
        name (str): 'train', 'val' or 'test'.

    Returns:
        dict: Config of the data set; of one that wraps others the innermost.

    Raises:
        ValueError: If the training set joins several.
    """
    test = cfg.test_dataloader.dataset
    parts = list(data_set_parts(cfg[f'{name}_dataloader'].dataset))
    if any('datasets' in part for part in parts):
        raise ValueError(
            f'{name}_dataloader.dataset of {cfg.filename} joins several data sets: '
            'give --data val or test, or a config with one of them'
        )
    if name != 'train':
        return parts[0]
    return dict(parts[-1], pipeline=test.pipeline, test_mode=True)


@torch.no_grad()
def count_matches(
    model: torch.nn.Module, batch: dict, settings: list[dict[str, float]]
) -> Iterator[PanopticQualityStat]:
    """Fuse an image with many settings and compare each result with the truth.

    Args:
        model (nn.Module): The network.
        batch (dict): Collated image with its data sample.
        settings (list[dict]): Settings of the fusion.

    Yields:
        PanopticQualityStat: Counts with each of the settings, in their order.
    """
    batch = model.data_preprocessor(batch, False)
    samples = batch['data_samples']
    inputs = model.predict_fusion_inputs(
        batch['inputs'], samples, score_thr=min(s['score_thr'] for s in settings)
    )[0]
    truth = load_gt_ids(samples[0].metainfo)
    head = model.panoptic_fusion_head
    for setting in settings:
        yield encoded_quality_stats(
            truth,
            samples[0].segments_info,
            head.fuse(inputs, **setting).panoptic.cpu().numpy(),
            head.num_classes,
        )


def qualities(stats: Stats, meta: dict) -> dict[Setting, list[float]]:
    """Compute PQ of all, of things and of stuff for every setting, in percent."""
    groups = class_groups(meta['classes'], meta['thing_classes'], meta['stuff_classes'])
    return {
        setting: [100 * group['pq'] for group in summarize(stat, groups).values()]
        for setting, stat in stats.items()
    }


def rank(pq: dict[Setting, list[float]], preferred: Setting) -> list[Setting]:
    """Sort settings by PQ; of equal ones ``preferred`` is first."""
    return sorted(pq, key=lambda s: (-round(pq[s][0], 6), s != preferred))


def main() -> None:
    """Run the network, fuse with every setting and print the best."""
    args = parse_args()
    try:
        cfg = load_config(args.config)
        if args.cfg_options is not None:
            cfg.merge_from_dict(args.cfg_options)
        init_default_scope(cfg.get('default_scope', 'mmdet'))
        dataset = DATASETS.build(choose_data(cfg, args.data))
        model = init_model(cfg, args.checkpoint, device=args.device)
        if args.out is not None:
            check_output_file(
                args.out,
                [args.config, args.checkpoint, *data_set_files(dataset)],
                '--out',
            )
    except (CheckpointError, FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    if not hasattr(model, 'predict_fusion_inputs'):
        raise SystemExit(
            f'error: {args.config} is a {type(model).__name__}, whose fusion has no '
            'thresholds of this kind; EfficientPS has'
        )

    head = model.panoptic_fusion_head
    configured = head.DEFAULTS | dict(head.test_cfg or {})
    current = tuple(float(configured[name]) for name in GRID)
    grid = list(itertools.product(*(sorted(set(vars(args)[name])) for name in GRID)))
    grid += [current] * (current not in grid)
    settings = [dict(zip(GRID, values, strict=True)) for values in grid]

    count = len(dataset) if args.num is None else min(args.num, len(dataset))
    if count < 2:
        raise SystemExit('error: two images are needed at least, one for each half')
    halves: list[Stats] = [{}, {}]
    chosen = [index * len(dataset) // count for index in range(count)]
    for number, index in enumerate(track_iter_progress(chosen)):
        half = halves[number % 2]
        batch = pseudo_collate([dataset[index]])
        for key, stat in zip(grid, count_matches(model, batch, settings), strict=True):
            half[key] = half[key] + stat if key in half else stat

    meta = dataset.metainfo
    pq = qualities({key: halves[0][key] + halves[1][key] for key in grid}, meta)
    order = rank(pq, current)
    shown = order[:SHOWN] + [current] * (current not in order[:SHOWN])
    rows = [[*GRID, 'PQ', 'PQ things', 'PQ stuff', '']]
    for key in shown:
        note = 'as it is' if key == current else ''
        rows.append([*(f'{v:g}' for v in key), *(f'{v:.2f}' for v in pq[key]), note])
    print(f'\n{AsciiTable(rows).table}\n{len(grid)} settings, {count} images')

    by_half = [qualities(half, meta) for half in halves]
    gains = []
    for own, other in (by_half, by_half[::-1]):
        best = rank(own, current)[0]
        gains.append(other[best][0] - other[current][0])
    gain = sum(gains) / 2
    print(
        f'chosen on one half of the images and scored on the other, the gain over '
        f'what it is now is {gain:+.2f} PQ (where it is chosen: '
        f'{pq[order[0]][0] - pq[current][0]:+.2f})'
    )
    best = dict(zip(GRID, order[0], strict=True))
    if order[0] == current or gain <= 0:
        print('keep the thresholds that you have')
    else:
        options = ' '.join(
            f'model.test_cfg.panoptic.{name}={best[name]:g}'
            for name, old in zip(GRID, current, strict=True)
            if best[name] != old
        )
        print(f'--cfg-options {options}')
    if args.out is not None:
        table = [
            dict(zip(GRID, key, strict=True))
            | dict(zip(('PQ', 'PQ_th', 'PQ_st'), pq[key], strict=True))
            for key in order
        ]
        record = {'data': args.data, 'images': count, 'gain': gain, 'settings': table}
        write_json(args.out, record, indent=1)


if __name__ == '__main__':
    main()
