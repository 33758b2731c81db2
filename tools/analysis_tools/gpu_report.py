# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Steps of gpu_report.sh: compare a device with the CPU and with itself, and report.

``equality``: the same weights and input on both devices, in float32 without TF32, at
half of the size, for the CPU's sake; what differs is given relative to the largest
value, and of maps the share of pixels that are the same. ``iabn``: the compiled engine
of InPlaceABN next to the one of this package.
``determinism``: some training steps twice, with and without PyTorch's deterministic
algorithms. ``write``: report.json and report.md of what the steps have left.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import isnan
from pathlib import Path
from typing import Any

from benchmark_inference import (
    CONFIGS,
    build_network,
    make_batch,
    make_image,
    make_typical,
    parse_size,
)
from benchmarking import MB, machine, print_json

# Largest difference between devices, relative to the largest value: of sums of
# thousands of float32 numbers in another order.
TOLERANCE = 1e-3
# Pixels that are the same: where two classes are equally likely rounding decides.
SAME_PIXELS = 0.999
STEPS = 3


def difference(found: Any, expected: Any) -> float:
    """Largest difference of two tensors relative to the largest value of the second.

    Args:
        found: Tensor or sequence of tensors.
        expected: The same from the CPU.

    Returns:
        The largest of all.
    """
    if not hasattr(expected, 'abs'):
        pairs = zip(found, expected, strict=True)
        values = [difference(*pair) for pair in pairs]
        # max() may pass a NaN over.
        return max(values, key=lambda value: (isnan(value), value))
    scale = expected.abs().max().clamp(min=1e-12)
    return float((found.cpu() - expected).abs().max() / scale)


def result(name: str, value: float, limit: float, at_least: bool = False) -> dict:
    """Row of the report: what was compared, how much differs, whether that is well."""
    fits = value >= limit if at_least else value <= limit
    return {'name': name, 'value': value, 'limit': limit, 'ok': fits}


def compare_ops(device: str) -> list[dict]:
    """Compare the two compiled operators that every prediction needs."""
    import torch
    from mmcv.ops import nms, roi_align

    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(2000, 2, generator=generator) * 200
    sides = torch.rand(2000, 2, generator=generator) * 60 + 1
    boxes = torch.cat([corners, corners + sides], dim=1)
    scores = torch.rand(2000, generator=generator)
    kept = nms(boxes, scores, 0.5)[1]
    same = kept.equal(nms(boxes.to(device), scores.to(device), 0.5)[1].cpu())
    features = torch.rand(1, 16, 64, 64, generator=generator)
    rois = torch.cat([torch.zeros(2000, 1), boxes], dim=1)
    arguments = (7, 0.25, 2, 'avg', True)
    expected = roi_align(features, rois, *arguments)
    found = roi_align(features.to(device), rois.to(device), *arguments)
    return [
        result('mmcv nms, kept boxes are the same', float(same), 1, at_least=True),
        result('mmcv RoIAlign', difference(found, expected), TOLERANCE),
    ]


def compare_networks(config: str, size: tuple[int, int], device: str) -> list[dict]:
    """Compare parts and the whole of a prediction."""
    import torch

    from mmdet_efficientps import load_config

    image = make_image(*size)
    model = build_network(load_config(config))
    make_typical(model, image)
    other = copy.deepcopy(model).to(device)
    with torch.no_grad():
        batches = [net.data_preprocessor(make_batch(image)) for net in (model, other)]
        features = [
            net.backbone(batch['inputs'])
            for net, batch in zip((model, other), batches, strict=True)
        ]
        # Each part gets the same from the CPU, so that differences do not add up.
        neck = model.neck(features[0])
        moved = [level.to(device) for level in features[0]]
        rows = [
            result('backbone', difference(features[1], features[0]), TOLERANCE),
            result('neck', difference(other.neck(moved), neck), TOLERANCE),
            result(
                'semantic head',
                difference(
                    other.semantic_head([level.to(device) for level in neck])[
                        'seg_preds'
                    ],
                    model.semantic_head(neck)['seg_preds'],
                ),
                TOLERANCE,
            ),
        ]
        inputs = model.predict_fusion_inputs(
            batches[0]['inputs'], batches[0]['data_samples'], **model.needed_parts()
        )[0]
        maps = [
            model.panoptic_fusion_head.fuse(inputs)[0],
            other.panoptic_fusion_head.fuse(inputs.to(device))[0],
        ]
        rows.append(compare_maps('fusion', *maps))
        whole = [
            net.test_step(make_batch(image))[0].pred_panoptic_seg.sem_seg
            for net in (model, other)
        ]
    rows.append(compare_maps('whole prediction', *whole))
    return rows


