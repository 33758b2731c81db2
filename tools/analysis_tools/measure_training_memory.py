# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Count the bytes that a training step of a network keeps for its backward pass.

That is most of the memory of a training, it grows with the pixels of the crop, and it
can be counted on any machine: every tensor that autograd saves is counted once. Two
sizes of the crop give the bytes for each pixel and those for the RoIs of an image.
Not counted are weights, gradients and states of the optimizer, and what a device needs
for a moment. ``tools/new_config.py`` chooses crops by these numbers.

Example::

    python tools/analysis_tools/measure_training_memory.py \
        efficientps_lite0-small_1xb2-760_toy-city-256x512
"""

import argparse
import json
from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import init_default_scope
from torch import nn

from mmdet_efficientps import load_config

NUM_THINGS = 20


def count_saved_bytes(
    function: Callable[[], Any], weights: Iterable[torch.Tensor] = ()
) -> int:
    """Count what a function saves for its backward pass.

    Args:
        function (Callable[[], Any]): What is called; its result is kept meanwhile.
        weights (Iterable[torch.Tensor]): Tensors that do not count. Defaults to ().

    Returns:
        int: Bytes of all saved tensors; memory that several of them share counts once.
    """
    left_out = {weight.untyped_storage().data_ptr() for weight in weights}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in left_out:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        # Kept until it is counted: freed memory would be used again and count once.
        result = function()
    del result
    return sum(kept.values())


def training_bytes(model: nn.Module, shape: tuple[int, int]) -> int:
    """Count what the forward pass of one training image saves.

    Args:
        model (nn.Module): A panoptic detector in training mode.
        shape (tuple[int, int]): Height and width of the crop in pixels.

    Returns:
        int: Bytes, those of the weights not among them.
    """
    batch = demo_mm_inputs(
        1,
        image_shapes=[(3, *shape)],
        num_items=[NUM_THINGS],
        num_classes=model.roi_head.bbox_head.num_classes,
        with_mask=True,
        with_semantic=True,
    )
    data = model.data_preprocessor(batch, training=True)
    return count_saved_bytes(lambda: model(**data, mode='loss'), model.parameters())


def main() -> None:
    """Count for two sizes and print bytes per pixel and per image."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file, or name of a config')
    parser.add_argument(
        '--shapes',
        type=int,
        nargs=4,
        default=[256, 256, 256, 512],
        metavar=('H1', 'W1', 'H2', 'W2'),
        help='two sizes of the crop in pixels, by default 256 256 and 256 512',
    )
    args = parser.parse_args()
    config = load_config(args.config)
    init_default_scope(config.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    small, large = tuple(args.shapes[:2]), tuple(args.shapes[2:])
    first, second = training_bytes(model, small), training_bytes(model, large)
    pixels = small[0] * small[1], large[0] * large[1]
    slope = (second - first) / (pixels[1] - pixels[0])
    report = {
        'config': args.config,
        'shapes': [small, large],
        'saved_mb': [round(first / 1e6, 1), round(second / 1e6, 1)],
        'bytes_per_pixel': round(slope),
        'mb_per_image': round((first - slope * pixels[0]) / 1e6, 1),
        'params': sum(p.numel() for p in model.parameters()),
    }
    print(json.dumps(report))


if __name__ == '__main__':
    main()
