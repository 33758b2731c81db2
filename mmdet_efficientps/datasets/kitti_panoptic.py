# Licensed under the Apache License, Version 2.0. See LICENSE.
"""KITTI panoptic."""

from mmdet.registry import DATASETS

from .cityscapes_panoptic import CityscapesPanopticDataset
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class KITTIPanopticDataset(PanopticDataset):
    """KITTI panoptic, made by the authors of EfficientPS, with Cityscapes classes.

    Reads what ``tools/prepare_dataset.py kitti`` writes. The ground truth is
    1280x384 pixels, the size it is scored at; images of another size are brought to
    it by the transform ``ResizeImageToLabel``.

    Example of the fields of a config::

        data_root='data/kitti_panoptic/',
        ann_file='kitti_panoptic_validation.json',
        data_prefix=dict(
            img='validation/images/', seg='kitti_panoptic_validation/')

    Args:
        *args: Arguments of :class:`PanopticDataset`.
        **kwargs: Arguments of :class:`PanopticDataset`.
    """

    METAINFO = CityscapesPanopticDataset.METAINFO
    PREPARE_HINT = 'python tools/prepare_dataset.py kitti <folder of KITTI panoptic>'