def compare_maps(name: str, expected: Any, found: Any) -> dict:
    """Share of the pixels of two maps that are the same."""
    same = float((expected.cpu() == found.cpu()).float().mean())
    return result(f'{name}, same pixels', same, SAME_PIXELS, at_least=True)


def engines(device: str) -> list[str]:
    """Engines of InPlaceABN that work on a device."""
    import torch

    from mmdet_efficientps.models.layers.inplace_abn import compiled_engine_serves

    kind = torch.device(device).type
    served = compiled_engine_serves(kind, torch.float32)
    return ['torch', 'compiled'] if served else ['torch']


def run_iabn(engine: str, x: Any, grad: Any) -> tuple:
    """Forward and backward of one layer; gives output, gradients and statistics."""
    import torch

    from mmdet_efficientps.models.layers import InPlaceABN

    torch.manual_seed(0)
    layer = InPlaceABN(x.shape[1], engine=engine).train()
    torch.nn.init.normal_(layer.weight)
    layer.to(x.device)
    leaf = x.clone().requires_grad_()
    # The compiled engine overwrites its input.
    out = layer(leaf * 1)
    out.backward(grad)
    gradients = (leaf.grad, layer.weight.grad, layer.bias.grad)
    return (out.detach(), *gradients, layer.running_mean, layer.running_var)


def compare_iabn(device: str) -> list[dict]:
    """Compare each engine on the device with ours on the CPU."""
    import torch

    generator = torch.Generator().manual_seed(0)
    x, grad = torch.randn(2, 2, 32, 24, 40, generator=generator)
    expected = run_iabn('torch', x, grad)
    return [
        result(
            f'iABN, engine {engine!r}',
            difference(run_iabn(engine, x.to(device), grad.to(device)), expected),
            TOLERANCE,
        )
        for engine in engines(device)
    ]


def time_iabn(size: tuple[int, int], device: str) -> list[dict]:
    """Time and memory of forward and backward at a quarter of the image's size."""
    import torch

    x = torch.randn(1, 128, size[0] // 4, size[1] // 4, device=device)
    grad = torch.randn_like(x)
    rows = []
    for engine in engines(device):
        run_iabn(engine, x, grad)
        times = []
        for _ in range(10):
            with measured(device) as taken:
                run_iabn(engine, x, grad)
            times.append(taken['seconds'])
        row = {'name': f'iABN {engine}', 'median_s': statistics.median(times)}
        rows.append(row | {'peak_extra_mb': taken['peak_mb']})
    return rows


@contextmanager
def measured(device: str) -> Iterator[dict]:
    """Measure seconds and, on a GPU, the peak of memory over what was there, in MB."""
    import torch

    on_cuda = torch.device(device).type == 'cuda'
    taken: dict = {'peak_mb': None}
    if on_cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    start = time.perf_counter()
    yield taken
    if on_cuda:
        torch.cuda.synchronize()
        taken['peak_mb'] = (torch.cuda.max_memory_allocated() - before) / MB
    taken['seconds'] = time.perf_counter() - start


def train_steps(config: str, size: tuple[int, int], device: str) -> dict:
    """Train some steps from a seed; gives losses and weights.

    Args:
        config: Name of the config.
        size: Height and width of the image.
        device: Torch device.

    Returns:
        Losses of every step by 'losses', weights by 'weights'.
    """
    import torch
    from mmdet.testing import demo_mm_inputs
    from mmengine.optim import OptimWrapper
    from mmengine.runner import set_random_seed

    from mmdet_efficientps import load_config

    model = build_network(load_config(config)).requires_grad_(True).train().to(device)
    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9))
    # The batch is drawn, and so are the samples that the losses are of.
    set_random_seed(0)
    batch = demo_mm_inputs(
        batch_size=1,
        image_shapes=(3, *size),
        num_items=[8],
        num_classes=model.panoptic_fusion_head.num_things_classes,
        with_mask=True,
        with_semantic=True,
    )
    losses = [
        {
            name: value.item()
            for name, value in model.train_step(copy.deepcopy(batch), wrapper).items()
        }
        for _ in range(STEPS)
    ]
    weights = {name: value.cpu() for name, value in model.state_dict().items()}
    return {'losses': losses, 'weights': weights}


