# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The network: every part is a registry module."""

from .backbones import *  # noqa: F403
from .data_preprocessors import *  # noqa: F403
from .dense_heads import *  # noqa: F403
from .detectors import *  # noqa: F403
from .inference import prepare_for_inference  # noqa: F401
from .layers import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
from .roi_heads import *  # noqa: F403
from .seg_heads import *  # noqa: F403
from .task_modules import *  # noqa: F403
from .test_time_augs import *  # noqa: F403
