# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The random generators of a process: their states, put aside and set again.

Those that transforms, samplers and models draw from by name of their library alone.
"""
# ruff: noqa: NPY002 (numpy's old generator is what mmcv and mmdet draw from)

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def generator_states() -> dict[str, Any]:
    """Read the states of the generators that code draws from unless told otherwise.

    Returns:
        dict[str, Any]: 'python', 'numpy', 'torch' and, where CUDA is in use, 'cuda',
        that of the current device. Tensors, lists and numbers alone, which
        ``torch.load`` reads in its safe mode.
    """
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    states = {
        'python': [version, torch.tensor(words), gauss],
        'numpy': [str(name), torch.from_numpy(np.asarray(keys, np.int64)), *rest],
        'torch': torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states['cuda'] = torch.cuda.get_rng_state()
    return states


def set_generator_states(states: dict[str, Any]) -> None:
    """Set the generators to states that have been read.

    Args:
        states (dict[str, Any]): As :func:`generator_states` gives them, on any device.
    """
    version, words, gauss = states['python']
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = states['numpy']
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states['torch'].cpu())
    if 'cuda' in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states['cuda'].cpu())


@contextmanager
def kept_generators() -> Iterator[None]:
    """Leave the generators of the CPU behind as they were found.

    Example::

        >>> random.seed(1)
        >>> with kept_generators():
        ...     first = random.random()
        >>> random.random() == first
        True
    """
    # Quicker than the above, which is made to be stored: this is done for every image.
    python, arrays, tensors = (
        random.getstate(),
        np.random.get_state(),
        torch.default_generator.get_state(),
    )
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        torch.default_generator.set_state(tensors)


@contextmanager
def seeded_generators(*seeds: int) -> Iterator[None]:
    """Let code draw from generators that depend on some numbers alone.

    Those of the CPU: python's, numpy's and torch's. Afterwards they are as before.

    Example::

        >>> with seeded_generators(0, 7):
        ...     first = random.random(), np.random.random()
        >>> with seeded_generators(0, 7):
        ...     first == (random.random(), np.random.random())
        True

    Args:
        *seeds (int): The numbers, 0 or above.
    """
    words = np.random.SeedSequence(seeds).generate_state(8)
    with kept_generators():
        random.seed(words[:4].tobytes())
        np.random.seed(words)
        torch.default_generator.manual_seed(int(words[:2].view(np.uint64)[0] >> 1))
        yield
