# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments as files that labelling tools import, for people to correct.

A function for each format takes the classes and the images, one after the other, and
writes one file; :func:`panoptic_images` gives the images of a panoptic json.
``tools/export_labels.py`` is their command line. Without files in between::

    from mmdet_efficientps.datasets.export import LabelledImage, write_cvat_masks

    results = inferencer.stream('photographs/')
    images = (LabelledImage(r.name, r.ids, r.to_coco()) for r in results)
    write_cvat_masks('labels.zip', inferencer.classes, images)
"""

from .coco import write_coco_masks, write_coco_polygons
from .cvat import write_cvat_masks
from .images import LabelledImage, panoptic_images
from .label_studio import write_label_studio

__all__ = [
    'LabelledImage',
    'panoptic_images',
    'write_coco_masks',
    'write_coco_polygons',
    'write_cvat_masks',
    'write_label_studio',
]
