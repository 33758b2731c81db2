# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Time and memory of panoptic fusion, next to mmdet's HeuristicFusionHead.

Ours is there twice: on PyTorch, and on NumPy for exported networks (CPU only).

Both start from semantic logits at a quarter of the image size and 28x28 mask logits
and end at the panoptic map of the image; no network runs. Each contender has a
process of its own, so that neither warms or bloats the other. Peak memory is what one
run adds to the resident set of that process (on CUDA: to the allocated memory).
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from benchmarking import (
    MB,
    in_fresh_process,
    peak_resident_mb,
    print_json,
    reset_peak,
    resident_mb,
)

NUM_THINGS, NUM_STUFF = 8, 11
NUM_CLASSES = NUM_THINGS + NUM_STUFF
STRIDE, MASK_SIZE = 4, 28


def make_inputs(
    height: int, width: int, num_instances: int, noise: bool = False, seed: int = 0
) -> dict:
    """Make logits like those of a street scene.

    Args:
        height: Image height in pixels, a multiple of 4.
        width: Image width in pixels, a multiple of 4.
        num_instances: Number of detections. A few are large, most are small.
        noise: Make the semantic logits independent noise in every cell, where hardly
            any two neighbours agree about the class: the worst case.
        seed: Seed of everything random.

    Returns:
        Arguments of ``panoptic_fusion`` by name: ``sem_logits`` (19, h/4, w/4),
        ``bboxes`` (N, 4), ``scores`` (N,), ``labels`` (N,), ``mask_logits``
        (N, 28, 28), ``out_shape`` and ``num_things``.
    """
    rng = torch.Generator().manual_seed(seed)
    cells_y, cells_x = height // STRIDE, width // STRIDE

    labels = torch.randint(NUM_THINGS, (num_instances,), generator=rng)
    box_height = height * (0.03 + 0.6 * torch.rand(num_instances, generator=rng) ** 3)
    box_width = box_height * (0.4 + 1.4 * torch.rand(num_instances, generator=rng))
    half_size = torch.stack((box_width, box_height), 1) / 2
    # The nearer, hence larger, an object is, the lower in the image are its feet.
    center_x = width * torch.rand(num_instances, generator=rng)
    center = torch.stack((center_x, 0.5 * height + 0.2 * box_height), 1)
    bboxes = torch.cat((center - half_size, center + half_size), 1)

    axis = torch.linspace(-1, 1, MASK_SIZE)
    masks = (8 * (0.8 - axis[:, None] ** 2 - axis**2)).repeat(num_instances, 1, 1)
    masks += torch.randn(masks.shape, generator=rng)

    sem_logits = torch.randn(NUM_CLASSES, cells_y, cells_x, generator=rng)
    if not noise:
        classes = _street_classes(cells_y, cells_x, rng)
        y, x = torch.arange(cells_y)[:, None] + 0.5, torch.arange(cells_x) + 0.5
        for label, (x1, y1, x2, y2) in zip(labels, bboxes / STRIDE, strict=True):
            dy, dx = (2 * y - y1 - y2) / (y2 - y1), (2 * x - x1 - x2) / (x2 - x1)
            classes[dy**2 + dx**2 < 0.8] = label
        evidence = F.one_hot(classes, NUM_CLASSES).permute(2, 0, 1).float()
        doubt = torch.randn(
            1, NUM_CLASSES, cells_y // 8 + 1, cells_x // 8 + 1, generator=rng
        )
        sem_logits *= 0.3
        sem_logits += 10 * F.avg_pool2d(evidence, 5, 1, 2) - 3
        sem_logits += 1.5 * F.interpolate(doubt, (cells_y, cells_x), mode='bilinear')[0]

    return {
        'sem_logits': sem_logits,
        'bboxes': bboxes,
        'scores': 0.5 + 0.5 * torch.rand(num_instances, generator=rng),
        'labels': labels,
        'mask_logits': masks,
        'out_shape': (height, width),
        'num_things': NUM_THINGS,
    }


