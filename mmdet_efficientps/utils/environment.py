# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Says what is wrong with the installed torch, mmcv, mmengine and mmdet.

The last three come from one of two stacks, whose modules have the same names: that of
OpenMMLab and its maintained forks, the packages named ``onedl-*``.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType
from typing import NamedTuple

from packaging.specifiers import SpecifierSet
from packaging.version import Version


class Package(NamedTuple):
    """What brings one of the modules in a stack.

    Attributes:
        name (str): Name of the distribution, for pip.
        supported (str): The versions that are taken.
        tested (str): The version that the tests run with.
    """

    name: str
    supported: str
    tested: str


STACKS = {
    'openmmlab': {
        'mmengine': Package('mmengine', '>=0.10.0,<1.0.0', '0.10.7'),
        'mmcv': Package('mmcv', '>=2.0.0,<2.2.0', '2.1.0'),
        'mmdet': Package('mmdet', '>=3.3.0,<3.4.0', '3.3.0'),
    },
    'onedl': {
        'mmengine': Package('onedl-mmengine', '>=0.10.12,<1.0.0', '0.10.12'),
        'mmcv': Package('onedl-mmcv', '>=2.3.6,<2.4.0', '2.3.6'),
        'mmdet': Package('onedl-mmdetection', '>=3.5.1,<3.6.0', '3.5.1'),
    },
}
_SETUP_COMMANDS = {'openmmlab': 'make setup', 'onedl': 'make setup STACK=onedl'}


def installed_version(name: str) -> str | None:
    """Version of an installed distribution, None if there is none."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def installed_stack() -> str:
    """The stack whose packages are installed.

    Returns:
        str: One of ``STACKS``; the first if there is none of them, or if their modules
        were installed by something else than pip.

    Raises:
        ImportError: If there are packages of both.
    """
    found = {
        stack: [p.name for p in packages.values() if installed_version(p.name)]
        for stack, packages in STACKS.items()
    }
    stacks = [stack for stack, names in found.items() if names]
    if len(stacks) > 1:
        names = [name for stack in stacks for name in found[stack]]
        raise ImportError(
            'Packages of two stacks are installed, and one is written over the other '
            f'since their modules have the same names: {", ".join(names)}. Make a new '
            'environment for one of them, or mend this one:\n'
            f'    pip uninstall -y {" ".join(names)}\n'
            'and install one stack again. In a checkout of mmdet_efficientps, '
            + ' or '.join(f'`{command}`' for command in _SETUP_COMMANDS.values())
            + ' sets up a complete environment.'
        )
    return stacks[0] if stacks else next(iter(STACKS))


def install_command(name: str, stack: str) -> str:
    """The command that installs a module in the version of a stack.

    Args:
        name (str): 'torch' or a module of ``STACKS``.
        stack (str): One of ``STACKS``.
    """
    if name == 'torch':
        return 'pip install torch==2.13.0'
    package = STACKS[stack][name]
    pinned = f'{package.name}=={package.tested}'
    if name != 'mmcv':
        return f'pip install {pinned}'
    # With dependencies first (prebuilt), then mmcv itself against this torch. The fork
    # asks for setuptools 80; newer ones lack the pkg_resources that mmcv asks for.
    return (
        'pip install addict opencv-python pyyaml yapf\n'
        "    pip install 'setuptools>=80,<81' wheel ninja packaging psutil\n"
        '    pip install --no-build-isolation --no-cache-dir --force-reinstall '
        f'--no-deps {pinned}'
    )


def check_environment() -> None:
    """Imports torch, mmengine, mmcv with its ops, and mmdet, and checks them.

    All four are needed anyway, so nothing is imported in vain. The order
    matters: mmdet refuses to be imported beside an mmcv it does not know, and
    the ops of mmcv need the libraries that torch has loaded.

    Raises:
        ImportError: If one is missing, broken or not one of the versions of its
            stack, or if there are two stacks; the message says which, and the
            command that mends it.
    """
    stack = installed_stack()
    _import('torch', stack)
    for name in ('mmengine', 'mmcv'):
        _check_version(name, _import(name, stack).__version__, stack)
    _check_mmcv_ops(stack)
    _check_version('mmdet', _import('mmdet', stack).__version__, stack)


def _advice(problem: str, name: str, stack: str) -> str:
    """Adds the command that mends a problem with a package to its words."""
    choices = '\n'.join(
        f'    {other}: ' + ', '.join(p.name + p.supported for p in packages.values())
        for other, packages in STACKS.items()
    )
    return (
        f'{problem}\nTo mend it, run in this environment:\n'
        f'    {install_command(name, stack)}\n'
        f'It fits one of these stacks, here {stack}:\n{choices}\n'
        f'In a checkout of mmdet_efficientps, `{_SETUP_COMMANDS[stack]}` sets up a '
        'complete environment.'
    )


def _import(name: str, stack: str) -> ModuleType:
    """Imports a package; explains why where that fails."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        problem = f'mmdet_efficientps needs {name}, which is not installed.'
        raise ImportError(_advice(problem, name, stack)) from error
    except ImportError as error:
        if 'libGL' not in str(error) and 'libgthread' not in str(error):
            raise
        raise ImportError(
            f'OpenCV cannot be loaded: {error}. Install the system library '
            "(Debian and Ubuntu: 'apt-get install libgl1 libglib2.0-0'), or "
            'the OpenCV that needs none: pip uninstall -y opencv-python && '
            'pip install opencv-python-headless'
        ) from error


def _check_version(name: str, installed: str, stack: str) -> None:
    """Raises ImportError for a version of a module that a stack does not take."""
    package = STACKS[stack][name]
    supported = SpecifierSet(package.supported, prereleases=True)
    if installed in supported:
        return
    oldest = min(Version(bound.version) for bound in supported)
    reason = 'too old' if Version(installed) < oldest else 'too new'
    if package.name == 'mmcv' and reason == 'too new':
        reason += ': mmdet 3.3 refuses mmcv 2.2 and later'
    problem = (
        f'mmdet_efficientps needs {package.name}{package.supported}; '
        f'version {installed} is installed, which is {reason}.'
    )
    raise ImportError(_advice(problem, name, stack))


def _check_mmcv_ops(stack: str) -> None:
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
        raise ImportError(_advice(problem, 'mmcv', stack)) from error
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
        raise ImportError(_advice(problem, 'mmcv', stack)) from error
