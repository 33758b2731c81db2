# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Images per second and memory of the training pipeline, next to mmdet's.

Ours is the training pipeline of ``configs/_base_/datasets/cityscapes_panoptic.py``:
scale by 0.5 to 2, crop of 1024x2048 pixels, flip, targets. mmdet's has the same from
LoadPanopticAnnotations, RandomResize, RandomCrop, RandomFlip and PackDetInputs. Both
read full-size frames of toy_city with 40 to 60 instances through PyTorch's DataLoader,
and image k of a pass is scaled by the same factor in both. Each contender has a process
of its own. Peak memory is what loading adds to the resident set of a worker, the
highest of the workers. Steps are timed in one process, without a DataLoader.

mmdet's LoadPanopticAnnotations needs ``pip install --no-deps panopticapi-lite``.
"""

import argparse
import importlib.util
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from benchmarking import (
    in_fresh_process,
    peak_resident_mb,
    print_json,
    reset_peak,
    resident_mb,
)
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from torch.utils.data import DataLoader, Dataset

ROOT = Path(__file__).parents[2]
DATA_CONFIG = ROOT / 'configs' / '_base_' / 'datasets' / 'cityscapes_panoptic.py'
INSTANCES = (40, 60)
CONTENDERS = ('ours', 'mmdet')


def pipeline_config(name: str, size: tuple[int, int]) -> list[dict]:
    """Give the pipeline of a contender.

    Args:
        name: One of ``CONTENDERS``.
        size: Height and width of frames and crops.

    Returns:
        Configs of its transforms.
    """
    size = size[::-1]
    if name == 'ours':
        pipeline = Config.fromfile(DATA_CONFIG).train_pipeline
        pipeline[2].update(scale=size, crop_size=size)
        return pipeline
    return [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadPanopticAnnotations'},
        {
            'type': 'RandomResize',
            'scale': size,
            'ratio_range': (0.5, 2.0),
            'keep_ratio': True,
        },
        {
            'type': 'RandomCrop',
            'crop_size': size,
            'recompute_bbox': True,
            'allow_negative_crop': True,
        },
        {'type': 'RandomFlip', 'prob': 0.5},
        {'type': 'PackDetInputs'},
    ]


class Images(Dataset):
    """Images of one pass, each with the memory it took so far.

    Args:
        name: One of ``CONTENDERS``.
        data_list: Items of the data set.
        size: Height and width of frames and crops.
        length: Number of images.
    """

    def __init__(
        self, name: str, data_list: list[dict], size: tuple[int, int], length: int
    ) -> None:
        self.data_list = data_list
        self.length = length
        self.pipeline = Compose(pipeline_config(name, size))
        self.resident_before = None

    def __len__(self) -> int:
        """Number of images."""
        return self.length

    def item(self, index: int) -> dict:
        """Give what goes into the pipeline; its random numbers depend on the index."""
        np.random.seed(index)  # noqa: NPY002 (mmcv draws from this generator)
        random.seed(index)
        return dict(self.data_list[index % len(self.data_list)])

    def __getitem__(self, index: int) -> tuple[dict, float]:
        """Load an image; gives it and the MB this process has needed on top."""
        if self.resident_before is None:
            reset_peak()
            self.resident_before = resident_mb()
        packed = self.pipeline(self.item(index))
        return packed, peak_resident_mb() - self.resident_before


def read_frames(root: str, name: str) -> list[dict]:
    """Give the items of all frames with the wanted number of instances.

    Args:
        root: Folder of the data set.
        name: One of ``CONTENDERS``.

    Returns:
        Items of the data list.
    """
    from mmdet.registry import DATASETS
    from mmdet.utils import register_all_modules

    import mmdet_efficientps  # noqa: F401

    register_all_modules(init_default_scope=True)
    config = Config.fromfile(DATA_CONFIG).train_dataloader.dataset
    config.update(data_root=f'{root}/', pipeline=[], serialize_data=False)
    data_list = DATASETS.build(config).data_list
    low, high = INSTANCES
    frames = [item for item in data_list if low <= len(item['instances']) <= high]
    if name == 'mmdet':
        # Its own data set leaves crowd regions out as well.
        for item in frames:
            item['instances'] = [i for i in item['instances'] if not i['ignore_flag']]
    return frames


def measure(
    name: str,
    root: str,
    size: tuple[int, int],
    worker_counts: list[int],
    images: int,
    repeat: int,
) -> list[dict]:
    """Measure a contender; meant for a fresh process.

    Args:
        name: One of ``CONTENDERS``.
        root: Folder of the data set.
        size: Height and width of frames and crops.
        worker_counts: Numbers of worker processes to try.
        images: Number of images in a pass.
        repeat: Number of timed passes.

    Returns:
        For each number of workers ``name``, ``workers``, ``median_s`` (per image),
        ``images_per_s``, ``peak_extra_mb`` (of a worker), ``decode_s`` and
        ``steps_s``, see :func:`time_steps`.
    """
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    frames = read_frames(root, name)
    rows = []
    for workers in worker_counts:
        # One more image per worker, not timed, while the workers start.
        dataset = Images(name, frames, size, images + workers)
        median, peak = time_loading(dataset, workers, images, repeat)
        rows.append(
            {
                'name': name,
                'workers': workers,
                'median_s': round(median, 5),
                'images_per_s': round(1 / median, 2),
                'peak_extra_mb': round(peak, 1),
            }
        )
    # Last, so that the workers do not inherit what the steps leave behind.
    steps = time_steps(Images(name, frames, size, images))
    decode = steps.pop('decode')
    return [row | {'decode_s': decode, 'steps_s': steps} for row in rows]


def time_loading(
    dataset: Images, workers: int, images: int, repeat: int
) -> tuple[float, float]:
    """Time a DataLoader.

    Args:
        dataset: The images, those to start with included.
        workers: Number of worker processes.
        images: Number of images to time.
        repeat: Number of timed passes.

    Returns:
        Median seconds per image, and what a worker needs in MB.
    """
    seconds, peak = [], 0.0
    for _ in range(repeat):
        loader = DataLoader(dataset, num_workers=workers, collate_fn=pseudo_collate)
        batches = iter(loader)
        for _ in range(workers):
            next(batches)
        start = time.perf_counter()
        for _, (megabytes,) in batches:
            peak = max(peak, megabytes)
        seconds.append((time.perf_counter() - start) / images)
    return statistics.median(seconds), peak


def time_steps(dataset: Images) -> dict[str, float]:
    """Time every transform, and the decoding of the two files.

    Args:
        dataset: The images.

    Returns:
        Median seconds per image by step; ``decode`` is no step but decoding image and
        PNG alone, below which no pipeline can go.
    """
    dataset[0]  # load libraries
    seconds = defaultdict(list)
    for index in range(len(dataset)):
        results = dataset.item(index)
        files = [
            np.fromfile(results[k], np.uint8) for k in ('img_path', 'seg_map_path')
        ]
        start = time.perf_counter()
        for content in files:
            cv2.imdecode(content, cv2.IMREAD_COLOR)
        seconds['decode'].append(time.perf_counter() - start)
        for transform in dataset.pipeline.transforms:
            start = time.perf_counter()
            results = transform(results)
            seconds[type(transform).__name__].append(time.perf_counter() - start)
    return {key: round(statistics.median(values), 5) for key, values in seconds.items()}


def make_frames(root: str, size: tuple[int, int], frames: int, density: float) -> None:
    """Draw and prepare the frames, or take those that are there."""
    tool = ROOT / 'tools' / 'prepare_dataset.py'
    options = {'--num-train': frames, '--num-val': 1, '--density': density}
    arguments = [str(word) for option in options.items() for word in option]
    subprocess.run(
        [
            *(sys.executable, str(tool), 'toy-city', '--out', root, *arguments),
            *('--size', *map(str, size)),
        ],
        check=True,
        stdout=sys.stderr,
    )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--data-root', help='folder for the frames, kept (default: a temporary one)'
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        default=(1024, 2048),
        metavar=('HEIGHT', 'WIDTH'),
        help='size of frames and crops in pixels',
    )
    parser.add_argument('--frames', type=int, default=16, help='frames to draw')
    parser.add_argument(
        '--density', type=float, default=10.0, help='of things, see prepare_dataset.py'
    )
    parser.add_argument('--workers', type=int, nargs='+', default=[1, 2])
    parser.add_argument('--images', type=int, default=32, help='images in a pass')
    parser.add_argument('--repeat', type=int, default=3, help='timed passes')
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    if importlib.util.find_spec('panopticapi') is None:
        parser.error(
            "mmdet's LoadPanopticAnnotations needs panopticapi: "
            'pip install --no-deps panopticapi-lite'
        )
    return args


def print_table(results: list[dict]) -> None:
    """Print the results for people."""
    for row in results:
        print(
            f'{row["name"]:6s} {row["workers"]} worker(s) '
            f'{row["images_per_s"]:7.2f} images/s {row["peak_extra_mb"]:8.1f} MB'
        )
    for row in {row['name']: row for row in results}.values():
        floor = row['decode_s']
        total = sum(row['steps_s'].values())
        print(f'\n{row["name"]}: {total / floor:.2f} times decoding ({floor:.4f} s)')
        for step, seconds in row['steps_s'].items():
            print(f'  {step:24s} {seconds:.4f} s')


def main() -> None:
    """Measure every contender on the same frames and report."""
    args = parse_args()
    size = tuple(args.size)
    results = []
    with tempfile.TemporaryDirectory() as folder:
        root = args.data_root or f'{folder}/toy_city'
        make_frames(root, size, args.frames, args.density)
        counts = [len(item['instances']) for item in read_frames(root, 'ours')]
        if not counts:
            sys.exit(
                f'error: none of the {args.frames} frames has {INSTANCES[0]} to '
                f'{INSTANCES[1]} instances; change --density or raise --frames'
            )
        settings = (root, size, args.workers, args.images, args.repeat)
        for name in CONTENDERS:
            results += in_fresh_process(measure, name, *settings)
    if args.json:
        print_json(
            'training_pipeline',
            results,
            threads=1,
            height=size[0],
            width=size[1],
            frames=len(counts),
            instances_per_frame=round(statistics.mean(counts), 1),
        )
    else:
        print_table(results)


if __name__ == '__main__':
    main()
