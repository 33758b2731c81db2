# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Cityscapes with the panoptic ground truth of cityscapesscripts."""

import os.path as osp

from mmdet.registry import DATASETS

from .label_table import load_classes
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class CityscapesPanopticDataset(PanopticDataset):
    """Cityscapes, or any data set in its folder layout.

    Reads what ``tools/prepare_dataset.py cityscapes`` writes and what
    ``createPanopticImgs`` of cityscapesscripts does: ``gtFine/
    cityscapes_panoptic_<split>.json`` (without ``--use-train-id``: category ids are
    label ids, as the evaluation wants them) and the PNGs in the folder of the same
    name. The json lists stuff first, and that of cityscapesscripts gives image names
    that do not exist on disk; both are put right here.

    Example of the fields of a config::

        data_root='data/cityscapes/',
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(
            img='leftImg8bit/val/', seg='gtFine/cityscapes_panoptic_val/')

    Args:
        *args: Arguments of :class:`PanopticDataset`.
        **kwargs: Arguments of :class:`PanopticDataset`.
    """

    METAINFO = load_classes('cityscapes').metainfo()
    PREPARE_HINT = 'python tools/prepare_dataset.py cityscapes <folder of Cityscapes>'

    def _image_path(self, image: dict) -> str:
        """Give the path of an image.

        Args:
            image (dict): Its entry in the json. ``file_name`` is that below the
                folder of the images, or as cityscapesscripts writes it
                ``<city>_<sequence>_<frame>_gtFine_leftImg8bit.png``.

        Returns:
            str: ``<img prefix>/<city>/<city>_<sequence>_<frame>_leftImg8bit.png``.
        """
        file_name = image['file_name']
        if '/' not in file_name:
            city = image['id'].rsplit('_', 2)[0]
            file_name = osp.join(city, file_name.replace('_gtFine_', '_'))
        return osp.join(self.data_prefix['img'], file_name)
