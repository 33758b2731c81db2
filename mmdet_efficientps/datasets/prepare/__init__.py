# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic ground truth from the downloads of data sets and from one's own labels.

A function for each kind of source; ``tools/prepare_dataset.py`` is their command line.
Each checks what it is given before it writes anything and raises an OSError or a
ValueError with a text for the user. It returns a report for each json it wrote; what
could not be converted stands in ``problems`` of the report, and all else is written.

Example::

    from mmdet_efficientps.datasets.prepare import prepare_cityscapes

    for report in prepare_cityscapes('data/cityscapes', nproc=8):
        print(report.summary())
        print(report.problems.summary())

A module for another kind lists its images as :class:`Job`, gives a function that turns
the labels of one image into a :class:`Panoptic`, and calls :func:`convert`.
"""

from .cityscapes import prepare_cityscapes
from .class_choice import ClassChoice, read_class_lists
from .coco_panoptic import prepare_coco_panoptic
from .coco_polygons import prepare_coco_polygons
from .conversion import convert
from .cvat import prepare_cvat_cityscapes, prepare_cvat_masks
from .idd import prepare_idd
from .jobs import BadInputError, Job, Panoptic, Split
from .kitti import prepare_kitti
from .label_studio import prepare_label_studio
from .labelme import prepare_labelme
from .mask_pairs import prepare_mask_pairs
from .summary import ConversionReport
from .vistas import prepare_vistas
from .yolo import prepare_yolo

__all__ = [
    'BadInputError',
    'ClassChoice',
    'ConversionReport',
    'Job',
    'Panoptic',
    'Split',
    'convert',
    'prepare_cityscapes',
    'prepare_coco_panoptic',
    'prepare_coco_polygons',
    'prepare_cvat_cityscapes',
    'prepare_cvat_masks',
    'prepare_idd',
    'prepare_kitti',
    'prepare_label_studio',
    'prepare_labelme',
    'prepare_mask_pairs',
    'prepare_vistas',
    'prepare_yolo',
    'read_class_lists',
]
