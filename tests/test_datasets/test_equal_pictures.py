# Licensed under the Apache License, Version 2.0. See LICENSE.
import cv2
import numpy as np

from mmdet_efficientps.datasets.equal_pictures import (
    equal_files,
    group_pictures,
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


def test_near_pairs_are_those_of_a_comparison_of_all():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 6, (40, 9), np.uint8)
    second = rng.integers(0, 6, (30, 9), np.uint8)
    differences = np.abs(first[:, None].astype(int) - second).mean(axis=2)
    expected = set(map(tuple, np.argwhere(differences <= 1.0).tolist()))
    assert 0 < len(expected) < 40 * 30
    pairs = near_pairs(first, second)
    assert set(pairs) == expected
    assert len(pairs) == len(expected)


def test_equal_files_are_found_by_their_hashes():
    assert equal_files(['a', 'b', 'c'], ['c', 'x', 'a']) == [(0, 2), (2, 0)]


def test_near_pictures_and_equal_files_are_one_picture_also_by_others_between():
    rows = np.array([[0], [1], [2], [90], [7]], np.uint8)
    # 0 and 2 differ by more than 1, but 1 is near to both; 4 is the file of 3.
    groups = group_pictures(['a', 'b', 'c', 'd', 'd'], rows)
    assert groups.tolist() == [0, 0, 0, 3, 3]
