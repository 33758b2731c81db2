# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Helpers without a place of their own."""

from .atomic_file import atomic_path
from .environment import check_environment
from .panoptic_ids import VOID_ID, distinct_color, id2rgb, index_segments, rgb2id
from .problem_list import ProblemList

__all__ = [
    'VOID_ID',
    'ProblemList',
    'atomic_path',
    'check_environment',
    'distinct_color',
    'id2rgb',
    'index_segments',
    'rgb2id',
]
