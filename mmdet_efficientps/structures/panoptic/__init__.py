# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The COCO-panoptic format: ids, maps, PNGs, classes, annotations, output folders."""

from .classes import distinct_color
from .ids import VOID_ID, id2rgb, index_segments, rgb2id
from .png import read_panoptic_png, write_panoptic_png

__all__ = [
    'VOID_ID',
    'distinct_color',
    'id2rgb',
    'index_segments',
    'read_panoptic_png',
    'rgb2id',
    'write_panoptic_png',
]
