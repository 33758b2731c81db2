# Licensed under the Apache License, Version 2.0. See LICENSE.
from importlib.metadata import version

import pytest
import torch

from mmdet_efficientps import collect_env as module


@pytest.fixture
def env():
    return module.collect_env()


def test_versions_are_those_installed(env):
    assert env['mmdet_efficientps'].startswith(module.__version__)
    assert env['PyTorch'] == torch.__version__
    for field, name in (
        ('MMCV', 'mmcv'),
        ('MMDetection', 'mmdet'),
        ('MMEngine', 'mmengine'),
        ('inplace-abn', 'inplace-abn'),
    ):
        assert env[field] == version(name)
    assert 'MMCV compiler' in env


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(module, '_version', lambda name: None)
    env = module.collect_env()
    assert env['onnxruntime'] == env['inplace-abn'] == 'not installed'


def test_engine_is_named_for_the_cpu(env):
    assert env['Engine of iABN'].startswith('cpu: ')
