# Licensed under the Apache License, Version 2.0. See LICENSE.
"""India Driving Dataset (IDD)."""

from mmdet.registry import DATASETS

from .label_table import load_classes
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class IDDPanopticDataset(PanopticDataset):
    """IDD with the 26 classes of level 3 of its label hierarchy.

    Reads what ``tools/prepare_dataset.py idd`` writes. The ground truth is 1280x720
    pixels, the size it is scored at; images of another size are brought to it by the
    transform ``ResizeImageToLabel``.

    Example of the fields of a config::

        data_root='data/idd/',
        ann_file='gtFine/idd_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/idd_panoptic_val/')

    Args:
        *args: Arguments of :class:`PanopticDataset`.
        **kwargs: Arguments of :class:`PanopticDataset`.
    """

    METAINFO = load_classes('idd').metainfo()
    PREPARE_HINT = 'python tools/prepare_dataset.py idd <folder of IDD>'
