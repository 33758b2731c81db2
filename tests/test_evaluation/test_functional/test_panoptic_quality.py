# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.evaluation.functional import (
    PanopticQualityStat,
    class_quality,
    panoptic_quality_stats,
    summarize,
)

NUM_CLASSES = 5
THINGS, STUFF = [0, 1, 2], [3, 4]
GROUPS = {'All': [*THINGS, *STUFF], 'Things': THINGS, 'Stuff': STUFF}


def segments(*rows):
    """Segments from rows of (id, category) or (id, category, iscrowd)."""
    return [
        {'id': row[0], 'category': row[1], 'iscrowd': row[2] if len(row) > 2 else 0}
        for row in rows
    ]


def stats(gt_ids, gt_segments, pred_ids, pred_segments):
    """Counts as a dict of class to (iou, tp, fp, fn), classes without any left out."""
    stat = panoptic_quality_stats(
        np.array(gt_ids), gt_segments, np.array(pred_ids), pred_segments, NUM_CLASSES
    )
    columns = zip(stat.iou, stat.tp, stat.fp, stat.fn, strict=True)
    return {c: counts for c, counts in enumerate(columns) if any(counts)}


def test_hand_computed_image():
    gt_ids = [
        [3, 3, 3, 3],
        [3, 3, 10, 10],
        [0, 11, 10, 10],
        [0, 11, 0, 0],
    ]
    pred_ids = [
        [3, 3, 3, 3],
        [3, 20, 20, 20],
        [20, 21, 20, 21],
        [0, 22, 22, 22],
    ]
    got = stats(
        gt_ids,
        segments((3, 3), (10, 0), (11, 1)),
        pred_ids,
        segments((3, 3), (20, 0), (21, 1), (22, 1)),
    )
    assert got == {
        # 3 of the 4 pixels; union 4 + 5 - 3 less one predicted pixel on void.
        0: (3 / 5, 1, 0, 0),
        # IoU of 21 with 11 is 1/3: missed and false. 22 lies mostly on void.
        1: (0, 0, 1, 1),
        3: (5 / 6, 1, 0, 0),
    }


def test_iou_of_one_half_is_no_match():
    got = stats(
        [[5, 5, 6]], segments((5, 0), (6, 3)), [[7, 8, 8]], segments((7, 0), (8, 3))
    )
    assert got == {0: (0, 0, 1, 1), 3: (0, 0, 1, 1)}


def test_half_on_void_is_a_false_positive_and_more_is_not():
    gt_segments = segments((5, 3))
    assert stats(
        [[0, 0, 5, 5, 5, 5, 5, 5]],
        gt_segments,
        [[9, 9, 9, 9, 5, 5, 5, 5]],
        segments((9, 0), (5, 3)),
    )[0] == (0, 0, 1, 0)
    assert 0 not in stats(
        [[0, 0, 5, 5, 5, 5, 5, 5]],
        gt_segments,
        [[9, 9, 9, 5, 5, 5, 5, 5]],
        segments((9, 0), (5, 3)),
    )


def test_crowd_is_neither_matched_nor_missed():
    assert stats([[5, 5]], segments((5, 0, 1)), [[9, 9]], segments((9, 0))) == {}
    assert stats([[5, 5]], segments((5, 0, 1)), [[0, 0]], []) == {}


def test_crowd_of_another_class_does_not_excuse():
    got = stats([[5, 5]], segments((5, 0, 1)), [[9, 9]], segments((9, 1)))
    assert got == {1: (0, 0, 1, 0)}


def test_void_and_crowd_excuse_together():
    gt_segments = segments((5, 0, 1), (6, 3))
    got = stats(
        [[0, 5, 6, 6, 6]], gt_segments, [[9, 9, 9, 6, 6]], segments((9, 0), (6, 3))
    )
    assert got == {3: (2 / 3, 1, 0, 0)}


def test_only_the_last_crowd_of_a_class_excuses():
    gt_segments = segments((5, 0, 1), (6, 0, 1))
    got = stats([[5, 5, 6]], gt_segments, [[9, 9, 8]], segments((9, 0), (8, 0)))
    assert got == {0: (0, 0, 1, 0)}


