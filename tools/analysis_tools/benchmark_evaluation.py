# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time and memory of measuring panoptic quality, next to the public evaluators.

All score the same images: toy_city scenes as ground truth, and as predictions the same
scenes with wavy outlines, wrong classes, merged and missing segments. Ours runs fed
from memory (true ids and a prediction as the network gives it) and from PNG files;
cityscapesscripts reads PNG files; mmdet's CocoPanopticMetric takes the prediction from
memory and writes and reads PNGs. One row is the mere decoding of the two PNGs of an
image. Each contender has a process and a thread of its own, and runs over all images.

mmdet's metric needs ``pip install --no-deps panopticapi-lite``; it is left out
otherwise.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
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
from cityscapesscripts.helpers.labels import id2label
from mmdet.evaluation.functional import INSTANCE_OFFSET

from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.evaluation.functional import (
    PanopticQualityStat,
    class_groups,
    encoded_quality_stats,
    summarize,
)
from mmdet_efficientps.evaluation.panoptic_files import (
    evaluate_panoptic_files,
)
from mmdet_efficientps.structures.panoptic import (
    decode_panoptic_seg,
    segments_info,
    write_panoptic_png,
)
from mmdet_efficientps.testing.toy_city import render_scene

META = CityscapesPanopticDataset.METAINFO
CLASSES, THINGS = META['classes'], META['thing_classes']
VOID = len(CLASSES)
GROUPS = class_groups(CLASSES, THINGS, META['stuff_classes'])
WARM_UP_SHAPE = (64, 128)
# Scenes drawn for one image before the wanted number of segments is given up.
MAX_TRIES = 50


