# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The commands a user types, on a toy_city of a few small scenes."""

import json
import os
import pickle
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from cityscapesscripts.evaluation import evalPanopticSemanticLabeling
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.evaluation.functional import report_quality
from mmdet_efficientps.evaluation.panoptic_files import evaluate_panoptic_files

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
DEMO_CONFIG = 'efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'
CLASSES = CityscapesPanopticDataset.METAINFO['classes']
STOP, END = 2, 24

# The demo in small. The backbone starts from random weights, which needs its norm
# layers trained; their running means follow fast, so that what some steps have learnt
# is seen in validation. Low thresholds let a few instances through, right or wrong.
CONFIG = """
_base_ = {base!r}
data_root = {data_root!r}
randomness = dict(seed=0)
norm = dict(momentum=0.5)
model = dict(
    backbone=dict(init_cfg=None, norm_eval=False, frozen_stages=0, norm_cfg=norm),
    semantic_head=dict(norm_cfg=norm),
    test_cfg=dict(
        rcnn=dict(score_thr=0.02, max_per_img=5),
        panoptic=dict(score_thr=0.02, min_stuff_area=8),
    ),
)
optim_wrapper = dict(optimizer=dict(lr=3e-3))
# The steps get small, so that the last ones change little and what is learnt holds.
param_scheduler = [
    dict(type='LinearLR', start_factor=1, end_factor=0.02, by_epoch=False, end={end})
]
default_hooks = dict(logger=dict(interval=1))
_base_.train_pipeline[2].scale = (128, 64)
_base_.train_pipeline[2].crop_size = (96, 64)
_base_.test_pipeline[1].scale = (128, 64)
_base_.tta_pipeline[1].scale = (128, 64)
loader = dict(num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=_base_.train_pipeline), **loader
)
val_dataloader = dict(
    dataset=dict(data_root=data_root, pipeline=_base_.test_pipeline), **loader
)
test_dataloader = val_dataloader
"""


def command(script, *arguments):
    """Run a script of tools/ in a process of its own; gives what it prints."""
    result = subprocess.run(
        [sys.executable, str(ROOT / 'tools' / script), *map(str, arguments)],
        # Threads that wait for a core in turn make small steps many times slower.
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-5000:]
    return result.stdout


def scalars(work_dir):
    """Records of the latest run in a work folder: of training, of validation."""
    path = max(work_dir.glob('*/vis_data/scalars.json'))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    training = [record for record in records if 'loss' in record]
    return training, [record for record in records if 'panoptic/PQ' in record]


@pytest.fixture(scope='module')
def setting(tmp_path_factory):
    """Folder of a prepared toy_city and config of a small network for it."""
    folder = tmp_path_factory.mktemp('end_to_end')
    city = folder / 'city'
    size = ['--size', 64, 128, '--nproc', 1]
    command(
        'prepare_dataset.py',
        *(
            'toy-city',
            '--out',
            city,
            '--num-train',
            8,
            '--num-val',
            3,
            '--seed',
            3,
            *size,
        ),
    )
    config = folder / 'small.py'
    config.write_text(
        CONFIG.format(
            base=str(ROOT / 'configs' / DEMO_CONFIG),
            data_root=f'{city}{os.sep}',
            end=END,
        )
    )
    return SimpleNamespace(folder=folder, city=city, config=config)


@pytest.fixture(scope='module')
def run(setting):
    """What training, resuming and testing leave behind."""
    work_dir = setting.folder / 'work'

    def train(iters, *arguments):
        command(
            'train.py',
            *(setting.config, '--work-dir', work_dir, *arguments, '--cfg-options'),
            *(f'train_cfg.max_iters={iters}', f'train_cfg.val_interval={iters}'),
        )
        return scalars(work_dir)

    stopped = train(STOP)
    resumed = train(END, '--resume')
    checkpoint = Path((work_dir / 'last_checkpoint').read_text().strip())
    printed = command(
        'test.py',
        *(setting.config, checkpoint, '--work-dir', setting.folder / 'test'),
        *('--show-dir', setting.folder / 'pictures'),
        *('--out', setting.folder / 'predictions.pkl'),
        *('--out-panoptic', setting.folder / 'panoptic'),
    )
    (metrics,) = (setting.folder / 'test').glob('*/*.json')
    return SimpleNamespace(
        stopped=stopped,
        resumed=resumed,
        checkpoint=checkpoint,
        printed=printed,
        metrics=json.loads(metrics.read_text()),
        predictions=pickle.loads((setting.folder / 'predictions.pkl').read_bytes()),
    )


