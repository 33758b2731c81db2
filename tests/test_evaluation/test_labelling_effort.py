# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import sys

import numpy as np
import pytest

from mmdet_efficientps.evaluation.labelling_effort import (
    ACTIONS,
    measure_labelling_effort,
)
from mmdet_efficientps.evaluation.panoptic_files import evaluate_panoptic_files
from mmdet_efficientps.structures.panoptic import write_json, write_panoptic_png

CATEGORIES = [
    {'id': 3, 'name': 'car', 'isthing': 1},
    {'id': 7, 'name': 'road', 'isthing': 0},
    {'id': 8, 'name': 'sky', 'isthing': 0},
]


def write(path, ids, categories, image_id, file_name='a.jpg', **keys):
    write_panoptic_png(path.with_suffix('') / 'a.png', ids)
    height, width = ids.shape
    image = {'id': image_id, 'file_name': file_name, 'width': width, 'height': height}
    segments = [{'id': k, 'category_id': c, **keys} for k, c in categories.items()]
    annotation = {'image_id': image_id, 'file_name': 'a.png', 'segments_info': segments}
    write_json(
        path,
        {'images': [image], 'annotations': [annotation], 'categories': CATEGORIES},
    )
    return path


@pytest.fixture
def files(tmp_path):
    """Segments of 100 pixels, one for each action, and one of 30."""
    truth = np.repeat(np.arange(6), 100)[None].repeat(1, axis=0)
    found = truth.copy()
    found[0, 100:130] = 0  # segment 1: IoU 0.7
    found[0, 200:205] = 0  # segment 2: IoU 0.95
    found[0, 400:500] = 0  # segment 4 is missed
    found[0, 500:530] = 6  # a piece of segment 5 is taken for another
    categories = {1: 3, 2: 3, 3: 7, 4: 3, 5: 8}
    gt = write(tmp_path / 'gt.json', truth, categories, 1)
    # Segment 3 has the wrong class.
    found_categories = {1: 3, 2: 3, 3: 8, 5: 8, 6: 3}
    pred = write(tmp_path / 'pred.json', found, found_categories, 1)
    return gt, pred


def test_every_segment_needs_one_action(files):
    effort = measure_labelling_effort(*files)
    table = {
        name: dict(zip(ACTIONS, counts.tolist(), strict=True))
        for name, counts in zip(effort.classes, effort.counts, strict=True)
    }
    nothing = dict.fromkeys(ACTIONS, 0)
    assert table == {
        'car': nothing | {'right': 1, 'reshape': 1, 'draw': 1, 'remove': 1},
        'road': nothing | {'rename': 1},
        'sky': nothing | {'reshape': 1},
    }
    assert (effort.num_segments, effort.num_touched) == (5, 5)
    assert measure_labelling_effort(*files, good_iou=0.6).counts[:, 0].sum() == 3


def test_counts_for_pq_are_those_of_the_evaluation(files):
    (expected,) = evaluate_panoptic_files(*files).stats
    stat = measure_labelling_effort(*files).stat
    for name in ('iou', 'tp', 'fp', 'fn'):
        np.testing.assert_array_equal(getattr(stat, name), getattr(expected, name))


def test_right_labels_need_nothing_and_images_are_told_by_name(files):
    gt, _ = files
    pred = gt.with_name('same.json')
    content = json.loads(gt.read_text())
    content['images'][0]['id'] = content['annotations'][0]['image_id'] = 'a.jpg'
    pred.write_text(json.dumps(content))
    gt.with_suffix('').rename(pred.with_suffix(''))
    gt.with_suffix('').symlink_to(pred.with_suffix(''))
    effort = measure_labelling_effort(gt, pred)
    assert (effort.num_segments, effort.num_touched, effort.num_images) == (5, 0, 1)


def test_numbers_of_images_that_mean_others_do_no_harm(tmp_path):
    first, second = np.full((1, 9), 1), np.array([[1] * 5 + [2] * 4])
    content = {}
    for name, ids_of in (('gt', (1, 2)), ('pred', (2, 1))):
        images, annotations = [], []
        for ids, image_id, stem in zip((first, second), ids_of, 'ab', strict=True):
            write_panoptic_png(tmp_path / name / f'{stem}.png', ids)
            image = {'id': image_id, 'file_name': f'{stem}.jpg'}
            images.append(image | {'width': 9, 'height': 1})
            segments = [{'id': k, 'category_id': 3} for k in np.unique(ids).tolist()]
            annotations.append(
                {
                    'image_id': image_id,
                    'file_name': f'{stem}.png',
                    'segments_info': segments,
                }
            )
        content = {'images': images, 'annotations': annotations}
        write_json(tmp_path / f'{name}.json', content | {'categories': CATEGORIES})
    effort = measure_labelling_effort(tmp_path / 'gt.json', tmp_path / 'pred.json')
    assert (effort.num_segments, effort.num_touched) == (3, 0)


def test_classes_are_told_by_name(files):
    gt, pred = files
    expected = measure_labelling_effort(gt, pred)
    content = json.loads(pred.read_text())
    # As another tool numbers them: the id of one is that of another in the labels.
    new_id = {3: 7, 7: 8, 8: 1}
    for category in content['categories']:
        category['id'] = new_id[category['id']]
    for segment in content['annotations'][0]['segments_info']:
        segment['category_id'] = new_id[segment['category_id']]
    pred.write_text(json.dumps(content))
    effort = measure_labelling_effort(gt, pred)
    np.testing.assert_array_equal(effort.counts, expected.counts)
    (stat,) = evaluate_panoptic_files(gt, pred).stats
    np.testing.assert_array_equal(stat.tp, expected.stat.tp)


def test_images_without_a_prediction_are_named(files, tmp_path):
    gt, pred = files
    content = json.loads(pred.read_text())
    content['images'][0] |= {'id': 'b', 'file_name': 'b.jpg'}
    content['annotations'][0]['image_id'] = 'b'
    pred.write_text(json.dumps(content))
    with pytest.raises(ValueError, match='images without a prediction'):
        measure_labelling_effort(gt, pred)
    with pytest.raises(ValueError, match=r'must be 0\.5\.\.1'):
        measure_labelling_effort(gt, pred, good_iou=2)


def test_the_command_prints_and_writes_numbers(files, load_tool, monkeypatch, capsys):
    gt, pred = files
    tool = load_tool('analysis_tools/labelling_effort.py')
    out = gt.with_name('effort.json')
    command = ['labelling_effort.py', gt, pred, '--out', out, '--nproc', '1']
    monkeypatch.setattr(sys, 'argv', list(map(str, command)))
    tool.main()
    assert '5 segments to touch, 5 to draw without' in capsys.readouterr().out
    assert json.loads(out.read_text())['rename'] == 1
    monkeypatch.setattr(sys, 'argv', [*map(str, command[:3]), '--out', str(gt)])
    with pytest.raises(SystemExit, match='is an input'):
        tool.main()