def true_segments(instance_ids: np.ndarray) -> tuple[np.ndarray, list[dict]]:
    """Turn Cityscapes' instance ids into panoptic ground truth.

    Args:
        instance_ids: Ids of instanceIds.png, shape (H, W).

    Returns:
        Segment ids (H, W), 0 where a label is not evaluated, and the ``id``,
        ``category`` and ``iscrowd`` of every segment.
    """
    ids = instance_ids.astype(np.int32)
    segments = []
    for value in np.unique(ids).tolist():
        name = id2label[value if value < 1000 else value // 1000].name
        if name not in CLASSES:
            ids[ids == value] = 0
            continue
        crowd = int(name in THINGS and value < 1000)
        segments.append(
            {'id': value, 'category': CLASSES.index(name), 'iscrowd': crowd}
        )
    return ids, segments


def predict(
    ids: np.ndarray, segments: list[dict], rng: np.random.Generator
) -> np.ndarray:
    """Make up a prediction with the kinds of errors that networks make.

    Args:
        ids: True segment ids, shape (H, W).
        segments: ``id`` and ``category`` of the true segments.
        rng: Source of everything random.

    Returns:
        label + instance * INSTANCE_OFFSET, void = number of classes, (H, W), int32.
    """
    height, width = ids.shape
    # Outlines that wander by a few pixels, differently in every place.
    y, x = np.mgrid[:height, :width].astype(np.float32)
    coarse = rng.normal(0, 0.003 * height, (2, height // 16, width // 16))
    dy, dx = (
        cv2.resize(shift.astype(np.float32), (width, height), None, 0, 0)
        for shift in coarse
    )
    numbers = {segment['id']: k for k, segment in enumerate(segments, start=1)}
    index = np.zeros(ids.max() + 1, dtype=np.uint16)
    index[list(numbers)] = list(numbers.values())
    moved = cv2.remap(index[ids], x + dx, y + dy, cv2.INTER_NEAREST)

    codes = np.full(len(segments) + 1, VOID, dtype=np.int32)
    for number, segment in enumerate(segments, start=1):
        label = segment['category']
        chance = rng.random()
        if chance < 0.05:
            continue
        if chance < 0.15:
            label = int(rng.integers(VOID))
        # Two in ten share their number with another: they are merged if it is of
        # their class, as stuff always is.
        merged = chance > 0.8 or label >= len(THINGS)
        instance = int(rng.integers(1, 4)) if merged else number + 3
        codes[number] = label + INSTANCE_OFFSET * (instance if label < 8 else 0)
    return codes[moved]


def write_images(
    folder: Path, count: int, shape: tuple[int, int], num_segments: tuple[int, int]
) -> None:
    """Write ground truth and predictions, as files and as arrays.

    Args:
        folder: Folder to write.
        count: Number of images.
        shape: Height and width in pixels.
        num_segments: Least and largest number of true segments of an image; scenes
            with others are passed over.

    Raises:
        SystemExit: If the scenes do not have that number of segments.
    """
    annotations: dict[str, list] = {'gt': [], 'pred': []}
    seed = 0
    while len(annotations['gt']) < count:
        if seed >= MAX_TRIES * count:
            sys.exit(
                f'error: only {len(annotations["gt"])} of {seed} scenes of '
                f'{shape[0]}x{shape[1]} pixels have {num_segments[0]} to '
                f'{num_segments[1]} segments; choose other --segments'
            )
        scene = render_scene((0, seed), shape, density=8.0)
        rng = np.random.default_rng(seed)
        seed += 1
        gt_ids, gt_segments = true_segments(scene.instance_ids)
        if not num_segments[0] <= len(gt_segments) <= num_segments[1]:
            continue
        encoded = predict(gt_ids, gt_segments, rng)
        pred_ids, pred_segments = decode_panoptic_seg(encoded, VOID)
        name = f'{len(annotations["gt"])}.png'
        for kind, ids, segments in (
            ('gt', gt_ids, gt_segments),
            ('pred', pred_ids, pred_segments),
        ):
            write_panoptic_png(folder / kind / name, ids)
            info = segments_info(ids, segments, range(VOID))
            for entry, segment in zip(info, segments, strict=True):
                entry['iscrowd'] = segment.get('iscrowd', 0)
            annotations[kind].append(
                {'image_id': name, 'file_name': name, 'segments_info': info}
            )
        np.savez(folder / f'{name}.npz', gt_ids=gt_ids, encoded=encoded)
    for kind, entries in annotations.items():
        content = {
            'images': [
                {
                    'id': entry['image_id'],
                    'file_name': entry['file_name'],
                    'height': shape[0],
                    'width': shape[1],
                }
                for entry in entries
            ],
            'annotations': entries,
            'categories': [
                {'id': label, 'name': name, 'isthing': int(name in THINGS)}
                for label, name in enumerate(CLASSES)
            ],
        }
        (folder / f'{kind}.json').write_text(json.dumps(content))


def load_arrays(folder: Path) -> list[dict]:
    """Read what an evaluation in memory gets: ids, segments and predictions."""
    images = []
    for entry in json.loads((folder / 'gt.json').read_text())['annotations']:
        arrays = np.load(folder / f'{entry["file_name"]}.npz')
        segments = [s | {'category': s['category_id']} for s in entry['segments_info']]
        images.append(
            {
                'name': entry['file_name'],
                'gt_ids': arrays['gt_ids'],
                'segments': segments,
                'encoded': arrays['encoded'],
            }
        )
    return images


def prepare_ours_in_memory(folder: Path) -> Callable[[], float]:
    """Return a call of what our metric does once the true ids are read."""
    images = load_arrays(folder)

    def run() -> float:
        total = PanopticQualityStat.zeros(VOID)
        for image in images:
            total += encoded_quality_stats(
                image['gt_ids'], image['segments'], image['encoded'], VOID
            )
        return summarize(total, GROUPS)['All']['pq']

    return run


def prepare_ours_from_files(folder: Path) -> Callable[[], float]:
    """Return a call of our evaluation of files, in one process."""

    def run() -> float:
        quality = evaluate_panoptic_files(folder / 'gt.json', folder / 'pred.json')
        (stat,) = quality.stats
        return summarize(stat, quality.groups)['All']['pq']

    return run


def prepare_cityscapesscripts(folder: Path) -> Callable[[], float]:
    """Return a call of the core of cityscapesscripts' evaluator, in one process."""
    from cityscapesscripts.evaluation import evalPanopticSemanticLabeling as peer

    gt, pred = (
        json.loads((folder / f'{kind}.json').read_text()) for kind in ('gt', 'pred')
    )
    pairs = list(zip(gt['annotations'], pred['annotations'], strict=True))
    categories = {c['id']: c for c in gt['categories']}

    def run() -> float:
        stat = peer.pq_compute_single_core(
            0, pairs, folder / 'gt', folder / 'pred', categories
        )
        return stat.pq_average(categories, isthing=None)[0]['pq']

    return run


def prepare_mmdet(folder: Path) -> Callable[[], float]:
    """Return a call of mmdet's metric, which gets one image after the other."""
    from mmdet.evaluation import CocoPanopticMetric

    images = load_arrays(folder)

    def run() -> float:
        metric = CocoPanopticMetric(
            ann_file=str(folder / 'gt.json'), seg_prefix=str(folder / 'gt')
        )
        metric.dataset_meta = META
        for image in images:
            # The metric writes void into the prediction that it gets.
            sem_seg = torch.from_numpy(image['encoded'].copy())[None]
            sample = {
                'img_id': image['name'],
                'img_path': image['name'],
                'ori_shape': image['gt_ids'].shape,
                'pred_panoptic_seg': {'sem_seg': sem_seg},
            }
            metric.process({}, [sample])
        return metric.evaluate(len(images))['coco_panoptic/PQ'] / 100

    return run


def prepare_png_decoding(folder: Path) -> Callable[[], None]:
    """Return a call that only decodes the PNGs."""
    files = [str(path) for kind in ('gt', 'pred') for path in (folder / kind).iterdir()]

    def run() -> None:
        for path in files:
            cv2.imread(path, cv2.IMREAD_UNCHANGED)

    return run


CONTENDERS = {
    'ours_in_memory': prepare_ours_in_memory,
    'ours_from_files': prepare_ours_from_files,
    'cityscapesscripts': prepare_cityscapesscripts,
    'mmdet_coco_panoptic_metric': prepare_mmdet,
    'png_decoding': prepare_png_decoding,
}


def measure(name: str, warm_up: Path, folder: Path, count: int, repeat: int) -> dict:
    """Run one contender; meant for a fresh process.

    Args:
        name: Key of ``CONTENDERS``.
        warm_up: Folder with a small image.
        folder: Folder with the images.
        count: Number of images in it.
        repeat: Number of timed runs over all images.

    Returns:
        ``name``, ``median_s`` per image, ``peak_extra_mb`` (MB of 2**20 bytes that a
        run adds to the resident memory) and ``pq``, by which the contenders agree.
    """
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with contextlib.redirect_stdout(io.StringIO()):
        CONTENDERS[name](warm_up)()
        run = CONTENDERS[name](folder)
        reset_peak()
        before = resident_mb()
        quality = run()
        peak = peak_resident_mb()
        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            run()
            seconds.append((time.perf_counter() - start) / count)
    row = {
        'name': name,
        'median_s': round(statistics.median(seconds), 5),
        'peak_extra_mb': round(peak - before, 1),
    }
    return row if quality is None else row | {'pq': quality}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--height', type=int, default=1024)
    parser.add_argument('--width', type=int, default=2048)
    parser.add_argument('--images', type=int, default=4, help='number of images')
    parser.add_argument(
        '--segments',
        type=int,
        nargs=2,
        default=(40, 60),
        metavar=('MIN', 'MAX'),
        help='true segments in an image',
    )
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    return parser.parse_args()


def main() -> None:
    """Measure every contender on the same images and report."""
    args = parse_args()
    names = list(CONTENDERS)
    if importlib.util.find_spec('panopticapi') is None:
        names.remove('mmdet_coco_panoptic_metric')
    with tempfile.TemporaryDirectory() as root:
        warm_up, folder = Path(root) / 'warm_up', Path(root) / 'images'
        write_images(warm_up, 1, WARM_UP_SHAPE, (1, 10**6))
        shape = (args.height, args.width)
        write_images(folder, args.images, shape, tuple(args.segments))
        results = [
            in_fresh_process(measure, name, warm_up, folder, args.images, args.repeat)
            for name in names
        ]
        annotations = json.loads((folder / 'gt.json').read_text())['annotations']
    counts = [len(entry['segments_info']) for entry in annotations]

    if args.json:
        print_json(
            'panoptic_evaluation',
            results,
            threads=1,
            height=args.height,
            width=args.width,
            images=args.images,
            mean_segments=statistics.mean(counts),
        )
    else:
        for result in results:
            print(
                f'{result["name"]:26s} {1000 * result["median_s"]:8.1f} ms '
                f'{result["peak_extra_mb"]:8.1f} MB'
            )


if __name__ == '__main__':
    main()