def test_true_segment_without_pixels_is_missed():
    assert stats([[0]], segments((5, 0)), [[0]], []) == {0: (0, 0, 0, 1)}


def test_ids_without_entry_and_entries_without_pixels_are_refused():
    with pytest.raises(ValueError, match=r'without an entry: \[5\]'):
        stats([[5]], [], [[0]], [])
    with pytest.raises(ValueError, match=r'without an entry: \[6\]'):
        stats([[0]], [], [[6]], [])
    with pytest.raises(ValueError, match=r'without pixels: \[6\]'):
        stats([[0]], [], [[0]], segments((6, 0)))


def test_maps_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r'\(1, 2\), prediction \(2, 1\)'):
        stats([[0, 0]], [], [[0], [0]], [])


def test_equal_to_public_evaluators(panoptic_images, evaluate_publicly):
    total = PanopticQualityStat.zeros(NUM_CLASSES)
    for image in panoptic_images:
        before = [image[0].copy(), image[2].copy()]
        total += panoptic_quality_stats(*image, NUM_CLASSES)
        np.testing.assert_array_equal(image[0], before[0])
        np.testing.assert_array_equal(image[2], before[1])
    # The comparison means something only if every kind of image and outcome was met.
    assert len(panoptic_images) >= 200
    assert (np.array([total.tp, total.fp, total.fn]) > 5).all()
    crowds = [
        [s['category'] for s in segments if s['iscrowd']]
        for _, segments, _, _ in panoptic_images
    ]
    assert sum(len(set(classes)) < len(classes) for classes in crowds) > 5
    assert sum(not pred_segments for *_, pred_segments in panoptic_images) > 5
    largest = np.array([gt_ids.max() for gt_ids, *_ in panoptic_images])
    assert (largest < 2**16).sum() > 5
    assert (largest >= 2**16).sum() > 5

    expected_total, expected = evaluate_publicly(panoptic_images, THINGS)
    for c in range(NUM_CLASSES):
        got = (total.tp[c], total.fp[c], total.fn[c])
        assert got == (expected_total[c].tp, expected_total[c].fp, expected_total[c].fn)
        assert total.iou[c] == pytest.approx(expected_total[c].iou, abs=1e-9)
    for group, values in summarize(total, GROUPS).items():
        assert values == pytest.approx(expected[group], abs=1e-9)
    for name, values in class_quality(total).items():
        expected_values = [expected['per_class'][c][name] for c in range(NUM_CLASSES)]
        assert values == pytest.approx(expected_values, abs=1e-9)


def make_stat(**counts):
    """Counts of three classes."""
    zeros = {name: np.zeros(3) for name in ('iou', 'tp', 'fp', 'fn')}
    return PanopticQualityStat(**zeros | {k: np.array(v) for k, v in counts.items()})


def test_quality_of_classes():
    stat = make_stat(iou=[1.6, 0, 0], tp=[2, 0, 0], fp=[1, 3, 0], fn=[3, 0, 0])
    quality = class_quality(stat)
    np.testing.assert_allclose(quality['pq'], [0.4, 0, np.nan])
    np.testing.assert_allclose(quality['sq'], [0.8, 0, np.nan])
    np.testing.assert_allclose(quality['rq'], [0.5, 0, np.nan])


def test_classes_not_seen_do_not_count_and_empty_groups_are_nan():
    stat = make_stat(iou=[1.6, 0, 0], tp=[2, 0, 0], fp=[1, 3, 0], fn=[3, 0, 0])
    summary = summarize(stat, {'all': [0, 1, 2], 'unseen': [2], 'none': []})
    assert summary['all'] == pytest.approx({'pq': 0.2, 'sq': 0.4, 'rq': 0.25, 'n': 2})
    for group in ('unseen', 'none'):
        assert summary[group]['n'] == 0
        assert np.isnan([summary[group][key] for key in ('pq', 'sq', 'rq')]).all()
