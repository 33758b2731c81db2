# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Count the bytes that a training step keeps and a prediction holds at once.

That is most of the memory of a training, it grows with the pixels of the crop, and it
can be counted on any machine: every tensor that autograd saves is counted once. Two
sizes of the crop give the bytes for each pixel and those for the RoIs of an image.
A training validates, too: of a prediction, which keeps nothing, the most is counted
that its tensors hold at one time. Not counted are weights, gradients and states of the
optimizer, and what a device needs for a moment. ``tools/new_config.py`` chooses sizes
of crops and images by these numbers.

Example::

    python tools/analysis_tools/measure_training_memory.py \
        efficientps_lite0-small_1xb2-760_toy-city-256x512
"""

import argparse
import json
import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.registry import init_default_scope
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

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


class LiveBytes(TorchDispatchMode):
    """Counts the tensors that are made inside and how long they live.

    Attributes:
        peak (int): The most bytes that were alive at one time; memory that several
            tensors share counts once, that of tensors from outside not at all.
    """

    def __init__(self, outside: Iterable[torch.Tensor] = ()) -> None:
        """Begin with nothing.

        Args:
            outside (Iterable[torch.Tensor]): Tensors that do not count, such as
                weights. Defaults to ().
        """
        super().__init__()
        self.peak = self._now = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in outside}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Call an operator and note what it makes."""
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._sizes:
                    self._sizes[storage._cdata] = storage.nbytes()
                    self._now += storage.nbytes()
                    weakref.finalize(storage, self._forget, storage._cdata)
        self.peak = max(self.peak, self._now)
        return result

    def _forget(self, place: int) -> None:
        """Note that memory was given back."""
        self._now -= self._sizes.pop(place)


def _make_batch(model: nn.Module, shape: tuple[int, int]) -> dict:
    """Make an image with ground truth."""
    return demo_mm_inputs(
        1,
        image_shapes=[(3, *shape)],
        num_items=[NUM_THINGS],
        num_classes=model.roi_head.bbox_head.num_classes,
        with_mask=True,
        with_semantic=True,
    )


def training_bytes(model: nn.Module, shape: tuple[int, int]) -> int:
    """Count what the forward pass of one training image saves.

    Args:
        model (nn.Module): A panoptic detector in training mode.
        shape (tuple[int, int]): Height and width of the crop in pixels.

    Returns:
        int: Bytes, those of the weights not among them.
    """
    batch = _make_batch(model, shape)
    data = model.data_preprocessor(batch, training=True)
    return count_saved_bytes(lambda: model(**data, mode='loss'), model.parameters())


def prediction_bytes(model: nn.Module, shape: tuple[int, int]) -> int:
    """Count the most that the prediction of one image holds at one time.

    Args:
        model (nn.Module): A panoptic detector in evaluation mode.
        shape (tuple[int, int]): Height and width of the image in pixels.

    Returns:
        int: Bytes, those of the weights not among them.
    """
    batch = _make_batch(model, shape)
    weights = [*model.parameters(), *model.buffers()]
    with torch.no_grad(), LiveBytes(weights) as live:
        model(**model.data_preprocessor(batch), mode='predict')
    return live.peak


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
    parser.add_argument(
        '--predict',
        type=int,
        nargs=2,
        default=[512, 1024],
        metavar=('H', 'W'),
        help='size of the predicted image, by default 512 1024; of a small one, what '
        'the RoIs need is the most',
    )
    args = parser.parse_args()
    config = load_config(args.config)
    init_default_scope(config.get('default_scope', 'mmdet'))
    torch.manual_seed(0)
    model = MODELS.build(config.model).train()
    small, large = tuple(args.shapes[:2]), tuple(args.shapes[2:])
    first, second = training_bytes(model, small), training_bytes(model, large)
    pixels = small[0] * small[1], large[0] * large[1]
    image = tuple(args.predict)
    predicted = prediction_bytes(model.eval(), image)
    slope = (second - first) / (pixels[1] - pixels[0])
    report = {
        'config': args.config,
        'shapes': [small, large],
        'saved_mb': [round(first / 1e6, 1), round(second / 1e6, 1)],
        'bytes_per_pixel': round(slope),
        'mb_per_image': round((first - slope * pixels[0]) / 1e6, 1),
        'predicted_shape': image,
        'prediction_bytes_per_pixel': round(predicted / (image[0] * image[1])),
        'params': sum(p.numel() for p in model.parameters()),
    }
    print(json.dumps(report))


if __name__ == '__main__':
    main()
