# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data sets that wrap others: what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def data_set_parts(dataset: Any) -> Iterator[Any]:
    """Give a data set and those that it wraps.

    Example::

        >>> repeated = {'type': 'RepeatDataset', 'dataset': {'type': 'Mine'}}
        >>> [part['type'] for part in data_set_parts(repeated)]
        ['RepeatDataset', 'Mine']

    Args:
        dataset (Any): A data set, or the config of one.

    Yields:
        Any: The data set, then what is in its ``dataset`` and ``datasets``.
    """
    yield dataset
    get = dataset.get if isinstance(dataset, dict) else vars(dataset).get
    for inner in (get('dataset'), *(get('datasets') or ())):
        if inner is not None:
            yield from data_set_parts(inner)


def data_set_files(dataset: Any) -> Iterator[str]:
    """Give the files that a data set reads.

    Args:
        dataset (Any): A data set, which may wrap others.

    Yields:
        str: Path of every image and of every PNG of ground truth.
    """
    for part in data_set_parts(dataset):
        if hasattr(part, 'get_data_info') and len(list(data_set_parts(part))) == 1:
            for index in range(len(part)):
                item = part.get_data_info(index)
                yield from filter(None, map(item.get, ('img_path', 'seg_map_path')))
