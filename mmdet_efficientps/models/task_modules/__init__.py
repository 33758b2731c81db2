# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Box coders."""

from .inclusive_bbox_coder import InclusiveDeltaXYWHBBoxCoder

__all__ = ['InclusiveDeltaXYWHBBoxCoder']
