# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Says what is wrong with the installed torch, mmcv, mmengine and mmdet."""

from importlib import import_module
from types import ModuleType

from packaging.specifiers import SpecifierSet
from packaging.version import Version

SUPPORTED_VERSIONS = {
    'mmengine': '>=0.10.0,<1.0.0',
    'mmcv': '>=2.0.0,<2.2.0',
    'mmdet': '>=3.3.0,<3.4.0',
}

_INSTALL_MMCV = (
    "pip install 'setuptools<81' wheel ninja packaging psutil\n"
    '    pip install --no-build-isolation --no-cache-dir --force-reinstall '
    '--no-deps mmcv==2.1.0'
)
INSTALL_COMMANDS = {
    'torch': 'pip install torch==2.13.0',
    'mmengine': 'pip install mmengine==0.10.7',
    # With dependencies first (prebuilt), then mmcv itself against this torch.
    'mmcv': f'pip install addict opencv-python pyyaml yapf\n    {_INSTALL_MMCV}',
    'mmdet': 'pip install mmdet==3.3.0',
}


def check_environment() -> None:
    """Imports torch, mmengine, mmcv with its ops, and mmdet, and checks them.

    All four are needed anyway, so nothing is imported in vain. The order
    matters: mmdet refuses to be imported beside an mmcv it does not know, and
    the ops of mmcv need the libraries that torch has loaded.

    Raises:
        ImportError: If one is missing, broken or outside
            ``SUPPORTED_VERSIONS``; the message says which, and the command
            that mends it.
    """
    _import('torch')
    for name in ('mmengine', 'mmcv'):
        _check_version(name, _import(name).__version__)
    _check_mmcv_ops()
    _check_version('mmdet', _import('mmdet').__version__)


def _advice(problem: str, name: str) -> str:
    """Adds the command that mends a problem with a package to its words."""
    return (
        f'{problem}\nTo mend it, run in this environment:\n'
        f'    {INSTALL_COMMANDS[name]}\n'
        'In a checkout of mmdet_efficientps, `make test` sets up a complete '
        'environment.'
    )


def _import(name: str) -> ModuleType:
    """Imports a package; explains why where that fails."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(
            _advice(f'mmdet_efficientps needs {name}, which is not installed.', name)
        ) from error
    except ImportError as error:
        if 'libGL' not in str(error) and 'libgthread' not in str(error):
            raise
        raise ImportError(
            f'OpenCV cannot be loaded: {error}. Install the system library '
            "(Debian and Ubuntu: 'apt-get install libgl1 libglib2.0-0'), or "
            'the OpenCV that needs none: pip uninstall -y opencv-python && '
            'pip install opencv-python-headless'
        ) from error


def _check_version(name: str, version: str) -> None:
    """Raises ImportError for a version outside ``SUPPORTED_VERSIONS``."""
    supported = SpecifierSet(SUPPORTED_VERSIONS[name], prereleases=True)
    if version in supported:
        return
    oldest = min(Version(bound.version) for bound in supported)
    reason = 'too old' if Version(version) < oldest else 'too new'
    if name == 'mmcv' and reason == 'too new':
        reason += ': mmdet 3.3 refuses mmcv 2.2 and later'
    raise ImportError(
        _advice(
            f'mmdet_efficientps needs {name}{SUPPORTED_VERSIONS[name]}; '
            f'version {version} is installed, which is {reason}.',
            name,
        )
    )


def _check_mmcv_ops() -> None:
    """Raises ImportError if the compiled part of mmcv is missing or broken."""
    try:
        import_module('mmcv._ext')
    except ModuleNotFoundError as error:
        if error.name != 'mmcv._ext':
            raise
        problem = (
            'The installed mmcv has no ops (no mmcv._ext): it is mmcv-lite, or '
            'pip built it in isolation, where torch is missing.'
        )
        raise ImportError(_advice(problem, 'mmcv')) from error
    except ImportError as error:
        text = str(error)
        if 'undefined symbol' in text:
            cause = 'they were compiled against another torch than the installed one'
        elif 'libcudart' in text:
            cause = (
                'they were compiled for another CUDA than the one of the installed '
                'torch'
            )
        else:
            cause = 'they do not fit this environment'
        problem = f'The ops of mmcv cannot be loaded: {cause} ({text}).'
        raise ImportError(_advice(problem, 'mmcv')) from error
