# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Training and testing in two processes on the CPU, by the commands of a user."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb
from mmdet_efficientps.utils.checkpoint_loading import read_checkpoint

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / 'tools'
# Height and width; where maps are a few cells, norm layers amplify rounding.
SIZE = (128, 160)
BASE = 'configs/efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
# Two processes with an image each do what one does with both where a mean over the
# batch is the mean of the means over its images: samplers take all there is, and images
# have as many pixels and objects as others. Only true boxes are positive.
CONFIG = """
_base_ = {base!r}
custom_imports = dict(imports=['mmdet_efficientps', 'hooks_of_test'])
randomness = dict(seed=0)
norm = dict(type='InPlaceABNSync')
act = dict(type='LeakyReLU', negative_slope=0.01)
everything = dict(type='RandomSampler', num=1000000, pos_fraction=0.5, neg_pos_ub=-1)
model = dict(
    backbone=dict(
        init_cfg=None, norm_eval=False, frozen_stages=0, norm_cfg=norm, act_cfg=act
    ),
    neck=dict(norm_cfg=dict(_delete_=True, **norm), act_cfg=dict(_delete_=True, **act)),
    semantic_head=dict(
        norm_cfg=norm, num_things_classes=1, num_stuff_classes=1,
        loss_seg=dict(fraction=1),
    ),
    rpn_head=dict(anchor_generator=dict(ratios=[1.0])),
    roi_head=dict(
        bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)
    ),
    panoptic_fusion_head=dict(num_things_classes=1, num_stuff_classes=1),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.5), sampler=everything
        ),
        rpn_proposal=dict(
            nms_pre=1000000, max_per_img=1000000, min_bbox_size=-1,
            nms=dict(type='nms', iou_threshold=1.0),
        ),
        rcnn=dict(
            assigner=dict(pos_iou_thr=0.99, neg_iou_thr=0.99, min_pos_iou=0.99),
            sampler=everything,
        ),
    ),
    test_cfg=dict(rcnn=dict(score_thr=0.02, max_per_img=5)),
)
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper',
    # Next to nothing: this network amplifies rounding a hundred thousand times.
    optimizer=dict(type='SGD', lr=1e-8, momentum=0.9),
)
param_scheduler = []
default_hooks = dict(
    logger=dict(interval=1), checkpoint=dict(interval=2, max_keep_ckpts=2)
)
end_the_second = None
custom_hooks = [
    *_base_.custom_hooks, dict(type='LossRecordHook'), dict(type='EndTheSecond')
]
_base_.train_pipeline[2] = dict(
    type='PanopticResize', scale=(160, 128), keep_ratio=True
)
_base_.test_pipeline[1].scale = (160, 128)
loader = dict(num_workers=0, persistent_workers=False)
data = dict(
    _delete_=True, type='PanopticDataset', data_root={root!r},
    data_prefix=dict(img='img', seg='seg'),
)
train_dataloader = dict(
    dataset=dict(ann_file='train.json', pipeline=_base_.train_pipeline, **data),
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=False),
    **loader,
)
val_dataloader = dict(
    dataset=dict(
        ann_file='val.json', pipeline=_base_.test_pipeline, test_mode=True, **data
    ),
    sampler=dict(round_up=False),
    **loader,
)
test_dataloader = dict(
    dataset=dict(
        ann_file='val.json', pipeline=_base_.test_pipeline, test_mode=True, **data
    ),
    **loader,
)
val_evaluator = [dict(type='PanopticQualityMetric'), dict(type='SemanticIoUMetric')]
test_evaluator = val_evaluator
train_cfg = dict(max_iters=4, val_interval=100)
"""
HOOKS = """
import os
from mmdet.registry import HOOKS
from mmengine.hooks import Hook

@HOOKS.register_module()
class EndTheSecond(Hook):
    def before_train_iter(self, runner, **kwargs):
        how = runner.cfg.end_the_second if runner.rank == 1 else None
        if how == 'error':
            raise ValueError('the second process has had enough')
        if how == 'kill':
            os.kill(os.getpid(), 9)
"""