def test_training_logs_every_loss(run):
    training, _ = run.stopped
    assert [record['step'] for record in training] == [1, 2]
    losses = {'loss_rpn_cls', 'loss_rpn_bbox', 'loss_cls', 'loss_bbox', 'loss_mask'}
    for record in training:
        assert record.keys() >= losses | {'loss', 'loss_seg'}
        assert np.isfinite(record['loss'])


def test_training_goes_on_where_it_stopped(run):
    training, _ = run.resumed
    assert [record['step'] for record in training] == list(range(STOP + 1, END + 1))
    assert run.checkpoint.name == f'iter_{END}.pth'
    optimizer = torch.load(run.checkpoint, weights_only=False)['optimizer']
    assert {int(state['step']) for state in optimizer['state'].values()} == {END}
    rates = [record['base_lr'] for record in (*run.stopped[0], *training)]
    assert np.diff(rates) == pytest.approx(np.full(END - 1, -0.98 * 3e-3 / (END - 1)))


def test_training_lowers_the_loss(run):
    first, last = run.stopped[0][0], run.resumed[0][-1]
    assert last['loss_seg'] < first['loss_seg']
    assert last['loss_rpn_cls'] < first['loss_rpn_cls']


def test_validation_in_training_is_the_test(run):
    _, (validation,) = run.resumed
    for key in ('panoptic/PQ', 'panoptic/PQ_th', 'panoptic/PQ_st'):
        assert validation[key] == pytest.approx(run.metrics[key], abs=1e-9)


def test_validation_is_logged_at_its_iteration(run):
    assert [record['step'] for record in run.resumed[1]] == [END]


def test_testing_prints_the_table(run):
    rows = {}
    for line in run.printed.splitlines():
        cells = [cell.strip() for cell in line.strip('|').split('|')]
        if len(cells) == 7:
            rows[cells[0].split(' (')[0]] = cells[1:]
    assert rows[''] == ['PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN']
    assert rows.keys() == {'', 'All', 'Things', 'Stuff', *CLASSES}
    for row, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st')):
        expected = [f'{run.metrics[f"panoptic/{q}{suffix}"]:.2f}' for q in rows[''][:3]]
        assert rows[row][:3] == expected


def test_testing_writes_a_picture_of_every_scene(setting, run):
    pictures = sorted((setting.folder / 'pictures').rglob('*.png'))
    assert len(pictures) == 3
    for path in pictures:
        with Image.open(path) as picture:
            # image, ground truth and prediction side by side, and the legend
            assert picture.width >= 3 * 128
            assert picture.height >= 64


