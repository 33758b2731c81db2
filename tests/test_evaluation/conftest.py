# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb

NUM_IMAGES = 220
NUM_CLASSES = 5
NUM_THINGS = 3


def random_image(rng):
    """A made-up image with ground truth and a prediction derived from it.

    Ids need 16 or 24 bits and are in any order; a class may have several crowds; some
    predictions are empty.
    """
    most = int(rng.choice([2**16, 2**24]))
    height, width = rng.integers(8, 24, 2)
    gt_ids = np.zeros((height, width), dtype=int)
    gt_segments = []
    for _ in range(rng.integers(1, 9)):
        y, x = rng.integers(0, height - 3), rng.integers(0, width - 3)
        segment_id = int(rng.integers(1, most))
        gt_ids[y : y + rng.integers(2, 12), x : x + rng.integers(2, 12)] = segment_id
        category = int(rng.integers(NUM_CLASSES))
        crowd = int(category < NUM_THINGS and rng.random() < 0.3)
        gt_segments.append({'id': segment_id, 'category': category, 'iscrowd': crowd})
    gt_segments = [s for s in gt_segments if (gt_ids == s['id']).any()]

    gt_segments = [gt_segments[k] for k in rng.permutation(len(gt_segments))]

    moved = np.roll(gt_ids, rng.integers(-1, 2, 2), axis=(0, 1))
    pred_ids = np.zeros_like(gt_ids)
    pred_segments = []
    if rng.random() < 0.05:
        return gt_ids, gt_segments, pred_ids, pred_segments
    for old in [*gt_segments, {'id': 0, 'category': 0}]:
        mask = (moved == old['id']) & (rng.random(moved.shape) < 0.9)
        if mask.any():
            category = old['category']
            if rng.random() < 0.2:
                category = int(rng.integers(NUM_CLASSES))
            segment_id = most - 1 - len(pred_segments) * 1000
            pred_ids[mask] = segment_id
            pred_segments.append({'id': segment_id, 'category': category})
    return gt_ids, gt_segments, pred_ids, pred_segments


@pytest.fixture(scope='session')
def panoptic_images():
    """Images of 5 classes (3 things) with void, crowds, hits and misses."""
    rng = np.random.default_rng(0)
    return [random_image(rng) for _ in range(NUM_IMAGES)]


PUBLIC_EVALUATORS = {
    'cityscapesscripts': 'cityscapesscripts.evaluation.evalPanopticSemanticLabeling',
    'panopticapi': 'panopticapi.evaluation',
}


@pytest.fixture(params=PUBLIC_EVALUATORS)
def evaluate_publicly(request, tmp_path):
    """Let a public evaluator, which works on files, judge."""
    try:
        evaluator = importlib.import_module(PUBLIC_EVALUATORS[request.param])
    except ImportError:
        pytest.skip('needs: pip install --no-deps panopticapi-lite')

    def write(folder, ids, segments):
        (tmp_path / folder).mkdir(exist_ok=True)
        Image.fromarray(id2rgb(ids)).save(tmp_path / folder / 'a.png')
        return {
            'image_id': 'a',
            'file_name': 'a.png',
            'segments_info': [
                {
                    'id': s['id'],
                    'category_id': s['category'],
                    'iscrowd': s.get('iscrowd', 0),
                    'area': int((ids == s['id']).sum()),
                }
                for s in segments
            ],
        }

    def evaluate(images, things):
        categories = {c: {'isthing': int(c in things)} for c in range(NUM_CLASSES)}
        total = evaluator.PQStat()
        for gt_ids, gt_segments, pred_ids, pred_segments in images:
            pair = (
                write('gt', gt_ids, gt_segments),
                write('pred', pred_ids, pred_segments),
            )
            total += evaluator.pq_compute_single_core(
                0, [pair], tmp_path / 'gt', tmp_path / 'pred', categories
            )
        results = {}
        for group, isthing in (('All', None), ('Things', True), ('Stuff', False)):
            results[group], per_class = total.pq_average(categories, isthing=isthing)
            results.setdefault('per_class', per_class)
        return total, results

    return evaluate
