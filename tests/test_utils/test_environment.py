# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The check at import names what is wrong and what mends it."""

from types import SimpleNamespace

import pytest

from mmdet_efficientps.utils import environment
from mmdet_efficientps.utils.environment import check_environment


@pytest.fixture
def installed(monkeypatch):
    """What importing each module gives: a version, or the error it raises."""
    modules = {
        'torch': '2.13.0',
        'mmengine': '0.10.7',
        'mmcv': '2.1.0',
        'mmcv._ext': '',
        'mmdet': '3.3.0',
    }

    def import_module(name):
        outcome = modules.get(
            name, ModuleNotFoundError(f'No module named {name!r}', name=name)
        )
        if isinstance(outcome, Exception):
            raise outcome
        return SimpleNamespace(__version__=outcome)

    monkeypatch.setattr(environment, 'import_module', import_module)
    return modules


def test_complete_environment_passes(installed):
    check_environment()


@pytest.mark.parametrize('name', ['torch', 'mmengine', 'mmcv', 'mmdet'])
def test_missing_package_is_named_with_its_command(installed, name):
    del installed[name]
    with pytest.raises(ImportError) as caught:
        check_environment()
    assert f'needs {name}, which is not installed' in str(caught.value)
    assert f'{name}==' in str(caught.value)


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