def _street_classes(cells_y: int, cells_x: int, rng: torch.Generator) -> torch.Tensor:
    """Sky, a row of blocks of any other stuff below it, pavement, road."""
    sky, pavement, road = range(NUM_THINGS, NUM_THINGS + 3)
    classes = torch.full((cells_y, cells_x), sky)
    block = max(cells_x // 16, 1)
    for left in range(0, cells_x, block):
        top = int(torch.randint(cells_y // 3, (1,), generator=rng))
        kind = torch.randint(road + 1, NUM_CLASSES, (1,), generator=rng)
        classes[top:, left : left + block] = kind
    classes[int(0.55 * cells_y) :] = pavement
    classes[int(0.65 * cells_y) :] = road
    return classes


def prepare_ours(inputs: dict) -> Callable[[], torch.Tensor]:
    """Return a call of our fusion that gives the panoptic map."""
    from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
        panoptic_fusion,
    )

    return lambda: panoptic_fusion(**inputs)


def prepare_ours_numpy(inputs: dict) -> Callable[[], np.ndarray]:
    """Return a call of the fusion that exported networks have."""
    from mmdet_efficientps.deployment.panoptic_onnx import panoptic_fusion

    arrays = {
        key: value.numpy() if torch.is_tensor(value) else value
        for key, value in inputs.items()
    }
    return lambda: panoptic_fusion(**arrays)[0]


def prepare_mmdet_heuristic(inputs: dict) -> Callable[[], torch.Tensor]:
    """Return a call of what mmdet's panoptic detectors do after their heads.

    Masks are pasted by ``FCNMaskHead``, semantic logits are brought to the image size
    by ``BaseSemanticHead``, and ``HeuristicFusionHead`` joins them. Its semantic input
    has one channel for all things, as in mmdet's Panoptic FPN.
    """
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from mmdet.models.seg_heads import HeuristicFusionHead
    from mmdet.models.seg_heads.base_semantic_head import BaseSemanticHead
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    class GivenLogits(BaseSemanticHead):
        def forward(self, x: torch.Tensor) -> dict:
            return {'seg_preds': x}

        def loss(self, x: torch.Tensor, batch_data_samples: list) -> dict:
            return {}

    things, stuff = inputs['sem_logits'].split((NUM_THINGS, NUM_STUFF))
    sem_logits = torch.cat((stuff, things.amax(0, keepdim=True)))[None]
    mask_logits = inputs['mask_logits'][:, None]
    shape = inputs['out_shape']
    meta = {
        'img_shape': shape,
        'ori_shape': shape,
        'batch_input_shape': shape,
        'scale_factor': (1.0, 1.0),
    }
    mask_head = FCNMaskHead(num_convs=0, num_classes=1, class_agnostic=True)
    semantic_head = GivenLogits(NUM_STUFF + 1, loss_seg={'type': 'CrossEntropyLoss'})
    fusion_head = HeuristicFusionHead(
        NUM_THINGS,
        NUM_STUFF,
        test_cfg=ConfigDict(mask_overlap=0.5, stuff_area_limit=2048),
    )

    def fuse() -> torch.Tensor:
        instances = InstanceData(
            bboxes=inputs['bboxes'].clone(),
            scores=inputs['scores'],
            labels=inputs['labels'],
        )
        instances = mask_head.predict_by_feat(
            (mask_logits,),
            [instances],
            [meta],
            ConfigDict(mask_thr_binary=0.5),
            rescale=True,
        )
        logits = semantic_head.predict(sem_logits, [meta], rescale=True)
        return fusion_head.predict(instances, logits)[0].sem_seg[0]

    return fuse


CONTENDERS: dict[str, Callable[[dict], Callable]] = {
    'ours': prepare_ours,
    'ours_numpy': prepare_ours_numpy,
    'mmdet_heuristic': prepare_mmdet_heuristic,
}


def measure(
    name: str, inputs_file: str, device: str, threads: int, repeat: int
) -> dict:
    """Run one contender; meant for a fresh process.

    The inputs come from a file because making them would leave freed memory behind,
    which a run could use again unseen.

    Args:
        name: Key of ``CONTENDERS``.
        inputs_file: What ``make_inputs`` returned, written by ``torch.save``.
        device: Torch device to run on.
        threads: Number of CPU threads.
        repeat: Number of timed runs.

    Returns:
        ``name``, ``median_s`` and ``peak_extra_mb`` (MB of 2**20 bytes).
    """
    torch.set_num_threads(threads)
    on_cuda = torch.device(device).type == 'cuda'

    def prepare(inputs: dict) -> Callable:
        inputs = {
            key: value.to(device) if torch.is_tensor(value) else value
            for key, value in inputs.items()
        }
        return CONTENDERS[name](inputs)

    def synchronize() -> None:
        if on_cuda:
            torch.cuda.synchronize(device)

    with torch.no_grad():
        prepare(make_inputs(64, 128, 3))()  # load kernels, start threads
        run = prepare(torch.load(inputs_file))
        synchronize()
        if on_cuda:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device) / MB
            run()
            synchronize()
            peak = torch.cuda.max_memory_allocated(device) / MB
        else:
            reset_peak()
            before = resident_mb()
            run()
            peak = peak_resident_mb()

        seconds = []
        for _ in range(repeat):
            start = time.perf_counter()
            run()
            synchronize()
            seconds.append(time.perf_counter() - start)
    return {
        'name': name,
        'median_s': round(statistics.median(seconds), 5),
        'peak_extra_mb': round(peak - before, 1),
    }


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--height', type=int, default=1024, help='multiple of 4')
    parser.add_argument('--width', type=int, default=2048, help='multiple of 4')
    parser.add_argument('--instances', type=int, default=30)
    parser.add_argument(
        '--noise', action='store_true', help='random semantic logits: the worst case'
    )
    parser.add_argument('--device', default='cpu')
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--repeat', type=int, default=5)
    parser.add_argument('--json', action='store_true', help='print one JSON object')
    args = parser.parse_args()
    for name in ('height', 'width'):
        if getattr(args, name) % STRIDE:
            parser.error(f'--{name} must be a multiple of {STRIDE}')
    return args


def main() -> None:
    """Measure every contender on the same input and report."""
    args = parse_args()
    inputs = make_inputs(args.height, args.width, args.instances, args.noise)
    x1, y1, x2, y2 = inputs['bboxes'].T
    box_area = ((x2 - x1) * (y2 - y1)).sum() / (args.height * args.width)
    with tempfile.TemporaryDirectory() as folder:
        inputs_file = str(Path(folder) / 'inputs.pt')
        torch.save(inputs, inputs_file)
        settings = (inputs_file, args.device, args.threads, args.repeat)
        names = [
            name for name in CONTENDERS if args.device == 'cpu' or name != 'ours_numpy'
        ]
        results = [in_fresh_process(measure, name, *settings) for name in names]

    if args.json:
        print_json(
            'panoptic_fusion',
            results,
            args.threads,
            args.device,
            height=args.height,
            width=args.width,
            instances=args.instances,
            box_area_per_image_area=round(float(box_area), 3),
            noise=args.noise,
        )
    else:
        for result in results:
            print(
                f'{result["name"]:16s} {result["median_s"]:8.3f} s '
                f'{result["peak_extra_mb"]:8.1f} MB'
            )


if __name__ == '__main__':
    main()
