# Licensed under the Apache License, Version 2.0. See LICENSE.
from importlib.metadata import version

import pytest
import torch

from mmdet_efficientps import collect_env as module
from mmdet_efficientps.utils.environment import STACKS


@pytest.fixture
def env():
    return module.collect_env()


def test_versions_are_those_installed(env):
    assert env['mmdet_efficientps'].startswith(module.__version__)
    assert env['PyTorch'] == torch.__version__
    packages = [package.name for package in STACKS[env['Stack']].values()]
    for name in (*packages, 'inplace-abn'):
        assert env[name] == version(name)
    assert 'MMCV compiler' in env


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(module, 'installed_version', lambda name: None)
    env = module.collect_env()
    assert env['onnxruntime'] == env['inplace-abn'] == 'not installed'


def test_engine_is_named_for_the_cpu(env):
    assert env['Engine of iABN'].startswith('cpu: ')
