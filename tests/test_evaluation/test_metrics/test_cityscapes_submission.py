# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The official scripts score our submissions, and our metrics give their numbers."""

import json
import os
import subprocess
import sys
from copy import deepcopy

import numpy as np
import pytest
from mmdet.registry import METRICS
from mmengine.evaluator import Evaluator
from PIL import Image

from mmdet_efficientps.evaluation import CityscapesSubmission

SCRIPTS = 'cityscapesscripts.evaluation'


def evaluate(city, *metrics):
    """Run metrics as the test loop does; the predictions stay as they are."""
    evaluator = Evaluator([METRICS.build(metric) for metric in metrics])
    evaluator.dataset_meta = city.dataset.metainfo
    for sample in city.samples:
        evaluator.process([sample])
    return evaluator.evaluate(len(city.samples))


@pytest.fixture(scope='module')
def submission(city, tmp_path_factory):
    folder = tmp_path_factory.mktemp('results') / 'submission'
    metrics = evaluate(city, dict(type='CityscapesSubmission', out_dir=str(folder)))
    assert metrics == {}
    return folder


def run_official(script, city, cwd, results, *arguments, prepare=''):
    """Run an official script as its command does."""
    code = f'import sys, {SCRIPTS}.{script} as s; {prepare} sys.exit(s.main())'
    subprocess.run(
        [sys.executable, '-c', code, *arguments],
        cwd=cwd,
        env=os.environ
        | {'CITYSCAPES_DATASET': str(city.root), 'CITYSCAPES_RESULTS': str(results)},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def test_instance_script_gives_our_ap(city, submission, tmp_path):
    # The script keeps a cache beside itself, which is for one data set only.
    cache = f's.args.gtInstancesFile = {str(tmp_path / "cache.json")!r};'
    script = 'evalInstanceLevelSemanticLabeling'
    run_official(script, city, tmp_path, submission / 'instance', prepare=cache)
    path = city.root / 'evaluationResults' / 'resultInstanceLevelSemanticLabeling.json'
    official = json.loads(path.read_text())['averages']

    metrics = evaluate(city, dict(type='CityscapesInstanceAPMetric'))
    assert metrics['instance/AP'] == pytest.approx(100 * official['allAp'], abs=1e-6)
    assert metrics['instance/AP50'] == pytest.approx(
        100 * official['allAp50%'], abs=1e-6
    )
    assert 5 < metrics['instance/AP'] < metrics['instance/AP50'] < 95
    seen = 0
    for name, values in official['classes'].items():
        for key, official_key in (('AP', 'ap'), ('AP50', 'ap50%')):
            expected = 100 * values[official_key]
            ours = metrics.get(f'instance/{name}_{key}', np.nan)
            assert ours == pytest.approx(expected, abs=1e-6, nan_ok=True)
            seen += not np.isnan(expected)
    assert seen >= 6


def test_void_of_the_panoptic_png_is_another_where_there_are_caravans(city):
    official = evaluate(city, dict(type='CityscapesInstanceAPMetric'))
    panoptic = evaluate(
        city, dict(type='CityscapesInstanceAPMetric', void_from_instance_ids=False)
    )
    # what is found on a caravan is false for the official script only
    assert panoptic['instance/AP'] > official['instance/AP']


def test_pixel_script_gives_our_iou(city, submission, tmp_path):
    script = 'evalPixelLevelSemanticLabeling'
    run_official(script, city, tmp_path, submission / 'semantic')
    path = city.root / 'evaluationResults' / 'resultPixelLevelSemanticLabeling.json'
    official = json.loads(path.read_text())

    metrics = evaluate(city, dict(type='SemanticIoUMetric'))
    expected = 100 * official['averageScoreClasses']
    assert metrics['semantic/mIoU'] == pytest.approx(expected, abs=1e-6)
    assert 20 < metrics['semantic/mIoU'] < 95
    for name in city.dataset.metainfo['classes']:
        ours = metrics.get(f'semantic/{name}_IoU', np.nan)
        expected = 100 * official['classScores'][name]
        assert ours == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_panoptic_script_gives_our_pq(city, submission, tmp_path):
    script = 'evalPanopticSemanticLabeling'
    arguments = ['--prediction-json-file', submission / 'panoptic.json']
    run_official(script, city, tmp_path, submission, *map(str, arguments))
    official = json.loads(
        (tmp_path / 'resultPanopticSemanticLabeling.json').read_text()
    )
    metrics = evaluate(city, dict(type='PanopticQualityMetric'))
    assert metrics['panoptic/PQ'] == pytest.approx(
        100 * official['All']['pq'], abs=1e-9
    )
    assert metrics['panoptic/PQ'] > 5


def test_submission_has_the_label_ids_of_the_server(city, submission):
    sample = city.samples[0]
    semantic = np.array(Image.open(submission / 'semantic' / f'{sample.img_id}.png'))
    labels = sample.pred_sem_seg.sem_seg[0].numpy()
    # person, car, road and sky
    for label, label_id in ((0, 24), (2, 26), (8, 7), (18, 23)):
        assert ((semantic == label_id) == (labels == label)).all()
    lines = (submission / 'instance' / f'{sample.img_id}.txt').read_text().splitlines()
    assert len(lines) == len(sample.pred_instances)
    name, label_id, score = lines[-1].split(' ')
    mask = np.array(Image.open(submission / 'instance' / name))
    assert ((mask > 0) == sample.pred_instances.masks[-1].numpy()).all()
    assert float(score) == sample.pred_instances.scores[-1]
    assert 24 <= int(label_id) <= 33


def test_submission_that_was_stopped_goes_on(city, submission, tmp_path):
    def writer():
        metric = CityscapesSubmission(str(tmp_path / 'out'), run='a')
        metric.dataset_meta = city.dataset.metainfo
        return metric

    stopped = writer()
    stopped.process({}, [sample.to_dict() for sample in city.samples[:2]])
    done = writer()
    assert set(done.output.annotations()) == {s.img_id for s in city.samples[:2]}
    done.process({}, [sample.to_dict() for sample in city.samples[2:]])
    done.evaluate(len(city.samples) - 2)
    files = {
        path.relative_to(submission): path.read_bytes()
        for path in submission.rglob('*.*')
        if path.is_file()
    }
    for name, content in files.items():
        assert (tmp_path / 'out' / name).read_bytes() == content, name


def test_split_without_ground_truth_is_written(city, tmp_path):
    sample = deepcopy(city.samples[0])
    sample.set_metainfo(dict(seg_map_path=None, segments_info=[]))
    metric = CityscapesSubmission(str(tmp_path / 'out'))
    metric.dataset_meta = city.dataset.metainfo
    metric.process({}, [sample.to_dict()])
    metric.evaluate(1)
    content = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    (annotation,) = content['annotations']
    assert annotation['image_id'] == sample.img_id
    assert annotation['segments_info']


def test_train_ids_are_refused(city, tmp_path):
    metric = CityscapesSubmission(str(tmp_path / 'out'))
    categories = [
        c | {'id': k} for k, c in enumerate(city.dataset.metainfo['categories'])
    ]
    metric.dataset_meta = city.dataset.metainfo | {'categories': categories}
    with pytest.raises(ValueError, match='person is 0, not 24; rider is 1, not 25'):
        metric.process({}, [city.samples[0].to_dict()])
