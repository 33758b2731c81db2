# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Every data set from the layout of its download to the report of a test.

The trees are tiny and the network is the demo's in small, after two iterations: what
is tested is that all commands work on the data set and agree with each other.
"""

import json
import multiprocessing
import os
import runpy
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mmdet_efficientps.evaluation.functional import report_quality
from mmdet_efficientps.evaluation.panoptic_files import evaluate_panoptic_files
from mmdet_efficientps.testing import data_set_trees as trees

ROOT = Path(__file__).parents[1]
SCALE = (128, 64)


def write_vistas_v2(root):
    return trees.write_vistas(root, versions=['v2.0'], alone=False)


# What writes the tree, and the size of the ground truth (width, height).
DATA_SETS = {
    'cityscapes': (trees.write_cityscapes, trees.SIZE),
    'kitti': (trees.write_kitti, (1280, 384)),
    'idd': (trees.write_idd, (1280, 720)),
    'vistas-v1.2': (trees.write_vistas, trees.SIZE),
    'vistas-v2.0': (write_vistas_v2, trees.SIZE),
    'coco': (trees.write_coco, trees.SIZE),
}


def run_script(script, arguments, log):
    """Run a script as Python does, in a process of its own."""
    # Outputs of libraries in other languages go there too.
    with open(log, 'w') as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    os.environ |= {'OMP_NUM_THREADS': '1', 'LOCAL_RANK': '0'}
    sys.argv = [script, *arguments]
    sys.path.insert(0, os.path.dirname(script))
    torch.set_num_threads(1)
    runpy.run_path(script, run_name='__main__')


@pytest.fixture(scope='module')
def command(tmp_path_factory):
    """Run a script of tools/; gives what it prints.

    All processes are copies of one that has imported the libraries, which takes most
    of the time of these small runs.
    """
    context = multiprocessing.get_context('forkserver')
    modules = ['mmdet.apis', 'mmdet_efficientps', 'matplotlib.pyplot', 'torch._dynamo']
    context.set_forkserver_preload(modules)
    folder = tmp_path_factory.mktemp('logs')

    def run(script, *arguments):
        log = folder / f'{len(list(folder.iterdir()))}.txt'
        process = context.Process(
            target=run_script,
            args=(str(ROOT / 'tools' / script), list(map(str, arguments)), str(log)),
        )
        process.start()
        process.join()
        printed = log.read_text()
        assert process.exitcode == 0, printed[-5000:]
        return printed

    return run


def write_config(tree, path):
    """Write a config of the small network for a prepared data set."""
    bases = (
        'models/efficientps_lite0_small.py',
        f'datasets/{tree.config}.py',
        'default_runtime.py',
    )
    cfg = Config()
    for base in bases:
        cfg.merge_from_dict(
            Config.fromfile(ROOT / 'configs' / '_base_' / base).to_dict()
        )
    categories = tree.read()['categories']
    things = sum(c['isthing'] for c in categories)
    classes = {
        'num_things_classes': things,
        'num_stuff_classes': len(categories) - things,
    }
    cfg.merge_from_dict(
        {
            'model': {
                'backbone': {'init_cfg': None, 'norm_eval': False, 'frozen_stages': 0},
                'semantic_head': classes,
                'panoptic_fusion_head': classes,
                'roi_head': {
                    'bbox_head': {'num_classes': things},
                    'mask_head': {'num_classes': things},
                },
                # Let some instances through, right or wrong.
                'test_cfg': {
                    'rcnn': {'score_thr': 0.01, 'max_per_img': 5},
                    'panoptic': {'score_thr': 0.01, 'min_stuff_area': 1},
                },
            },
            'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 1e-3}},
            'train_cfg': {
                'type': 'IterBasedTrainLoop',
                'max_iters': 2,
                'val_interval': 2,
            },
            'val_cfg': {'type': 'ValLoop'},
            'test_cfg': {'type': 'TestLoop'},
            'default_hooks': {'checkpoint': {'by_epoch': False, 'interval': 2}},
        }
    )
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg[key]
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = f'{tree.root}/'
        for step in loader.dataset.pipeline:
            if 'scale' in step:
                step.scale = SCALE
            if 'crop_size' in step:
                step.crop_size = SCALE
    cfg.dump(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize('name', DATA_SETS)
def test_data_set_goes_all_the_way_to_the_report(name, command, tmp_path):
    write_tree, size = DATA_SETS[name]
    tree = write_tree(tmp_path / 'data')
    if tree.kind:
        command('prepare_dataset.py', tree.kind, tree.root, '--nproc', 1)
    truth = tree.root / tree.jsons[1]
    images = json.loads(truth.read_text())['images']
    assert [(i['width'], i['height']) for i in images] == [size, size]

    config = write_config(tree, tmp_path / 'small.py')
    work = tmp_path / 'work'
    command('train.py', config, '--work-dir', work)
    (scalars,) = work.glob('*/vis_data/scalars.json')
    records = [json.loads(line) for line in scalars.read_text().splitlines()]
    (validated,) = [r for r in records if 'panoptic/PQ' in r]

    command(
        'test.py',
        *(config, work / 'iter_2.pth', '--work-dir', tmp_path / 'test'),
        *('--show-dir', tmp_path / 'pictures'),
        *('--out-panoptic', tmp_path / 'panoptic'),
    )
    (metrics,) = (tmp_path / 'test').glob('*/*.json')
    tested = json.loads(metrics.read_text())
    measured = {key for key in tested if '/' in key}
    assert measured >= {'panoptic/PQ', 'panoptic/RQ_st', 'semantic/mIoU', 'coco/AP'}
    for key in measured:
        assert tested[key] == pytest.approx(validated[key], abs=1e-9, nan_ok=True)

    pictures = [path for path in (tmp_path / 'pictures').rglob('*') if path.is_file()]
    assert len(pictures) == len(images)
    for path in pictures:
        with Image.open(path) as picture:
            # Image, ground truth and prediction side by side, at the size of the two.
            assert picture.width >= 3 * size[0]
            assert picture.height >= size[1]

    predicted = tmp_path / 'panoptic' / 'panoptic.json'
    annotations = json.loads(predicted.read_text())['annotations']
    assert {a['image_id'] for a in annotations} == {i['id'] for i in images}
    for annotation in annotations:
        with Image.open(predicted.with_suffix('') / annotation['file_name']) as png:
            assert png.size == size
    quality = evaluate_panoptic_files(truth, predicted)
    values, _ = report_quality(quality.stats, quality.classes, quality.groups)
    for key in ('PQ', 'SQ', 'RQ_st'):
        assert values[key] == pytest.approx(tested[f'panoptic/{key}'], abs=1e-9)

    page = tmp_path / 'report.html'
    printed = command(
        'analysis_tools/panoptic_report.py',
        *(truth, predicted, '--images', tree.root / tree.image_dirs[1]),
        *('--metrics', metrics, '--out', page, '--nproc', 1),
    )
    assert f'{page}: 2 images' in printed
    assert page.stat().st_size > 10_000

    out = tmp_path / 'browse'
    command('analysis_tools/browse_dataset.py', config, '--out', out)
    assert sorted(p.name for p in out.iterdir()) == ['index.html', 'page_001.png']
