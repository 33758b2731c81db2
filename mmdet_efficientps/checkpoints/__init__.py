# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Published weights: where they are and what their keys are called."""

from .imagenet import lite_state_dict
from .release import convert_release_state_dict, release_arch, release_num_classes

__all__ = [
    'convert_release_state_dict',
    'lite_state_dict',
    'release_arch',
    'release_num_classes',
]
