# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest

from mmdet_efficientps.datasets.stratified_split import (
    split_pictures,
    stratified_split,
)


def random_data(seed):
    """100 images in about 60 groups, 6 classes from usual to rare."""
    rng = np.random.default_rng(seed)
    shares = np.array([0.9, 0.5, 0.3, 0.1, 0.05, 0.03])
    return rng.random((100, 6)) < shares, rng.integers(0, 60, 100)


@pytest.mark.parametrize('seed', range(20))
def test_groups_stay_together_and_usual_classes_are_on_both_sides(seed):
    presence, groups = random_data(seed)
    is_val = stratified_split(presence, groups, 0.2, seed)
    assert not set(groups[is_val]) & set(groups[~is_val])
    for label in range(4):
        assert presence[is_val, label].any()
        assert presence[~is_val, label].any()
    assert 15 <= is_val.sum() <= 30


def test_a_class_of_two_images_is_on_both_sides():
    presence = np.ones((50, 2), dtype=bool)
    presence[:, 1] = False
    presence[[7, 30], 1] = True
    is_val = stratified_split(presence, np.arange(50), 0.2)
    assert sorted(is_val[[7, 30]].tolist()) == [False, True]


def test_the_only_image_of_a_class_is_for_training():
    presence = np.zeros((20, 2), dtype=bool)
    presence[:, 0] = True
    presence[11, 1] = True
    for seed in range(10):
        assert not stratified_split(presence, np.arange(20), 0.4, seed)[11]


def test_the_share_is_met_and_the_seed_decides():
    presence = np.ones((100, 1), dtype=bool)
    splits = [stratified_split(presence, np.arange(100), 0.2, s) for s in (0, 0, 1)]
    assert [split.sum() for split in splits] == [20, 20, 20]
    assert (splits[0] == splits[1]).all()
    assert (splits[0] != splits[2]).any()


def test_two_images_are_one_on_each_side():
    presence = np.array([[True], [True]])
    assert stratified_split(presence, np.arange(2), 0.1).sum() == 1


@pytest.mark.parametrize(
    ('count', 'message'),
    [
        (3, '3 images with the same pixels cannot be split: .* with --val$'),
        (1, '^1 image cannot be split: .* with --val$'),
    ],
)
def test_one_picture_cannot_be_split(count, message):
    with pytest.raises(ValueError, match=message):
        stratified_split(np.ones((count, 1), dtype=bool), np.zeros(count, int), 0.2)


def split(levels, fraction, equal=()):
    """Split images that are all of one class and of one grey level each."""
    thumbnails = np.repeat(np.array(levels, np.uint8)[:, None], 4, axis=1)
    digests = [str(k) for k in range(len(levels))]
    for place in equal:
        digests[place] = 'equal'
    presence = np.ones((len(levels), 1), dtype=bool)
    return split_pictures(presence, digests, thumbnails, fraction)


def test_pictures_that_look_alike_stay_together():
    for levels in ([10 * (k // 2) for k in range(20)], [0, 0, 0, *range(9, 90, 9)]):
        is_val = split(levels, 0.3)
        assert 0 < is_val.sum() < len(levels)
        for level in levels:
            assert len(set(is_val[np.array(levels) == level].tolist())) == 1


def test_rare_classes_that_make_the_share_wrong_part_no_alike_pictures():
    # Two images of each class, of which one is for validation, and four that look
    # alike.
    presence = np.zeros((24, 10), dtype=bool)
    presence[np.arange(20), np.arange(20) // 2] = True
    levels = np.append(10 * np.arange(20), [250] * 4)
    thumbnails = np.repeat(levels.astype(np.uint8)[:, None], 4, axis=1)
    for seed in range(5):
        is_val = split_pictures(
            presence, [str(k) for k in range(24)], thumbnails, 0.2, seed
        )
        assert is_val.sum() >= 10
        assert len(set(is_val[20:].tolist())) == 1


@pytest.mark.parametrize(
    'levels',
    [
        # A fixed camera; a slow drift; a long drive and a few other pictures.
        [7] * 20,
        list(range(20)),
        [*range(30, 47), 90, 120, 150],
    ],
)
def test_where_most_look_alike_only_equal_pictures_stay_together(levels):
    is_val = split(levels, 0.3, equal=[3, 5, 8])
    assert 4 <= is_val.sum() <= 8
    assert len(set(is_val[[3, 5, 8]].tolist())) == 1


@pytest.mark.parametrize('fraction', [0, 1, -0.1, 20])
def test_a_share_that_is_none_is_refused(fraction):
    with pytest.raises(ValueError, match='above 0 and below 1'):
        stratified_split(np.ones((3, 1), dtype=bool), np.arange(3), fraction)
