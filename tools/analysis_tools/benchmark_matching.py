# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time and memory of matching anchors with objects, next to mmdet's assigner.

Both compare the anchors of an image, as the RPN of a config has them, with random
boxes. Memory is what one run adds to a process of its own (on CUDA: to the allocated
memory). The anchors of the paper's network in an image of 1024x2048 are 522,240.
"""

import argparse
import statistics

import torch
from benchmarking import (
    CONFIGS,
    Timer,
    in_fresh_process,
    parse_size,
    peak_memory,
    print_json,
)

ASSIGNERS = {'ours': 'ChunkedMaxIoUAssigner', 'mmdet': 'MaxIoUAssigner'}


def make_boxes(height: int, width: int, count: int) -> torch.Tensor:
    """Make boxes of all sizes, most of them small.

    Args:
        height: Height of the image in pixels.
        width: Its width.
        count: How many.

    Returns:
        (count, 4) float32, xyxy in pixels, inside the image.
    """
    rng = torch.Generator().manual_seed(0)
    size = torch.tensor([width, height], dtype=torch.float32)
    sides = size * (0.01 + 0.4 * torch.rand(count, 2, generator=rng) ** 3)
    corner = (size - sides) * torch.rand(count, 2, generator=rng)
    return torch.cat((corner, corner + sides), 1)


def measure(name: str, settings: argparse.Namespace) -> dict:
    """Match for some times; meant for a fresh process.

    Args:
        name: One of ``ASSIGNERS``.
        settings: The command line.

    Returns:
        ``name``; ``anchors``, their number; ``positive``, how many got an object;
        ``median_s``; ``peak_extra_mb``.
    """
    from mmdet.registry import TASK_UTILS
    from mmdet.utils import register_all_modules
    from mmengine.structures import InstanceData

    from mmdet_efficientps import load_config

    register_all_modules(init_default_scope=True)
    torch.set_num_threads(settings.threads)
    model = load_config(settings.config).model
    generator = TASK_UTILS.build(model.rpn_head.anchor_generator)
    height, width = settings.size
    maps = [(height // y, width // x) for x, y in generator.strides]
    anchors = torch.cat(generator.grid_priors(maps, device=settings.device))
    boxes = make_boxes(height, width, settings.instances).to(settings.device)
    objects = InstanceData(
        bboxes=boxes, labels=torch.zeros(len(boxes), device=boxes.device).long()
    )
    assigner = TASK_UTILS.build(
        model.train_cfg.rpn.assigner | {'type': ASSIGNERS[name]}
    )
    on_gpu = settings.device != 'cpu'
    timer = Timer(torch.cuda.synchronize if on_gpu else lambda: None)
    found: dict = {}
    seconds = []
    with peak_memory(settings.device, found):
        for _ in range(settings.repeat):
            timer.seconds.clear()
            with timer.part('whole'):
                result = assigner.assign(InstanceData(priors=anchors), objects)
            seconds.append(timer.seconds['whole'])
    return {
        'name': name,
        'anchors': len(anchors),
        'positive': int((result.gt_inds > 0).sum()),
        'median_s': round(statistics.median(seconds), 5),
        'peak_extra_mb': round(found['peak_extra_mb'], 1),
    }


def main() -> None:
    """Measure both on the same boxes and report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--config',
        default='paper',
        help=f'whose anchors: {", ".join(CONFIGS)}, or any config; default: paper',
    )
    parser.add_argument(
        '--size',
        type=parse_size,
        default=(1024, 2048),
        help='HEIGHTxWIDTH of the image, multiples of 32; default: 1024x2048',
    )
    parser.add_argument(
        '--instances', type=int, default=150, help='objects in it; default: 150'
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=3)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    for option in ('threads', 'repeat', 'instances'):
        if vars(args)[option] < 1:
            parser.error(f'--{option} {vars(args)[option]} is too few')
    args.config = CONFIGS.get(args.config, (args.config,))[0]
    results = [in_fresh_process(measure, name, args) for name in ASSIGNERS]
    if args.json:
        print_json(
            'matching',
            results,
            args.threads,
            args.device,
            config=args.config,
            height=args.size[0],
            width=args.size[1],
            instances=args.instances,
            repeat=args.repeat,
        )
        return
    for row in results:
        print(
            f'{row["name"]:8s}{row["median_s"]:8.3f} s {row["peak_extra_mb"]:8.1f} MB  '
            f'{row["positive"]} of {row["anchors"]} anchors get an object'
        )


if __name__ == '__main__':
    main()
