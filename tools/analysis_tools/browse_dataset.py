# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Look at what the network sees of a data set, after the training pipeline.

Or at the labels as they are: ``--json`` needs no config, but the panoptic json, with
its folder of PNGs beside it, and the folder of the images.

Writes to the output folder::

    index.html       all images with a slider between image, instances and semantic
                     map, sorted and filtered by class; needs no network access
    page_001.png     the same, some images to a picture
    ...

Example::

    python tools/analysis_tools/browse_dataset.py \
        configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py \
        --num 40 --out work_dirs/browse
    python tools/analysis_tools/browse_dataset.py --json labels.json photographs \
        --out work_dirs/browse
"""

import argparse
from pathlib import Path

import numpy as np
from mmdet.registry import DATASETS
from mmengine.config import Config, DictAction
from mmengine.registry import init_default_scope
from mmengine.runner import set_random_seed
from mmengine.utils import track_iter_progress
from PIL import Image
from torch.utils.data import Dataset

from mmdet_efficientps import load_config
from mmdet_efficientps.datasets.parts import data_set_files, data_set_parts
from mmdet_efficientps.structures.panoptic import default_png_folder
from mmdet_efficientps.utils import atomic_path, check_output
from mmdet_efficientps.visualization.predicted_image import image_name
from mmdet_efficientps.visualization.report import fit_width
from mmdet_efficientps.visualization.report.dataset_browser import (
    TrainingSample,
    draw_sample,
    stack_pictures,
    write_browser,
)

NUM_PROBES = 8


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'config', nargs='?', help='config file, or name of one of the package'
    )
    parser.add_argument(
        '--json',
        nargs=2,
        metavar=('JSON', 'IMAGES'),
        help='instead of a config: a panoptic json, and the folder of its images',
    )
    parser.add_argument(
        '--num', type=int, default=24, help='number of images, spread over the set'
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('work_dirs/browse_dataset'),
        help='output folder, default: work_dirs/browse_dataset',
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='seed of the augmentation, default: 0'
    )
    parser.add_argument(
        '--split',
        choices=['train', 'val'],
        default='train',
        help='images of which data set; they go through the training pipeline in '
        'either case. Default: train',
    )
    parser.add_argument(
        '--per-page', type=int, default=4, help='images on a PNG page, default: 4'
    )
    parser.add_argument(
        '--max-mb',
        type=float,
        default=45,
        help='how large the HTML page may get; with many images the pictures get '
        'smaller. Default: 45',
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help='override fields of the config: a.b=1 c="[1,2]"',
    )
    args = parser.parse_args()
    if args.num < 1 or args.per_page < 1:
        parser.error('--num and --per-page must be at least 1')
    if (args.config is None) == (args.json is None):
        parser.error('give a config, or --json with a json and a folder of images')
    return args


def plain_config(json_file: str, image_dir: str) -> Config:
    """Make a config that shows labels as they are.

    Args:
        json_file (str): Panoptic json.
        image_dir (str): Folder of its images.

    Returns:
        Config: With a training data set whose pipeline changes nothing.
    """
    pipeline = [
        dict(type='LoadCheckedImage'),
        dict(type='LoadPanopticMap'),
        dict(type='PackPanopticTargets', meta_keys=('img_path',)),
    ]
    dataset = dict(
        type='PanopticDataset',
        ann_file=json_file,
        data_prefix=dict(img=image_dir, seg=str(default_png_folder(json_file))),
        pipeline=pipeline,
    )
    dataloader = dict(dataset=dataset)
    return Config(dict(train_dataloader=dataloader, val_dataloader=dataloader))


def build_dataset(cfg: Config, split: str) -> Dataset:
    """Build the data set of a split with the training pipeline.

    Args:
        cfg (Config): The config.
        split (str): 'train' or 'val'.

    Returns:
        Dataset: Its items are what the training pipeline packs, with
        ``num_dropped_instances`` among the meta information where it counts them.
    """
    config = cfg.train_dataloader.dataset
    if split == 'val':
        pipelines = [
            part.pipeline for part in data_set_parts(config) if 'pipeline' in part
        ]
        if len(pipelines) != 1:
            raise SystemExit(
                'the training data set mixes several images in its pipeline, which '
                'the validation set cannot go through; take --split train'
            )
        config = cfg.val_dataloader.dataset
        config.update(pipeline=pipelines[0], test_mode=False)
    dataset = DATASETS.build(config)
    for part in data_set_parts(dataset):
        pipeline = getattr(part, 'pipeline', [])
        for transform in getattr(pipeline, 'transforms', pipeline):
            if hasattr(transform, 'meta_keys'):
                transform.meta_keys = (*transform.meta_keys, 'num_dropped_instances')
    return dataset


def main() -> None:
    """Run the pipeline and write page and pictures."""
    args = parse_args()
    cfg = plain_config(*args.json) if args.json else load_config(args.config)
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmdet'))
    try:
        dataset = build_dataset(cfg, args.split)
        check_output(args.out, data_set_files(dataset), '--out')
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    meta = dataset.metainfo
    classes, palette = meta['classes'], meta['palette']
    count = min(args.num, len(dataset))
    numbers = np.linspace(0, len(dataset) - 1, count).astype(int)

    def sample(number: int) -> TrainingSample:
        # Each image has its own seed: what it looks like does not depend on --num.
        set_random_seed(args.seed + int(number))
        packed = dataset[int(number)]
        name = image_name(packed['data_samples'].img_path, dataset)
        return TrainingSample.from_packed(packed, len(classes), name)

    probes = [sample(number) for number in numbers[:: max(count // NUM_PROBES, 1)]]

    def bytes_per_image(width: int) -> float:
        sizes = [sum(map(len, p.pictures(palette, width).values())) for p in probes]
        return sum(sizes) / len(sizes)

    width = fit_width(bytes_per_image, count, 0.9 * args.max_mb * 2**20)
    records, pictures, page = [], [], []
    for number in track_iter_progress(numbers.tolist()):
        one = sample(number)
        records.append(one.record(len(classes)))
        pictures.append(one.pictures(palette, width))
        page.append(draw_sample(one, classes, palette))
        if len(page) == args.per_page or len(records) == count:
            name = f'page_{-(-len(records) // args.per_page):03d}.png'
            with atomic_path(args.out / name) as temporary:
                Image.fromarray(stack_pictures(page)).save(temporary)
            page = []
    write_browser(
        args.out / 'index.html',
        records,
        pictures,
        classes,
        palette,
        title=(
            f'{args.json[0]}: labels as they are'
            if args.json
            else f'{Path(args.config).stem}: {args.split} images after the pipeline'
        ),
        subtitle=f'{count} of {len(dataset)} images, seed {args.seed}',
    )
    print(f'\n{args.out / "index.html"}: {count} images, pictures {width} wide')


if __name__ == '__main__':
    main()