def write_set(root, name, sizes, bare=()):
    """Write images with road above and two cars below, or without any label."""
    content = dict(
        images=[],
        annotations=[],
        categories=[
            dict(id=7, name='road', isthing=0),
            dict(id=26, name='car', isthing=1),
        ],
    )
    for folder in ('img', 'seg'):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for k, (height, width) in enumerate(sizes):
        pixels = np.random.default_rng(k).integers(0, 256, (height, width, 3), np.uint8)
        ids = np.zeros((height, width), int)
        segments = []
        if k not in bare:
            ids[: height // 3] = 1
            for car in (2, 3):
                left = 3 + 8 * k + 70 * (car - 2)
                ids[height // 2 : -9, left : left + 40] = car
                # Something to see.
                pixels[height // 2 : -9, left : left + 40] //= 4
            segments = [
                dict(id=i, category_id=7 if i == 1 else 26, iscrowd=0)
                for i in (1, 2, 3)
            ]
        stem = f'{name}{k}'
        Image.fromarray(pixels).save(root / 'img' / f'{stem}.png')
        Image.fromarray(id2rgb(ids)).save(root / 'seg' / f'{stem}.png')
        content['images'].append(
            dict(id=stem, file_name=f'{stem}.png', width=width, height=height)
        )
        content['annotations'].append(
            dict(image_id=stem, file_name=f'{stem}.png', segments_info=segments)
        )
    (root / f'{name}.json').write_text(json.dumps(content))


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    """Folder, config, and how to run a command in it."""
    folder = tmp_path_factory.mktemp('processes')
    root = folder / 'data'
    write_set(root, 'train', [SIZE] * 4)
    # Of other sizes, and the second process gets the one without a label.
    write_set(root, 'uneven', [SIZE, (64, 160)], bare=[1])
    # More images for the first process.
    write_set(root, 'val', [SIZE] * 3)
    config = folder / 'small.py'
    config.write_text(
        CONFIG.format(base=str(TOOLS.parent / BASE), root=f'{root}{os.sep}')
    )
    (folder / 'hooks_of_test.py').write_text(HOOKS)

    def run(*command, fails=False):
        result = subprocess.run(
            [str(part) for part in command],
            env=os.environ
            | {
                'OMP_NUM_THREADS': '1',
                'PYTHON': sys.executable,
                'PYTHONPATH': os.pathsep.join([str(folder), *sys.path]),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )
        assert (result.returncode != 0) == fails, result.stdout[-5000:]
        return result.stdout

    def train(processes, work_dir, *options, arguments=(), fails=False):
        options = ['--cfg-options', *options] if options else []
        common = ['--work-dir', folder / work_dir, *arguments, *options]
        if processes == 1:
            return run(sys.executable, TOOLS / 'train.py', config, *common, fails=fails)
        script = TOOLS / 'dist_train.sh'
        return run(script, config, processes, *common, fails=fails)

    return SimpleNamespace(folder=folder, config=config, run=run, train=train)


def losses(folder):
    """Records of LossRecordHook by iteration."""
    lines = (folder / 'losses.jsonl').read_text().splitlines()
    return {record['iter']: record for record in map(json.loads, lines)}


def momentum(folder):
    """The momentum of all parameters after the last iteration, (N, )."""
    state = read_checkpoint(folder / 'iter_4.pth')['optimizer']['state']
    return torch.cat([part['momentum_buffer'].flatten() for part in state.values()])


@pytest.fixture(scope='module')
def in_two(setting):
    """Work folder of a training in two processes, an image in each."""
    setting.train(2, 'in_two', 'train_dataloader.batch_size=1')
    return setting.folder / 'in_two'


def test_two_processes_train_as_one_with_both_images(setting, in_two):
    setting.train(1, 'in_one', 'train_dataloader.batch_size=2')
    expected, found = losses(setting.folder / 'in_one'), losses(in_two)
    assert set(found) == set(expected) == {1, 2, 3, 4}
    for number, record in expected.items():
        assert found[number] == pytest.approx(record, rel=1e-5, abs=1e-6)
    # Sums of the gradients of all steps. They are not as exact as losses: images that
    # differ by 1e-7 give this untrained network, whose norm layers see a few cells,
    # gradients that differ by 2e-2 in one process.
    sums = [momentum(folder) for folder in (setting.folder / 'in_one', in_two)]
    assert (sums[1] - sums[0]).norm() < 0.1 * sums[0].norm()


def test_two_processes_resume_to_the_same_bits(setting, in_two):
    resumed = setting.folder / 'resumed'
    resumed.mkdir()
    shutil.copy(in_two / 'iter_2.pth', resumed)
    printed = setting.train(
        2, 'resumed', 'train_dataloader.batch_size=1', arguments=['--resume']
    )
    assert 'iter_2.pth' in printed
    expected = losses(in_two)
    assert losses(resumed) == {number: expected[number] for number in (3, 4)}


def values(printed_or_folder):
    """Metrics of the latest test or validation in a work folder."""
    (path,) = printed_or_folder.glob('*/vis_data/scalars.json')
    records = map(json.loads, path.read_text().splitlines())
    (record,) = [r for r in records if 'panoptic/PQ' in r]
    return {key: value for key, value in record.items() if '/' in key}


def test_uneven_processes_train_and_count_every_image_once(setting):
    setting.train(
        2,
        'uneven',
        'train_dataloader.batch_size=1',
        'train_dataloader.dataset.ann_file=uneven.json',
        'train_cfg.max_iters=2',
        'train_cfg.val_interval=2',
    )
    folder = setting.folder
    validated = values(folder / 'uneven')
    # A class is found somewhere, or nothing would differ if an image counted twice.
    assert max(validated.values()) > 0
    checkpoint = folder / 'uneven' / 'iter_2.pth'

    def arguments(name):
        return [
            *('--work-dir', folder / name, '--show-dir', 'pictures'),
            *('--out-panoptic', folder / f'{name}_files'),
        ]

    test = [sys.executable, TOOLS / 'test.py', setting.config, checkpoint]
    setting.run(*test, *arguments('one'))
    test = [TOOLS / 'dist_test.sh', setting.config, checkpoint, 2]
    setting.run(*test, *arguments('two'))

    def metrics(name):
        (path,) = (folder / name).glob('*/*.json')
        content = json.loads(path.read_text())
        return {key: value for key, value in content.items() if '/' in key}

    assert metrics('one') == metrics('two')
    assert validated == {key: metrics('one')[key] for key in validated}
    for kind in ('*_files/**/*', '*/*/pictures/**/*'):
        files = {
            name: {
                path.name: path.read_bytes()
                for path in folder.glob(kind.replace('*', name, 1))
                if path.is_file()
            }
            for name in ('one', 'two')
        }
        assert len(files['one']) >= 3
        assert files['one'] == files['two']


@pytest.mark.parametrize(
    ('how', 'shown'),
    [('error', 'the second process has had enough'), ('kill', 'Signal 9')],
)
def test_a_process_that_dies_ends_the_run_and_is_named(setting, how, shown):
    printed = setting.train(2, how, f'end_the_second={how}', fails=True)
    # The summary of torchrun, which names what failed first.
    summary = printed[printed.index('Root Cause') :]
    assert 'local_rank: 1' in summary
    assert shown in summary


def test_a_launcher_without_the_argument_is_refused(setting):
    with_torchrun = [sys.executable, '-m', 'torch.distributed.run', '--standalone']
    printed = setting.run(
        *with_torchrun,
        *('--local-addr=127.0.0.1', '--nproc_per_node=2'),
        *(TOOLS / 'train.py', setting.config, '--work-dir', setting.folder / 'none'),
        fails=True,
    )
    assert 'each would run alone: add --launcher pytorch' in printed
