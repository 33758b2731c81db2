# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Targets of training, made and packed at the size of the crop."""

from mmdet.datasets.transforms import PackDetInputs
from mmdet.registry import TRANSFORMS
from mmdet.structures.bbox import HorizontalBoxes

from mmdet_efficientps.structures import PanopticMasks
from mmdet_efficientps.structures.panoptic.index_map import (
    IGNORE_INDEX,
    label_map,
    panoptic_targets,
)


@TRANSFORMS.register_module()
class PackPanopticTargets(PackDetInputs):
    """Make boxes, labels, masks and semantic map of an index map and pack them.

    What is packed is what ``PackDetInputs`` packs: ``gt_instances`` and
    ``ignored_instances`` (crowd regions) with bboxes, labels and masks, and
    ``gt_sem_seg``. Boxes are tight around what is visible of the segment: x2 and y2
    are one past its last column and row. Masks come as :class:`PanopticMasks`.

    Crowd regions appear in the semantic map with their class, as do instances that
    are left out for their size. An image without things has no instances and is kept.

    Without ``gt_segments`` (no ground truth) the transform is ``PackDetInputs``. An
    image that was given as an array has no ``img_path`` afterwards, where mmdet's
    loaders put None: its ``DetInferencer`` numbers the files of such images.

    Required Keys:

    - img
    - gt_seg_map (np.uint8 | np.uint16), (H, W), index map (optional)
    - gt_segments (structured np.ndarray), (M, ), its table (optional)

    Modified Keys:

    - gt_seg_map (np.uint8), (H, W), class labels, 255 = void

    Added Keys:

    - gt_bboxes (HorizontalBoxes[torch.float32]), (N, 4), xyxy in pixels
    - gt_bboxes_labels (np.int64), (N, )
    - gt_ignore_flags (bool), (N, )
    - gt_masks (PanopticMasks), (N, H, W)
    - num_dropped_instances (int), may be named in ``meta_keys``

    Args:
        min_area (int): Instances of fewer pixels, mostly slivers at the border of the
            crop, are left out. Defaults to 1.
        **kwargs: Arguments of ``PackDetInputs``: ``meta_keys``.
    """

    def __init__(self, min_area: int = 1, **kwargs) -> None:
        super().__init__(**kwargs)
        self.min_area = min_area

    def transform(self, results: dict) -> dict:
        """Make the targets and pack them.

        Args:
            results (dict): Result dict.

        Returns:
            dict: ``inputs`` (torch.uint8), (3, H, W), and ``data_samples``
            (DetDataSample).
        """
        if 'gt_segments' in results:
            index_map, segments = results['gt_seg_map'], results['gt_segments']
            numbers, boxes, dropped = panoptic_targets(
                index_map, segments, self.min_area
            )
            rows = segments[numbers]
            results['gt_bboxes'] = HorizontalBoxes(boxes.astype('float32'))
            results['gt_bboxes_labels'] = rows['label'].astype('int64')
            results['gt_ignore_flags'] = rows['is_crowd']
            results['gt_masks'] = PanopticMasks(index_map, numbers, boxes, IGNORE_INDEX)
            results['gt_seg_map'] = label_map(index_map, segments)
            results['num_dropped_instances'] = len(dropped)
        if results.get('img_path', '') is None:
            del results['img_path']
        return super().transform(results)

    def __repr__(self) -> str:
        """Give the arguments."""
        return (
            f'{type(self).__name__}(min_area={self.min_area}, '
            f'meta_keys={self.meta_keys})'
        )