def test_quality_is_that_of_cityscapesscripts(setting, run, tmp_path):
    annotations = []
    seen = set()
    for prediction in run.predictions:
        encoded = prediction['pred_panoptic_seg']['sem_seg'][0].numpy()
        ids = np.zeros((*encoded.shape, 3), np.uint8)
        segments = []
        for number, code in enumerate(np.unique(encoded), start=1):
            label = int(code) % 1000
            seen.add('void' if label == 19 else 'thing' if label < 8 else 'stuff')
            if label == 19:
                continue
            mask = encoded == code
            # Red is the lowest digit of the id in base 256.
            ids[mask] = (7, number, 0)
            segments.append(
                {
                    'id': 7 + 256 * number,
                    'category_id': name2label[CLASSES[label]].id,
                    'area': int(mask.sum()),
                }
            )
        file_name = f'{prediction["img_id"]}.png'
        Image.fromarray(ids).save(tmp_path / file_name)
        annotations.append(
            {
                'image_id': prediction['img_id'],
                'file_name': file_name,
                'segments_info': segments,
            }
        )
    (tmp_path / 'predictions.json').write_text(json.dumps({'annotations': annotations}))
    truth = setting.city / 'gtFine' / 'cityscapes_panoptic_val'
    expected = evalPanopticSemanticLabeling.evaluatePanoptic(
        f'{truth}.json',
        str(truth),
        str(tmp_path / 'predictions.json'),
        str(tmp_path),
        str(tmp_path / 'results.json'),
    )

    # Without void, crowds and a match equality would say little.
    assert seen == {'void', 'thing', 'stuff'}
    assert '"iscrowd": 1' in Path(f'{truth}.json').read_text()
    assert expected['All']['rq'] > 0
    for group, suffix in (('All', ''), ('Things', '_th'), ('Stuff', '_st')):
        for quality in ('pq', 'sq', 'rq'):
            value = run.metrics[f'panoptic/{quality.upper()}{suffix}']
            assert value == pytest.approx(100 * expected[group][quality], abs=1e-9)
    for name in CLASSES:
        value = run.metrics.get(f'panoptic/{name}_PQ', 0.0)
        truth_value = expected['per_class'][name2label[name].id]['pq']
        assert value == pytest.approx(100 * truth_value, abs=1e-9)


def test_saved_predictions_score_what_the_test_did(setting, run):
    truth = setting.city / 'gtFine' / 'cityscapes_panoptic_val.json'
    saved = setting.folder / 'panoptic' / 'panoptic.json'
    quality = evaluate_panoptic_files(truth, saved)
    values, _ = report_quality(quality.stats, quality.classes, quality.groups)
    for key in ('PQ', 'SQ_th', 'RQ_st', 'road_PQ'):
        assert values[key] == pytest.approx(run.metrics[f'panoptic/{key}'], abs=1e-9)


def test_one_test_gives_the_numbers_of_every_table(setting, run):
    predicted, true = [], []
    folder = setting.city / 'gtFine' / 'cityscapes_panoptic_val'
    truth = json.loads(folder.with_suffix('.json').read_text())
    annotations = {a['image_id']: a for a in truth['annotations']}
    labels = {name2label[name].id: label for label, name in enumerate(CLASSES)}
    for prediction in run.predictions:
        annotation = annotations[prediction['img_id']]
        with Image.open(folder / annotation['file_name']) as png:
            ids = np.asarray(png).astype(int) @ (1, 256, 65536)
        for segment in annotation['segments_info']:
            inside = ids == segment['id']
            true.append(np.full(inside.sum(), labels[segment['category_id']]))
            predicted.append(prediction['pred_sem_seg']['sem_seg'][0].numpy()[inside])
    pairs = np.concatenate(true) * len(CLASSES) + np.concatenate(predicted)
    counts = np.bincount(pairs, minlength=len(CLASSES) ** 2)
    counts = counts.reshape(len(CLASSES), -1)
    hits, union = np.diag(counts), counts.sum(0) + counts.sum(1) - np.diag(counts)
    shown = counts.sum(1) > 0
    expected = 100 * np.mean(hits[shown] / union[shown])
    assert 0 < expected < 100
    assert run.metrics['semantic/mIoU'] == pytest.approx(expected, abs=1e-4)
    _, (validation,) = run.resumed
    for key in ('instance/AP', 'coco/AP', 'semantic/mIoU'):
        assert validation[key] == pytest.approx(run.metrics[key], abs=1e-9)


def augmented_test(setting, run, *options):
    """Metrics of tools/test.py --tta with some options."""
    work_dir = setting.folder / f'augmented_{len(options)}'
    command(
        'test.py',
        *(setting.config, run.checkpoint, '--work-dir', work_dir, '--tta', *options),
    )
    (metrics,) = work_dir.glob('*/*.json')
    return json.loads(metrics.read_text())


