# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time and memory of a training step, part by part, next to mmdet's PanopticFPN.

A step goes from images and targets, as loaders give them, to changed weights. All
contenders run on the same images and rectangles as objects, one after the other, each
in a process of its own. How fast loaders are is what benchmark_pipeline.py measures.

Nothing is downloaded, so weights are random. The learning rate is next to nothing, so
that they stay so. The published config of mmdet has the 80 thing and 53 stuff classes
of COCO, and its masks are bitmaps. Memory is the highest of all steps over that of the
built model: activations, targets, gradients and what the optimizer keeps.
"""

import argparse
import statistics
from pathlib import Path
from typing import Any

import numpy as np
from benchmarking import (
    CONFIGS,
    Timer,
    in_fresh_process,
    make_image,
    parse_size,
    peak_memory,
    print_json,
)

OURS: dict[str, dict] = {
    'ours float32': {},
    'ours amp': {'amp': True},
    'ours amp checkpointed': {'amp': True, 'with_cp': True},
    'ours float32 checkpointed': {'with_cp': True},
    'ours float32 channels-last': {'channels_last': True},
}
MMDET = {'panoptic-fpn_r50': 'panoptic_fpn/panoptic-fpn_r50_fpn_1x_coco.py'}
NAMES = (*OURS, *MMDET)
ON_REQUEST = ('ours float32 checkpointed', 'ours float32 channels-last')
# What takes `with_cp`.
CHECKPOINTED = ('backbone', 'neck', 'semantic_head', 'rpn_head', 'roi_head.mask_head')


def make_targets(
    height: int, width: int, instances: int, num_things: int, num_stuff: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make rectangles that do not overlap, before stripes of stuff.

    Args:
        height: Height of the image in pixels.
        width: Its width.
        instances: How many rectangles.
        num_things: How many thing classes there are.
        num_stuff: How many stuff classes there are.

    Returns:
        Map of numbers, (height, width), uint16, 0 where there is no rectangle and k + 1
        in the k-th; boxes, (instances, 4), int64, xyxy; labels, (instances, ), int64;
        semantic map, (height, width), uint8.
    """
    rng = np.random.default_rng(1)
    # Cells about as high as they are wide, with one rectangle each.
    rows = max(round((instances * height / width) ** 0.5), 1)
    columns = -(-instances // rows)
    cells = np.arange(instances)
    cell_height, cell_width = height // max(rows, 1), width // max(columns, 1)
    x1 = cells % max(columns, 1) * cell_width
    y1 = cells // max(columns, 1) * cell_height
    shares = rng.uniform(0.3, 0.9, (2, instances))
    sides = np.maximum((shares.T * (cell_width, cell_height)).astype(int), 1)
    boxes = np.stack([x1, y1, x1 + sides[:, 0], y1 + sides[:, 1]], axis=1)
    labels = rng.integers(0, num_things, instances)
    numbers = np.zeros((height, width), np.uint16)
    semantic = num_things + np.arange(height) * num_stuff // height
    semantic = np.repeat(semantic.astype(np.uint8)[:, None], width, axis=1)
    for k, (left, top, right, bottom) in enumerate(boxes):
        numbers[top:bottom, left:right] = k + 1
        semantic[top:bottom, left:right] = labels[k]
    return numbers, boxes, labels, semantic


def make_batch(model: Any, settings: argparse.Namespace) -> dict:
    """Make what a loader gives for a network."""
    import torch
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmengine.structures import InstanceData, PixelData

    from mmdet_efficientps.structures import PanopticMasks

    height, width = settings.size
    head = model.semantic_head
    numbers, boxes, labels, semantic = make_targets(
        height,
        width,
        settings.instances,
        head.num_things_classes,
        head.num_stuff_classes,
    )
    masks = PanopticMasks(numbers, np.arange(len(boxes)) + 1, boxes, void=0)
    if type(model).__name__ != 'EfficientPS':
        masks = BitmapMasks(masks.masks, height, width)
    image = torch.from_numpy(make_image(height, width)).permute(2, 0, 1).contiguous()
    meta = {
        'img_shape': (height, width),
        'ori_shape': (height, width),
        'scale_factor': (1.0, 1.0),
    }

    def sample() -> DetDataSample:
        return DetDataSample(
            metainfo=meta,
            gt_instances=InstanceData(
                bboxes=HorizontalBoxes(boxes.astype('float32')),
                labels=torch.from_numpy(labels),
                masks=masks,
            ),
            ignored_instances=InstanceData(
                bboxes=HorizontalBoxes(torch.zeros(0, 4)),
                labels=torch.zeros(0, dtype=torch.long),
                masks=masks[:0],
            ),
            gt_sem_seg=PixelData(sem_seg=torch.from_numpy(semantic)[None]),
        )

    count = settings.batch
    return {'inputs': [image] * count, 'data_samples': [sample() for _ in range(count)]}


def build(name: str, settings: argparse.Namespace) -> tuple[Any, Any]:
    """Build a network with random weights, and its optimizer as its config has it."""
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.hub import get_config
    from mmengine.logging import MMLogger
    from mmengine.optim import build_optim_wrapper

    from mmdet_efficientps import load_config

    # Initialisation and the optimizer have a line to say for every weight.
    MMLogger.get_instance('benchmark', log_level='ERROR')
    register_all_modules(init_default_scope=True)
    options = OURS.get(name, {})
    if name in MMDET:
        config = get_config(f'mmdet::{MMDET[name]}')
    else:
        config = load_config(settings.config)
    torch.manual_seed(0)
    config.model.backbone.init_cfg = None
    model = MODELS.build(config.model)
    model.init_weights()
    model.to(settings.device).train()
    if options.get('with_cp'):
        for part in CHECKPOINTED:
            model.get_submodule(part).with_cp = True
    if options.get('channels_last'):
        model.to(memory_format=torch.channels_last)
    config.optim_wrapper.optimizer.lr = 1e-9
    if options.get('amp'):
        config.optim_wrapper.type = 'AmpOptimWrapper'
        config.optim_wrapper.dtype = settings.amp_dtype
    return model, build_optim_wrapper(model, config.optim_wrapper)


def measure(name: str, settings: argparse.Namespace) -> dict:
    """Train for some steps; meant for a fresh process.

    Args:
        name: One of ``NAMES``.
        settings: The command line.

    Returns:
        ``name``; ``median_s``, seconds per image; ``peak_extra_mb``; ``parts_s``,
        seconds per image of each part; ``loss`` of the first step.
    """
    import torch

    torch.set_num_threads(settings.threads)
    on_gpu = settings.device != 'cpu'
    timer = Timer(torch.cuda.synchronize if on_gpu else lambda: None)
    model, optim_wrapper = build(name, settings)
    channels_last = OURS.get(name, {}).get('channels_last')
    timer.wrap_calls(model.backbone, 'backbone')
    timer.wrap_calls(model.neck, 'neck')
    timer.wrap(model.rpn_head, 'loss_and_predict', 'rpn')
    timer.wrap(model.roi_head, 'loss', 'roi')
    timer.wrap(model.semantic_head, 'loss', 'semantic')
    batch = make_batch(model, settings)

    def step() -> float:
        torch.manual_seed(0)
        with optim_wrapper.optim_context(model):
            with timer.part('data'):
                data = model.data_preprocessor(batch, training=True)
                if channels_last:
                    data['inputs'] = data['inputs'].contiguous(
                        memory_format=torch.channels_last
                    )
            loss, _ = model.parse_losses(model(**data, mode='loss'))
        with timer.part('backward'):
            optim_wrapper.backward(loss)
        with timer.part('optimizer'):
            optim_wrapper.step()
            optim_wrapper.zero_grad()
        return loss.item()

    runs: list[dict] = []
    found: dict = {}
    with peak_memory(settings.device, found):
        # The first is slower: what is used again and again is made in it.
        found['loss'] = step()
        for _ in range(settings.repeat):
            timer.seconds.clear()
            with timer.part('whole'):
                step()
            runs.append(dict(timer.seconds))

    def median(part: str) -> float:
        seconds = statistics.median(run[part] for run in runs)
        return round(seconds / settings.batch, 5)

    return {
        'name': name,
        'median_s': median('whole'),
        'peak_extra_mb': round(found['peak_extra_mb'], 1),
        'parts_s': {part: median(part) for part in runs[0] if part != 'whole'},
        'loss': round(found['loss'], 4),
    }


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config',
        default='paper',
        help=f'our network: {" or ".join(CONFIGS)}, or any config; default: paper',
    )
    parser.add_argument(
        '--size',
        type=parse_size,
        help='HEIGHTxWIDTH of the images, multiples of 32; default: 512x1024, with '
        '--config small 256x512',
    )
    parser.add_argument('--batch', type=int, default=1, help='images; default: 1')
    parser.add_argument(
        '--instances', type=int, default=30, help='objects in an image; default: 30'
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=NAMES,
        metavar='NAME',
        help=f'run these only: {", ".join(repr(name) for name in NAMES)}; by default '
        f'all but {", ".join(repr(name) for name in ON_REQUEST)}',
    )
    parser.add_argument(
        '--amp-dtype',
        choices=('float16', 'bfloat16'),
        default='bfloat16',
        help='type of mixed precision; a CPU has bfloat16 only; default: bfloat16',
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    if args.amp_dtype == 'float16' and args.device == 'cpu':
        parser.error('--amp-dtype float16 needs a GPU: --device cuda')
    for option in ('batch', 'threads', 'repeat', 'instances'):
        if getattr(args, option) < (option != 'instances'):
            parser.error(f'--{option} {getattr(args, option)} is too few')
    args.config, size = CONFIGS.get(args.config, (args.config, '512x1024'))
    args.size = args.size or parse_size(size)
    return args


def main() -> None:
    """Measure every contender on the same images and report."""
    args = parse_args()
    names = [
        name
        for name in NAMES
        if (name in args.only if args.only else name not in ON_REQUEST)
    ]
    results = [in_fresh_process(measure, name, args) for name in names]
    if args.json:
        print_json(
            'training',
            results,
            args.threads,
            args.device,
            config=Path(args.config).stem,
            height=args.size[0],
            width=args.size[1],
            batch=args.batch,
            instances=args.instances,
            amp_dtype=args.amp_dtype,
            repeat=args.repeat,
        )
        return
    for row in results:
        parts = '  '.join(f'{k} {v:.3f}' for k, v in row['parts_s'].items())
        print(
            f'{row["name"]:26s} {row["median_s"]:8.3f} s '
            f'{row["peak_extra_mb"]:8.1f} MB   {parts}'
        )


if __name__ == '__main__':
    main()
