# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Box coders and assigners."""

from .chunked_max_iou_assigner import ChunkedMaxIoUAssigner
from .inclusive_bbox_coder import InclusiveDeltaXYWHBBoxCoder

__all__ = ['ChunkedMaxIoUAssigner', 'InclusiveDeltaXYWHBBoxCoder']
