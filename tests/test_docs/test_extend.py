# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The worked examples of docs/extend.md do what the page says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs/extend.md').read_text(encoding='utf-8')
FILES = dict(re.findall(r'^`([\w/.-]+)`\n\n```python\n(.*?)```', PAGE, re.M | re.S))


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A checkout with the files of the page, where it says to put them."""
    folder = tmp_path_factory.mktemp('checkout')
    for name in ('tools', 'configs/_base_', 'configs/efficientps'):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(ROOT / name)
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding='utf-8')
    return folder


@pytest.fixture
def run(checkout):
    """Run a command of the page in it; gives what it prints."""

    def _run(command, **variables):
        python = f'"{sys.executable}"'
        command = command.replace('python ', f'{python} ')
        path = f'PYTHONPATH=.:"{ROOT}"'
        result = subprocess.run(
            command.replace('PYTHONPATH=.', path),
            shell=True,
            cwd=checkout,
            env=os.environ | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert result.returncode == 0, result.stdout[-3000:]
        return result.stdout

    return _run


def commands(word):
    """The shell block of the page that has a word."""
    (block,) = (b for b in re.findall(r'```bash\n(.*?)```', PAGE, re.S) if word in b)
    return block


def test_every_block_of_python_is_a_file():
    assert len(FILES) == PAGE.count('```python')


def test_the_test_of_the_neck_passes(checkout, monkeypatch):
    monkeypatch.syspath_prepend(checkout)
    names = {}
    exec(FILES['my_parts/test_necks.py'], names)
    try:
        names['test_every_level_sees_the_others']()
    finally:
        MODELS.module_dict.pop('MeanNeck')
        for name in [name for name in sys.modules if name.startswith('my_parts')]:
            monkeypatch.delitem(sys.modules, name)


def test_second_loss_of_the_head_is_finite_without_labels(
    checkout, monkeypatch, tiny_config
):
    names = {'__name__': 'my_parts.heads'}
    exec(FILES['my_parts/heads.py'], names)
    MODELS.module_dict.pop('TaughtTwiceHead')
    cfg = Config(dict(tiny_config.model.semantic_head, norm_cfg=dict(type='BN')))
    cfg.pop('type')
    head = names['TaughtTwiceHead'](coarse_loss_weight=0.5, **cfg)
    x = [torch.rand(1, 16, 64 // s, 64 // s) for s in (4, 8, 16, 32)]

    def loss(labels):
        sample = type('Sample', (), {})()
        sample.gt_sem_seg = type('Map', (), {'sem_seg': labels})()
        return head.loss(x, [sample])['loss_seg_coarse']

    void = torch.full((1, 64, 64), 255)
    assert loss(void) == 0
    labels = void.clone()
    labels[:, :32] = 3
    logits = head.coarse_logits(x[-1])[0, :, 0]
    expected = -logits.log_softmax(0)[3].mean()
    torch.testing.assert_close(loss(labels), 0.5 * expected)


@pytest.mark.slow
def test_complexity_of_the_network_with_the_neck(run):
    assert 'neck' in run(commands('get_complexity'))


@pytest.mark.slow
def test_data_set_is_made_shown_and_trained_on(run, checkout):
    out = run(commands('make_garden'), CUDA_VISIBLE_DEVICES='-1')
    assert re.search(r'loss_seg_coarse: [\d.]+', out)
    assert all(f'{name}_PQ' in out for name in ('plant', 'soil', 'sky'))
    assert list((checkout / 'browse').iterdir())
