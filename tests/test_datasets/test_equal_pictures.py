# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np

from mmdet_efficientps.datasets.equal_pictures import (
    equal_pairs,
    group_alike,
    near_pairs,
)
from mmdet_efficientps.datasets.fingerprint import make_thumbnail


def photograph(seed):
    """A smooth picture with fine noise, 320 x 240 pixels."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(rng.integers(0, 256, (6, 8), np.uint8), (320, 240))
    noise = rng.normal(0, 12, rough.shape)
    return np.clip(rough + noise, 0, 255).astype(np.uint8)


def saved_again(picture, quality):
    content = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)


def thumbnails(pictures):
    return np.stack([make_thumbnail(picture) for picture in pictures])


def test_a_picture_saved_again_or_at_another_size_is_found_and_no_other():
    originals = [photograph(seed) for seed in range(12)]
    copies = [
        saved_again(originals[3], 30),
        cv2.resize(originals[8], (160, 120), interpolation=cv2.INTER_AREA),
        photograph(99),
    ]
    assert near_pairs(thumbnails(copies), thumbnails(originals)) == [(0, 3), (1, 8)]


def test_near_pairs_are_the_nearest_of_a_comparison_of_all():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, (40, 9), np.uint8)
    second = rng.integers(0, 6, (30, 9), np.uint8)
    differences = np.abs(first[:, None].astype(int) - second).mean(axis=2)
    expected = np.flatnonzero(differences.min(axis=1) <= 1.0).tolist()
    assert 0 < len(expected) < 40
    pairs = near_pairs(first, second)
    assert [place for place, _ in pairs] == expected
    for place, other in pairs:
        assert differences[place, other] == differences[place].min()


def test_a_fixed_camera_gives_one_pair_an_image():
    # All 400 x 400 pairs would be near: of 10,000 images, they fill the memory.
    rows = np.full((400, 9), 7, np.uint8)
    assert len(near_pairs(rows, rows)) == 400


def test_equal_pictures_are_found_by_their_hashes():
    assert equal_pairs(['a', 'b', 'c'], ['c', 'x', 'a']) == [(0, 2), (2, 0)]


def test_near_and_equal_pictures_are_one_group_also_by_others_between():
    rows = np.array([[0], [2], [1], [90], [7]], np.uint8)
    # 0 and 1 differ by more than 1, but 2 is near to both; 4 is equal to 3.
    groups = group_alike(['a', 'b', 'c', 'd', 'd'], rows)
    assert groups.tolist() == [0, 0, 0, 3, 3]


def test_groups_are_the_connected_parts_of_a_comparison_of_all():
    rows = np.random.default_rng(1).integers(0, 60, (50, 1), np.uint8)
    groups = group_alike([str(k) for k in range(50)], rows)
    near = np.abs(rows.astype(int) - rows.T) <= 1.0
    reached = np.linalg.matrix_power(near.astype(float), 50) > 0
    assert groups.tolist() == reached.argmax(axis=1).tolist()
    assert 1 < len(set(groups.tolist())) < 50
