# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The COCO-panoptic format: ids, maps, PNGs, classes, annotations, output folders."""

from mmdet_efficientps.utils import check_output, path_inside

from .annotations import (
    ImageId,
    PanopticAnnotations,
    default_png_folder,
    read_json,
    segments_info,
    write_json,
)
from .classes import PanopticClass, PanopticClasses
from .colors import choose_colors
from .encoding import decode_panoptic_seg, encode_panoptic
from .ids import MAX_ID, VOID_ID, constant_runs, id2rgb, index_segments, rgb2id
from .output_folder import Journal, PanopticOutput
from .png import (
    encode_panoptic_png,
    read_panoptic_png,
    read_png_size,
    write_panoptic_png,
)

__all__ = [
    'MAX_ID',
    'VOID_ID',
    'ImageId',
    'Journal',
    'PanopticAnnotations',
    'PanopticClass',
    'PanopticClasses',
    'PanopticOutput',
    'check_output',
    'choose_colors',
    'constant_runs',
    'decode_panoptic_seg',
    'default_png_folder',
    'encode_panoptic',
    'encode_panoptic_png',
    'id2rgb',
    'index_segments',
    'path_inside',
    'read_json',
    'read_panoptic_png',
    'read_png_size',
    'rgb2id',
    'segments_info',
    'write_json',
    'write_panoptic_png',
]
