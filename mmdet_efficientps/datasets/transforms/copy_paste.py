# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Copy-paste of instances between index maps."""

import random
from collections.abc import Sequence

import numpy as np
from mmcv.transforms.utils import cache_randomness
from mmdet.datasets.transforms import CopyPaste
from mmdet.registry import TRANSFORMS
from mmengine.dataset import BaseDataset

from mmdet_efficientps.structures.panoptic.index_map import (
    IGNORE_INDEX,
    UNUSED,
    measure_segments,
)


def paste_segments(
    target: tuple[np.ndarray, np.ndarray],
    source: tuple[np.ndarray, np.ndarray],
    numbers: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lay segments of one index map over another.

    Args:
        target (tuple[np.ndarray, np.ndarray]): Index map to paste into, shape (H, W),
            and its table.
        source (tuple[np.ndarray, np.ndarray]): Index map to paste from, shape (H, W),
            and its table.
        numbers (np.ndarray): Segments of the source to paste, shape (N,).

    Returns:
        tuple: The new index map and its table, and where something was pasted, shape
        (H, W), bool.
    """
    target_map, target_segments = target
    source_map, source_segments = source
    segments = np.append(target_segments, np.full(len(numbers), UNUSED))
    unused = np.flatnonzero(segments['label'] == IGNORE_INDEX)
    new_numbers = unused[unused != IGNORE_INDEX][: len(numbers)]
    segments[new_numbers] = source_segments[numbers]

    dtype = np.min_scalar_type(new_numbers.max(initial=IGNORE_INDEX))
    renumbered = np.full(len(source_segments), IGNORE_INDEX, dtype=dtype)
    renumbered[numbers] = new_numbers
    pasted = renumbered.take(source_map)
    is_pasted = pasted != IGNORE_INDEX
    return np.where(is_pasted, pasted, target_map), segments, is_pasted


@TRANSFORMS.register_module()
class PanopticCopyPaste(CopyPaste):
    """Paste instances of another image with their pixels and segments.

    The counterpart of mmdet's ``CopyPaste`` for index maps, to be used in the pipeline
    of a ``MultiImageMixDataset`` whose inner data set loads, scales and crops. What is
    pasted covers what was there, in the semantic map too; instances of which too little
    is left are dropped by ``min_area`` of :class:`PackPanopticTargets`. Crowds are not
    pasted. If the images differ in size, the upper left part that both have is used.

    Required Keys:

    - img
    - gt_seg_map (np.uint8 | np.uint16), (H, W), index map
    - gt_segments (structured np.ndarray), (M, ), its table
    - mix_results (list[dict]), one image with the same keys

    Modified Keys:

    - img
    - gt_seg_map
    - gt_segments

    Args:
        max_num_pasted (int): Fewer instances than this are pasted, a random number
            from 0 on. Defaults to 100.
        selected (bool): Whether to paste a random choice; otherwise all instances are
            pasted. Defaults to True.
        classes (Sequence[int] | None): Labels of the classes to paste, for instance
            the rare ones. Defaults to None, which is all things.
    """

    def __init__(
        self,
        max_num_pasted: int = 100,
        selected: bool = True,
        classes: Sequence[int] | None = None,
    ) -> None:
        super().__init__(max_num_pasted=max_num_pasted, selected=selected)
        self.classes = classes

    @cache_randomness
    def get_indexes(self, dataset: BaseDataset) -> int:
        """Choose the image to paste from.

        Args:
            dataset (BaseDataset): The data set.

        Returns:
            int: Its index. ``CopyPaste`` may give one that is too high by one.
        """
        return random.randrange(len(dataset))

    def transform(self, results: dict) -> dict:
        """Paste instances.

        Args:
            results (dict): Result dict.

        Returns:
            dict: The result dict with what was pasted.

        Raises:
            ValueError: If there is not exactly one image to paste from.
        """
        others = results.get('mix_results', [])
        if len(others) != 1 or 'gt_segments' not in others[0]:
            raise ValueError(
                'PanopticCopyPaste needs one other image with gt_segments: put it into '
                'the pipeline of a MultiImageMixDataset, and LoadPanopticMap into that '
                'of the inner data set'
            )
        other = others[0]
        height, width = np.minimum(results['img'].shape, other['img'].shape)[:2]
        common = slice(height), slice(width)
        source = other['gt_seg_map'][common], other['gt_segments']
        numbers = self._choose(*source)
        target = results['gt_seg_map'][common], results['gt_segments']
        pasted_map, results['gt_segments'], is_pasted = paste_segments(
            target, source, numbers
        )
        index_map = results['gt_seg_map'].astype(pasted_map.dtype)
        index_map[common] = pasted_map
        image = results['img'].copy()
        image[common][is_pasted] = other['img'][common][is_pasted]
        results['gt_seg_map'], results['img'] = index_map, image
        return results

    def _choose(self, index_map: np.ndarray, segments: np.ndarray) -> np.ndarray:
        """Choose the instances to paste among those visible.

        Args:
            index_map (np.ndarray): Index map.
            segments (np.ndarray): Its table.

        Returns:
            np.ndarray: Their numbers, shape (N,).
        """
        areas, _ = measure_segments(index_map, len(segments))
        wanted = segments['is_instance'] & ~segments['is_crowd'] & (areas > 0)
        if self.classes is not None:
            wanted &= np.isin(segments['label'], self.classes)
        numbers = np.flatnonzero(wanted)
        if self.selected:
            numbers = numbers[self._get_selected_inds(len(numbers))]
        return numbers

    def __repr__(self) -> str:
        """Give the arguments."""
        return (
            f'{type(self).__name__}(max_num_pasted={self.max_num_pasted}, '
            f'selected={self.selected}, classes={self.classes})'
        )
