# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Helpers without a place of their own."""

from .atomic_file import atomic_path
from .counted import counted
from .environment import check_environment
from .output_paths import check_output, check_output_file, path_inside
from .problem_list import ProblemList
from .processors import num_processors

__all__ = [
    'ProblemList',
    'atomic_path',
    'check_environment',
    'check_output',
    'check_output_file',
    'counted',
    'num_processors',
    'path_inside',
]