def check_determinism(config: str, size: tuple[int, int], device: str) -> list[dict]:
    """Train twice with deterministic algorithms and twice without."""
    import torch

    rows = []
    for name in ('deterministic', 'default'):
        # Operators that have no such algorithm warn.
        torch.use_deterministic_algorithms(name == 'deterministic', warn_only=True)
        torch.backends.cudnn.deterministic = name == 'deterministic'
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            first, second = (train_steps(config, size, device) for _ in range(2))
        operators = {
            str(warning.message).partition(' ')[0]
            for warning in caught
            if 'does not have a deterministic implementation' in str(warning.message)
        }
        weights = [run['weights'].values() for run in (first, second)]
        rows.append(
            {
                'name': f'{name} algorithms, {STEPS} steps twice',
                'losses_equal': first['losses'] == second['losses'],
                'weights_equal': all(map(torch.equal, *weights)),
                'without_deterministic_algorithm': sorted(operators),
            }
        )
    return rows


def write_report(out: Path, device: str, names: list[str]) -> bool:
    """Write report.json and report.md of the files that the steps have left.

    Args:
        out: Folder of the files.
        device: Torch device of the steps.
        names: The steps, which are the names of their files.

    Returns:
        False if the step equality found something that differs, or failed.
    """
    steps: dict[str, dict] = {}
    for name in names:
        log = out / f'{name}.log'
        try:
            steps[name] = json.loads(log.with_suffix('.json').read_text())
        except (OSError, ValueError):
            # The last error; what is indented explains it.
            lines = [line for line in log.read_text().splitlines() if line[:1].strip()]
            steps[name] = {'failed': lines[-1] if lines else 'it gave no result'}
    report = {'machine': machine(device), 'device': device, 'steps': steps}
    (out / 'report.json').write_text(json.dumps(report, indent=1))
    text = markdown(report)
    (out / 'report.md').write_text(text)
    print(text)
    rows = steps.get('equality', {'results': []}).get('results', [{'ok': False}])
    return all(row['ok'] for row in rows)


def markdown(report: dict) -> str:
    """Make tables of a report.

    Args:
        report: machine, device and steps; a step has results, or why it failed.

    Returns:
        The text.
    """
    lines = [f'# {report["machine"]}', '']
    for step, content in report['steps'].items():
        lines += [f'## {step}', '']
        if 'failed' in content:
            lines += [f'Failed: {content["failed"]}', '']
            continue
        rows = content['results']
        columns = list(dict.fromkeys(key for row in rows for key in row))
        lines += [
            '| ' + ' | '.join(columns) + ' |',
            '|' + '---|' * len(columns),
            *(
                '| ' + ' | '.join(_cell(row.get(key)) for key in columns) + ' |'
                for row in rows
            ),
            '',
        ]
    return '\n'.join(lines)


def _cell(value: Any) -> str:
    """A value in a table."""
    if value is None:
        return ''
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    if isinstance(value, float):
        return f'{value:.4g}'
    if isinstance(value, dict):
        return ', '.join(f'{key} {_cell(part)}' for key, part in value.items())
    if isinstance(value, list):
        return ', '.join(map(_cell, value))
    return str(value)


def main() -> None:
    """Run a step and print its results as one JSON object, or write the report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('step', choices=['equality', 'iabn', 'determinism', 'write'])
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--size', type=parse_size, default='1024x2048')
    parser.add_argument('--config', default='paper', help=', '.join(CONFIGS))
    parser.add_argument('--out', type=Path, help='folder of the files, for write')
    parser.add_argument('--steps', nargs='*', default=[], help='their names, for write')
    args = parser.parse_args()
    if args.step == 'write':
        if not write_report(args.out, args.device, args.steps):
            raise SystemExit('equality: not all is as on the CPU, or it failed')
        return

    import torch

    # TF32 has ten bits, and would be all that is seen.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    half = tuple(max(side // 64 * 32, 32) for side in args.size)
    config, _ = CONFIGS.get(args.config, (args.config, None))
    run: dict[str, Callable[[], list[dict]]] = {
        'equality': lambda: [
            *compare_ops(args.device),
            *compare_iabn(args.device),
            *compare_networks(config, half, args.device),
        ],
        'iabn': lambda: time_iabn(args.size, args.device),
        'determinism': lambda: check_determinism(config, args.size, args.device),
    }
    print_json(
        args.step,
        run[args.step](),
        torch.get_num_threads(),
        args.device,
        config=config,
        height=args.size[0],
        width=args.size[1],
    )


if __name__ == '__main__':
    main()
