# Licensed under the Apache License, Version 2.0. See LICENSE.
import configparser
import re
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from mmdet_efficientps import collect_env as module
from mmdet_efficientps.utils.environment import STACKS

ROOT = Path(__file__).parents[1]


def extras():
    """Names of the packages of each extra, but for those that only tests need."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg', encoding='utf-8')
    found = {
        extra: re.findall(r'^[\w-]+', text, re.M)
        for extra, text in config['options.extras_require'].items()
    }
    del found['tests']
    return found


def test_every_optional_package_is_listed():
    text = (ROOT / 'requirements/optional.txt').read_text(encoding='utf-8')
    pinned = set(re.findall(r'^[\w-]+', text, re.M))
    training = (ROOT / 'docs/training.md').read_text(encoding='utf-8')
    backends = set(re.findall(r'VisBackend` \| `pip install ([\w-]+)`', training))
    assert len(backends) == 3
    assert {'ray', 'gradio'} <= pinned
    assert set().union(pinned, backends, *extras().values()) <= set(module.OPTIONAL)


def test_every_extra_is_in_the_instructions():
    text = (ROOT / 'docs/install.md').read_text(encoding='utf-8')
    found = re.findall(
        r"^\| `pip install 'mmdet_efficientps\[(\w+)\]'` \|", text, re.MULTILINE
    )
    assert set(found) == set(extras())


@pytest.fixture
def env():
    return module.collect_env()


def test_versions_are_those_installed(env):
    assert env['mmdet_efficientps'].startswith(module.__version__)
    assert env['PyTorch'] == torch.__version__
    packages = [package.name for package in STACKS[env['Stack']].values()]
    for name in (*packages, 'inplace-abn', 'numpy', 'pillow'):
        assert env[name] == version(name)
    assert 'MMCV compiler' in env


def test_what_is_missing_is_said(monkeypatch):
    monkeypatch.setattr(module, 'installed_version', lambda name: None)
    env = module.collect_env()
    assert env['onnxruntime'] == env['inplace-abn'] == 'not installed'


def test_engine_is_named_for_the_cpu(env):
    assert env['Engine of iABN'].startswith('cpu: ')
