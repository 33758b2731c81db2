# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from mmdet.registry import METRICS
from mmdet.structures import DetDataSample
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from PIL import Image

from mmdet_efficientps.evaluation.metrics import panoptic_quality_metric
from mmdet_efficientps.structures.panoptic import decode_panoptic_seg, id2rgb

META = {
    'classes': ('person', 'car', 'road', 'sky'),
    'thing_classes': ('person', 'car'),
    'stuff_classes': ('road', 'sky'),
}
VOID = 4
ROAD, CAR = 300, 70000
SEGMENTS = [
    {'id': ROAD, 'category': 2, 'iscrowd': 0},
    {'id': CAR, 'category': 1, 'iscrowd': 0},
]
GT = [[0, ROAD, ROAD, ROAD], [CAR, CAR, ROAD, ROAD]]
PERFECT = [[VOID, 2, 2, 2], [1001, 1001, 2, 2]]
# The car is missed; of the road one pixel of five is void and one of two on the car.
WORSE = [[VOID, 2, 2, 2], [2, VOID + 3000, 2, VOID]]


@pytest.fixture
def sample(tmp_path):
    """Make a data sample with the ground truth of ``GT``."""
    path = tmp_path / 'label.png'
    Image.fromarray(id2rgb(np.array(GT))).save(path)

    def make(prediction, **meta):
        data_sample = DetDataSample(
            metainfo={
                'img_id': 1,
                'img_path': 'image.png',
                'seg_map_path': str(path),
                'segments_info': SEGMENTS,
            }
            | meta
        )
        sem_seg = torch.as_tensor(prediction)[None]
        data_sample.pred_panoptic_seg = PixelData(sem_seg=sem_seg)
        return data_sample

    return make


def evaluate(samples, size=None, meta=META, **kwargs):
    """Run the metric as the test loop does."""
    evaluator = Evaluator(METRICS.build({'type': 'PanopticQualityMetric', **kwargs}))
    evaluator.dataset_meta = meta
    for data_sample in samples:
        evaluator.process([data_sample])
    return evaluator.evaluate(size or len(samples))


def test_perfect_prediction_scores_100(sample):
    metrics = evaluate([sample(PERFECT)])
    assert set(metrics.values()) == {100}
    assert metrics['panoptic/PQ_th'] == metrics['panoptic/car_PQ'] == 100


def test_hand_computed_scores_over_two_images(sample):
    metrics = evaluate([sample(PERFECT), sample(WORSE)])
    # Car: one match, one missed. Road: IoU 1 and 4 / 6.
    expected = {'car_PQ': 1 / 1.5, 'car_SQ': 1, 'car_RQ': 1 / 1.5}
    expected |= {'road_PQ': 5 / 6, 'road_SQ': 5 / 6, 'road_RQ': 1}
    expected |= {f'{name}_th': expected[f'car_{name}'] for name in ('PQ', 'SQ', 'RQ')}
    expected |= {f'{name}_st': expected[f'road_{name}'] for name in ('PQ', 'SQ', 'RQ')}
    for name in ('PQ', 'SQ', 'RQ'):
        expected[name] = (expected[f'{name}_th'] + expected[f'{name}_st']) / 2
    expected = {f'panoptic/{key}': 100 * value for key, value in expected.items()}
    assert metrics == pytest.approx(expected)


def encode(pred_ids, pred_segments, void):
    """mmdet's encoding of a prediction, each segment with an instance of its own."""
    encoded = np.full(pred_ids.shape, void)
    for number, segment in enumerate(pred_segments, start=1):
        encoded[pred_ids == segment['id']] = segment['category'] + 1000 * number
    return encoded


