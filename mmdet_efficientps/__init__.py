# Licensed under the Apache License, Version 2.0. See LICENSE.
"""EfficientPS panoptic segmentation as a plugin of MMDetection 3.x.

Importing the package registers its modules with the registries of mmdet; a
config does that by ``custom_imports = dict(imports=['mmdet_efficientps'])``.
:func:`get_config` and :func:`init_model` find the configs that come with it.
"""

import sys
from contextlib import redirect_stdout
from importlib import import_module

from .utils.environment import check_environment
from .version import __version__

# Before anything of mmdet is imported: what is wrong with the environment is
# said here rather than by the import that happens to trip over it first.
check_environment()
# The fork prints which of its data sets it leaves out, where our tools print json.
with redirect_stdout(sys.stderr):
    import_module('mmdet.datasets')

from . import (  # noqa: E402
    checkpoints,
    datasets,
    engine,
    evaluation,
    models,
    visualization,
)
from .apis import (  # noqa: E402
    PanopticInferencer,
    get_config,
    init_model,
    load_config,
)
from .utils.checkpoint_loading import allow_mmengine_checkpoints  # noqa: E402

allow_mmengine_checkpoints()
engine.allow_loaders_without_workers()

# Names that modules had in earlier versions and that scripts may import.
_FORMER_NAMES = {
    'datasets.toy_city': 'testing.toy_city',
    'datasets.transforms.panoptic_map': 'structures.panoptic.index_map',
    'datasets.transforms.resize_image_to_label': 'datasets.transforms.resize',
    'utils.release_checkpoint': 'checkpoints.release',
}
for _former, _name in _FORMER_NAMES.items():
    _module = import_module(f'{__name__}.{_name}')
    _parent, _, _last = f'{__name__}.{_former}'.rpartition('.')
    sys.modules[f'{__name__}.{_former}'] = _module
    # `import a.b` makes b an attribute of a.
    setattr(sys.modules[_parent], _last, _module)

__all__ = [
    'PanopticInferencer',
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
