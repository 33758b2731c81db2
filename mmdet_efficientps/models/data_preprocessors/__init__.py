# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What is done to a batch before the network sees it."""

from .inclusive_gt_boxes import InclusiveGTBoxes

__all__ = ['InclusiveGTBoxes']