def test_equal_to_public_evaluators(
    sample, tmp_path, panoptic_images, evaluate_publicly
):
    samples = []
    for number, (gt_ids, gt_segments, *prediction) in enumerate(panoptic_images):
        path = tmp_path / f'{number}.png'
        Image.fromarray(id2rgb(gt_ids)).save(path)
        meta = {'seg_map_path': str(path), 'segments_info': gt_segments}
        samples.append(sample(encode(*prediction, void=5), **meta))
    meta = {
        'classes': ('a', 'b', 'c', 'd', 'e'),
        'thing_classes': ('a', 'b', 'c'),
        'stuff_classes': ('d', 'e'),
    }
    metrics = evaluate(samples, meta=meta)

    _, expected = evaluate_publicly(panoptic_images, things=(0, 1, 2))
    suffixes = {'All': '', 'Things': '_th', 'Stuff': '_st'}
    for name in ('pq', 'sq', 'rq'):
        for group, suffix in suffixes.items():
            got = metrics[f'panoptic/{name.upper()}{suffix}']
            assert got == pytest.approx(100 * expected[group][name], abs=1e-9)
        for label, class_name in enumerate(meta['classes']):
            got = metrics[f'panoptic/{class_name}_{name.upper()}']
            value = expected['per_class'][label][name]
            assert got == pytest.approx(100 * value, abs=1e-9)


def test_padded_samples_of_the_sampler_are_dropped(sample):
    metrics = evaluate([sample(PERFECT), sample(WORSE)], size=1)
    assert metrics['panoptic/PQ'] == 100


def test_prediction_is_left_as_it_is(sample):
    data_sample = sample(WORSE)
    evaluate([data_sample])
    assert data_sample.pred_panoptic_seg.sem_seg[0].tolist() == WORSE


def test_groups_and_classes_never_seen_are_left_out(sample, tmp_path):
    Image.fromarray(id2rgb(np.full((2, 4), ROAD))).save(tmp_path / 'label.png')
    metrics = evaluate([sample([[2] * 4] * 2, segments_info=SEGMENTS[:1])])
    assert metrics['panoptic/PQ'] == metrics['panoptic/PQ_st'] == 100
    assert 'panoptic/PQ_th' not in metrics
    assert 'panoptic/person_PQ' not in metrics


def test_values_of_classes_can_be_left_out(sample):
    metrics = evaluate([sample(PERFECT)], classwise=False, prefix='val')
    assert set(metrics) == {
        f'val/{name}{suffix}'
        for name in ('PQ', 'SQ', 'RQ')
        for suffix in ('', '_th', '_st')
    }


def test_all_classes_are_printed(sample, monkeypatch):
    messages = []
    monkeypatch.setattr(
        panoptic_quality_metric, 'print_log', lambda text, *_: messages.append(text)
    )
    evaluate([sample(PERFECT), sample(WORSE)])
    (printed,) = messages
    assert '| All (2 classes)    | 75.00 |  91.67 |  83.33 |  3 |  0 |  1 |' in printed
    assert '| Things (1 classes) | 66.67 | 100.00 |  66.67 |  1 |  0 |  1 |' in printed
    for name in META['classes']:
        assert f'| {name} ' in printed


def test_prediction_of_another_size_is_named_with_the_file(sample):
    with pytest.raises(ValueError, match=r'label\.png.*\(2, 4\), prediction \(1, 2\)'):
        evaluate([sample([[2, 2]])])


def test_label_beyond_the_classes_is_refused(sample):
    with pytest.raises(ValueError, match=r'label\.png.*labels \[5\].*4 classes'):
        evaluate([sample([[5, 2, 2, 2], [2, 2, 2, 2]])])


def test_id_that_the_json_lacks_is_named_with_the_file(sample):
    with pytest.raises(ValueError, match=rf'label\.png.*\[{CAR}\]'):
        evaluate([sample(PERFECT, segments_info=SEGMENTS[:1])])


def test_missing_meta_key_says_where_to_add_it(sample):
    with pytest.raises(KeyError, match='seg_map_path.*meta_keys of PackDetInputs'):
        evaluate([sample(PERFECT, seg_map_path=None)])


def test_first_thing_class_without_instance_number_is_no_void():
    pred_ids, segments = decode_panoptic_seg(np.array([[0, VOID]]), VOID)
    assert segments == [{'id': 1, 'category': 0}]
    assert pred_ids.tolist() == [[1, 0]]
