# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Says which images did not fit into memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def explained_memory_errors(data_batch: Any, iteration: int) -> Iterator[None]:
    """Have a lack of memory say what was computed and what can be done.

    Args:
        data_batch (Any): The batch, as a loader gives it.
        iteration (int): Number of the iteration, from 1.

    Raises:
        MemoryError: In place of PyTorch's error, if memory runs out inside, on the
            GPU or the CPU.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_memory_error(error):
            raise
        first_line = str(error).partition('\n')[0]
        raise MemoryError(
            f'out of memory in iteration {iteration}, whose batch was '
            f'{describe_batch(data_batch)} ({first_line}). Earlier checkpoints are '
            'unharmed: go on with --resume and a smaller '
            'train_dataloader.batch_size (optim_wrapper.accumulative_counts makes up '
            'for it), a smaller crop_size in the train_pipeline, or --amp on a GPU; '
            'docs/training.md has more'
        ) from error


def is_memory_error(error: BaseException) -> bool:
    """Tell a lack of memory from other errors.

    Example::

        >>> is_memory_error(RuntimeError('CUDA out of memory. Tried to allocate ...'))
        True
        >>> is_memory_error(RuntimeError('The size of tensor a (3) must match'))
        False

    Args:
        error (BaseException): The error.

    Returns:
        bool: Whether memory ran out, on a GPU or the CPU.
    """
    # PyTorch has a class for this only on accelerators, and its CUDA libraries none.
    signs = ('out of memory', 'DefaultCPUAllocator', 'CUBLAS_STATUS_ALLOC_FAILED')
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in signs)


def describe_batch(data_batch: Any) -> str:
    """Say what takes memory in a batch.

    Example::

        >>> import torch
        >>> describe_batch({'inputs': [torch.zeros(3, 32, 64)] * 2})
        '2 images of 32x64 and 32x64 pixels (height x width)'

    Args:
        data_batch (Any): The batch, as a loader gives it: ``inputs``, tensors
            (C, H, W), and ``data_samples`` with ``gt_instances``.

    Returns:
        str: Size of every image, and the number of instances in it if that is known.
    """
    inputs = data_batch.get('inputs', []) if isinstance(data_batch, dict) else []
    sizes = ['x'.join(map(str, image.shape[-2:])) for image in inputs]
    if not sizes:
        return 'of unknown size'
    text = (
        f'{len(sizes)} image{"s" * (len(sizes) > 1)} of {_listed(sizes)} pixels '
        '(height x width)'
    )
    samples = data_batch.get('data_samples') or []
    counts = [
        str(len(sample.gt_instances)) for sample in samples if 'gt_instances' in sample
    ]
    return f'{text} with {_listed(counts)} instances' if counts else text


def _listed(parts: list[str]) -> str:
    """Join parts as a sentence does."""
    return ' and '.join(filter(None, [', '.join(parts[:-1]), parts[-1]]))
