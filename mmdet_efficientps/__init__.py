# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientPS panoptic segmentation as a plugin of MMDetection 3.x.

Importing the package registers its modules with the registries of mmdet; a
config does that by ``custom_imports = dict(imports=['mmdet_efficientps'])``.
:func:`get_config` and :func:`init_model` find the configs that come with it.
"""

from .utils.environment import check_environment
from .version import __version__

# Before anything of mmdet is imported: what is wrong with the environment is
# said here rather than by the import that happens to trip over it first.
check_environment()

from . import (  # noqa: E402
    checkpoints,
    datasets,
    engine,
    evaluation,
    models,
    visualization,
)
from .apis import get_config, init_model, load_config  # noqa: E402
from .utils.checkpoint_loading import allow_mmengine_checkpoints  # noqa: E402

allow_mmengine_checkpoints()

__all__ = [
    '__version__',
    'checkpoints',
    'datasets',
    'engine',
    'evaluation',
    'get_config',
    'init_model',
    'load_config',
    'models',
    'visualization',
]
