# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Reading of data samples, with errors that say what to change."""

import os
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import read_panoptic_png

# The switch in model.test_cfg.panoptic of each prediction.
SWITCHES = {
    'pred_panoptic_seg': 'with_panoptic',
    'pred_instances': 'with_instances',
    'pred_sem_seg': 'with_semantic',
}


def get_prediction(sample: Mapping, key: str) -> Any:
    """Give a prediction of a data sample.

    Args:
        sample (Mapping): Data sample as a dict.
        key (str): One of ``SWITCHES``.

    Returns:
        Any: The prediction.

    Raises:
        KeyError: If the sample lacks it.
    """
    if key not in sample:
        raise KeyError(
            f'the prediction for {sample.get("img_path")} has no {key!r}: set '
            f'model.test_cfg.panoptic.{SWITCHES[key]}=True, or remove the metric that '
            'needs it from the evaluator'
        )
    return sample[key]


def load_gt_ids(sample: Mapping, backend_args: dict | None = None) -> np.ndarray:
    """Read the panoptic ground truth of a data sample.

    Args:
        sample (Mapping): Data sample as a dict, with ``seg_map_path`` and
            ``segments_info``.
        backend_args (dict | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.

    Returns:
        np.ndarray: Segment ids, shape (H, W), int32, 0 = void, read-only.

    Raises:
        KeyError: If the data sample lacks one of these.
    """
    for key in ('seg_map_path', 'segments_info'):
        if sample.get(key) is None:
            raise KeyError(
                f'the data sample of {sample.get("img_path")} has no {key!r}: '
                'add it to meta_keys of PackDetInputs, and evaluate only '
                'images with annotations'
            )
    path = sample['seg_map_path']
    if backend_args is None and os.path.isfile(path):
        stat = os.stat(path)
        return _load_once(path, (stat.st_size, stat.st_mtime_ns))
    return read_panoptic_png(path, backend_args=backend_args)


# All metrics of an evaluator ask for the ground truth of the same images.
@lru_cache(maxsize=4)
def _load_once(path: str, stamp: tuple[int, int]) -> np.ndarray:
    """Read a local PNG, or recall one of the last; ``stamp`` changes with the file."""
    ids = read_panoptic_png(path)
    ids.flags.writeable = False
    return ids
