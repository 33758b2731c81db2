# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The check at import names what is wrong and what mends it."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from mmdet_efficientps.utils import environment
from mmdet_efficientps.utils.environment import (
    STACKS,
    check_environment,
    install_command,
    installed_stack,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def distributions(monkeypatch):
    """Versions of the installed distributions."""
    versions = {}
    monkeypatch.setattr(environment, 'installed_version', versions.get)
    return versions


@pytest.fixture
def install(monkeypatch, distributions):
    """Install a stack: gives what importing each module gives.

    That is a version, or the error it raises.
    """
    modules = {'torch': '2.13.0', 'mmcv._ext': ''}

    def import_module(name):
        outcome = modules.get(
            name, ModuleNotFoundError(f'No module named {name!r}', name=name)
        )
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(__version__=outcome)

    def install_stack(stack):
        for module, package in STACKS[stack].items():
            modules[module] = distributions[package.name] = package.tested
        return modules

    monkeypatch.setattr(environment, 'import_module', import_module)
    return install_stack


@pytest.fixture
def installed(install):
    """The stack that is installed unless something else is asked for."""
    return install('openmmlab')


@pytest.mark.parametrize('stack', STACKS)
def test_complete_environment_passes(install, stack):
    install(stack)
    check_environment()


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmdet'])
def test_missing_package_is_named_with_its_command(installed, name):
    del installed[name]
    with pytest.raises(ImportError) as caught:
        check_environment()
    assert f'needs {name}, which is not installed' in str(caught.value)
    assert f'{name}==' in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'package'), [('mmcv', 'onedl-mmcv'), ('mmdet', 'onedl-mmdetection')]
)
def test_missing_package_of_the_forks_is_not_that_of_openmmlab(install, name, package):
    del install('onedl')[name]
    with pytest.raises(ImportError, match=f'needs {name}, which is not') as caught:
        check_environment()
    assert f'{package}==' in str(caught.value)
    assert f' {name}==' not in str(caught.value)
    assert 'make setup STACK=onedl' in str(caught.value)


@pytest.mark.parametrize('stack', STACKS)
def test_unsupported_version_is_told_what_both_stacks_take(install, stack):
    install(stack)['mmdet'] = '4.0.0'
    with pytest.raises(ImportError, match='too new') as caught:
        check_environment()
    assert f'needs {STACKS[stack]["mmdet"].name}>=' in str(caught.value)
    assert f'stacks, here {stack}:' in str(caught.value)
    for packages in STACKS.values():
        for package in packages.values():
            assert package.name + package.supported in str(caught.value)


def test_two_stacks_in_one_environment_are_refused(installed, distributions):
    # what `pip install onedl-mmcv` leaves beside mmcv
    distributions['onedl-mmengine'] = '0.10.12'
    with pytest.raises(ImportError, match='two stacks') as caught:
        check_environment()
    assert 'pip uninstall -y mmengine mmcv mmdet onedl-mmengine' in str(caught.value)


def test_modules_that_pip_did_not_install_are_taken_for_openmmlab(
    installed, distributions
):
    distributions.clear()
    assert installed_stack() == 'openmmlab'
    check_environment()


@pytest.mark.parametrize('stack', STACKS)
def test_tested_versions_are_those_of_the_set_up(stack):
    constraints = (ROOT / f'requirements/constraints-{stack}.txt').read_text()
    pins = re.findall(r'^[^#\s]+==\S+', constraints, re.MULTILINE)
    assert pins == [f'{p.name}=={p.tested}' for p in STACKS[stack].values()]


def test_torch_to_install_is_that_of_the_set_up():
    pins = (ROOT / 'requirements/build.txt').read_text().splitlines()
    assert install_command('torch', 'onedl').removeprefix('pip install ') in pins


@pytest.mark.parametrize(
    ('name', 'version', 'reason'),
    [
        ('mmengine', '0.9.1', 'too old'),
        ('mmengine', '1.0.0', 'too new'),
        ('mmcv', '1.7.2', 'too old'),
        ('mmcv', '2.2.0', 'mmdet 3.3 refuses'),
        ('mmdet', '3.2.0', 'too old'),
        ('mmdet', '3.4.0', 'too new'),
    ],
)
def test_unsupported_version_is_refused(installed, name, version, reason):
    installed[name] = version
    with pytest.raises(ImportError) as caught:
        check_environment()
    assert name in str(caught.value)
    assert version in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize('version', ['2.0.0', '2.1.0', '2.1.0+cu118', '2.1.0rc1'])
def test_supported_mmcv_passes(installed, version):
    installed['mmcv'] = version
    check_environment()


def test_too_new_mmcv_is_reported_before_mmdet_trips_over_it(installed):
    installed['mmcv'] = '2.2.0'
    installed['mmdet'] = AssertionError('MMCV==2.2.0 is used but incompatible')
    with pytest.raises(ImportError, match='too new'):
        check_environment()


def test_mmcv_without_ops_says_how_to_build_them(installed):
    del installed['mmcv._ext']
    with pytest.raises(ImportError, match='has no ops') as caught:
        check_environment()
    assert '--no-build-isolation' in str(caught.value)
    assert '--no-cache-dir' in str(caught.value)


@pytest.mark.parametrize(
    ('text', 'cause'),
    [
        ('_ext.so: undefined symbol: _ZN3c104', 'against another torch'),
        ('libcudart.so.12: cannot open shared object', 'for another CUDA'),
    ],
)
def test_ops_of_another_torch_are_to_be_rebuilt(installed, text, cause):
    installed['mmcv._ext'] = ImportError(text)
    with pytest.raises(ImportError, match=cause) as caught:
        check_environment()
    assert '--force-reinstall' in str(caught.value)
    assert text in str(caught.value)


def test_missing_libgl_names_the_system_package(installed):
    installed['mmcv'] = ImportError('libGL.so.1: cannot open shared object file')
    with pytest.raises(ImportError, match='libgl1'):
        check_environment()


def test_error_inside_a_package_is_not_taken_for_its_absence(installed):
    installed['mmdet'] = ModuleNotFoundError("No module named 'scipy'", name='scipy')
    with pytest.raises(ModuleNotFoundError, match='scipy'):
        check_environment()
