# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What the view of segments in a page shows of a result."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmdet_efficientps.structures.panoptic import index_segments
from mmdet_efficientps.visualization.panoptic_drawing import segment_colors
from mmdet_efficientps.visualization.report import read_assets, shrink

from .panoptic_result import PanopticResult

# Wider images are shown smaller; what is said about segments is of the whole.
VIEW_WIDTH = 2048

VIEW_STYLE = read_assets('elements.css', 'segment_view.css')
VIEW_SCRIPT = read_assets('elements.js', 'segment_view.js')


def view_map(result: PanopticResult) -> np.ndarray:
    """Make the map in which the page looks up what is under the pointer.

    Args:
        result (PanopticResult): The result.

    Returns:
        np.ndarray: Number of the segment in :func:`view_record` from 1, 0 for void,
        (h, w), little-endian uint16, at most ``VIEW_WIDTH`` wide.
    """
    ids = shrink(result.ids, VIEW_WIDTH)
    return index_segments(ids, [s.id for s in result.segments]).astype('<u2')


def view_record(result: PanopticResult) -> dict[str, Any]:
    """Describe the segments for the page.

    Args:
        result (PanopticResult): The result.

    Returns:
        dict[str, Any]: Of JSON's types: ``name``; ``width`` and ``height`` of the
        image and ``map_size``, those of :func:`view_map`; ``classes`` with name,
        color and isthing; ``segments`` with id, label, score (None if not known),
        area in pixels of the image, and color as drawn.
    """
    height, width = result.shape
    codes = np.array([s.id - 1 for s in result.segments], dtype=np.int64)
    colors = segment_colors(codes, result.classes.palette).round().astype(int)
    map_height, map_width = shrink(result.ids, VIEW_WIDTH).shape
    return {
        'name': result.name,
        'width': width,
        'height': height,
        'map_size': [map_width, map_height],
        'classes': [
            {'name': c.name, 'color': list(c.color), 'isthing': c.isthing}
            for c in result.classes
        ],
        'segments': [
            {
                'id': segment.id,
                'label': segment.label,
                'score': segment.score,
                'area': segment.area,
                'color': color,
            }
            for segment, color in zip(result.segments, colors.tolist(), strict=True)
        ],
    }