def test_views_of_several_scales_score_otherwise(setting, run):
    metrics = augmented_test(setting, run)
    measured = {key for key in run.metrics if 'time' not in key}
    assert measured <= metrics.keys()
    assert metrics['panoptic/PQ'] != run.metrics['panoptic/PQ']


def test_one_view_scores_what_the_test_did(setting, run):
    """So the wrapped network has the weights of the checkpoint."""
    metrics = augmented_test(
        setting,
        run,
        '--cfg-options',
        'tta_pipeline.1.ratios=[1.0]',
        'tta_pipeline.1.flip=False',
    )
    for key, value in run.metrics.items():
        if 'time' not in key:
            assert metrics[key] == pytest.approx(value, abs=1e-9), key


def test_best_checkpoint_by_panoptic_quality_is_kept(setting, run):
    scores = {
        record['step']: record['panoptic/PQ']
        for _, validations in (run.stopped, run.resumed)
        for record in validations
    }
    assert scores.keys() == {STOP, END}
    assert scores[STOP] != scores[END]
    (kept,) = (setting.folder / 'work').glob('best_*.pth')
    assert kept.name == f'best_panoptic_PQ_iter_{max(scores, key=scores.get)}.pth'


def test_every_validation_draws_the_same_scenes(setting):
    names = [p.stem for p in (setting.folder / 'work').glob('*/vis_data/**/val_*.png')]
    scenes = {name.rsplit('_', 1)[0] for name in names}
    assert len(scenes) == 3
    assert sorted(names) == sorted(f'{s}_{k}' for s in scenes for k in (STOP, END))


def test_submission_is_what_the_panoptic_script_scores_like_the_test(
    setting, run, tmp_path
):
    folder = tmp_path / 'submission'
    printed = command(
        'test.py',
        *(setting.config, run.checkpoint, '--work-dir', tmp_path / 'work'),
        *('--format-only', folder),
    )
    assert 'Panoptic quality' not in printed
    truth = setting.city / 'gtFine' / 'cityscapes_panoptic_val'
    expected = evalPanopticSemanticLabeling.evaluatePanoptic(
        f'{truth}.json',
        str(truth),
        str(folder / 'panoptic.json'),
        str(folder / 'panoptic'),
        str(tmp_path / 'results.json'),
    )
    value = run.metrics['panoptic/PQ']
    assert value == pytest.approx(100 * expected['All']['pq'], abs=1e-9)
    for kind, suffix in (('semantic', 'png'), ('instance', 'txt')):
        assert len(list((folder / kind).glob(f'*.{suffix}'))) == 3


@pytest.fixture
def train_here(setting, tmp_path, monkeypatch):
    """Run tools/train.py in this process, to see what it raises."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setenv('LOCAL_RANK', '0')

    def train(*options):
        work_dir = ['--work-dir', str(tmp_path / 'work')]
        arguments = [str(setting.config), *work_dir, '--cfg-options', *options]
        monkeypatch.setattr(sys, 'argv', ['train.py', *arguments])
        runpy.run_path(str(ROOT / 'tools' / 'train.py'), run_name='__main__')

    yield train
    torch.set_num_threads(threads)


def test_missing_data_set_names_the_command_that_makes_it(train_here, tmp_path):
    missing = f'train_dataloader.dataset.data_root={tmp_path}/nothing/'
    with pytest.raises(FileNotFoundError, match='prepare_dataset.py toy-city') as error:
        train_here(missing)
    assert f'{tmp_path}/nothing/gtFine/cityscapes_panoptic_train.json' in str(
        error.value
    )


def test_head_with_other_classes_than_the_data_set_is_named(train_here):
    field = 'model.roi_head.mask_head.num_classes'
    with pytest.raises(ValueError, match=f'{field} is 80, not 8'):
        train_here(f'{field}=80')


def test_loss_that_is_not_finite_stops_training(train_here, tmp_path):
    with pytest.raises(FloatingPointError, match='no longer finite in iteration 2'):
        train_here('optim_wrapper.optimizer.lr=1e30', 'train_cfg.max_iters=5')
    assert not list((tmp_path / 'work').glob('*.pth'))
