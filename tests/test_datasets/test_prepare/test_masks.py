# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Run-length masks and polygons, on an image of 4 rows and 6 columns."""

import math

import numpy as np
import pytest
from pycocotools import mask as mask_api

from mmdet_efficientps.datasets.prepare.masks import paint_runs, segmentation_runs

HEIGHT, WIDTH = 4, 6


def drawn(segmentation):
    """Draw a segmentation; gives its mask."""
    runs = segmentation_runs(segmentation, HEIGHT, WIDTH)
    return paint_runs([runs], HEIGHT, WIDTH).astype(bool)


def compressed(mask):
    """Compress a mask; gives it as a json has it."""
    rle = mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))
    return rle | {'counts': rle['counts'].decode()}


def test_counts_go_down_the_columns():
    expected = np.zeros((HEIGHT, WIDTH), bool)
    # 5 off, so the second pixel of the second column is the first one that is on.
    expected[1:4, 1] = True
    expected[0, 2] = True
    np.testing.assert_array_equal(
        drawn({'size': [4, 6], 'counts': [5, 4, 15]}), expected
    )


@pytest.mark.parametrize('seed', range(20))
def test_compressed_masks_are_those_that_were_compressed(seed):
    mask = np.random.default_rng(seed).random((HEIGHT, WIDTH)) < seed / 19
    rle = compressed(mask)
    np.testing.assert_array_equal(drawn(rle), mask)
    np.testing.assert_array_equal(drawn(rle | {'counts': rle['counts'].encode()}), mask)


def test_compressed_counts_of_more_than_five_bits_are_read():
    mask = np.zeros((300, 500), bool)
    mask[20:290, 3] = mask[7:12, 4:450] = mask[:, 499] = True
    runs = segmentation_runs(compressed(mask), 300, 500)
    np.testing.assert_array_equal(paint_runs([runs], 300, 500), mask)


@pytest.mark.parametrize('seed', range(20))
def test_polygons_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    height, width = 30, 40
    # Some corners are outside of the image.
    polygons = [
        (rng.uniform(-0.3, 1.3, (5, 2)) * (width, height)).ravel().tolist()
        for _ in range(2)
    ]
    rle = mask_api.merge(mask_api.frPyObjects(polygons, height, width))
    runs = segmentation_runs(polygons, height, width)
    np.testing.assert_array_equal(
        paint_runs([runs], height, width), mask_api.decode(rle)
    )


def test_polygon_that_sticks_out_is_clipped():
    expected = np.zeros((HEIGHT, WIDTH), bool)
    expected[:2, 3:] = True
    np.testing.assert_array_equal(drawn([[3, -4, 12, -4, 12, 2, 3, 2]]), expected)


def test_later_masks_are_painted_over_earlier_ones():
    masks = [np.array([[0, 4]]), np.array([[2, 3], [5, 7]]), np.empty((0, 2), int)]
    painted = paint_runs(masks, 4, 2)
    np.testing.assert_array_equal(painted, [[1, 0], [1, 2], [2, 2], [1, 0]])


def test_more_than_255_masks_stay_apart():
    painted = paint_runs((np.array([[k, k + 1]]) for k in range(600)), 30, 20)
    np.testing.assert_array_equal(painted, np.arange(1, 601).reshape(20, 30).T)


SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]
RLE = {'size': [4, 6], 'counts': [5, 4, 15]}
TEXT = compressed(np.eye(4, 6, dtype=bool))


@pytest.mark.parametrize(
    'value', [math.nan, math.inf, -math.inf, 1e12, -1e9, 10**400, 13, -7]
)
@pytest.mark.parametrize('place', range(8))
def test_coordinates_that_no_image_has_are_refused(value, place):
    polygon = [*SQUARE]
    # Legal are x from -6 to 12 and y from -4 to 8.
    polygon[place] = value
    with pytest.raises(ValueError, match='far outside the image'):
        segmentation_runs([polygon], HEIGHT, WIDTH)


@pytest.mark.parametrize('value', ['3', None, True, [3], {'x': 3}])
def test_coordinates_that_are_no_numbers_are_refused(value):
    with pytest.raises(ValueError, match='no numbers'):
        segmentation_runs([[1, 1, 3, 1, value, 3]], HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ('segmentation', 'message'),
    [
        (None, 'without segmentation'),
        ([], 'without segmentation'),
        ({}, 'without segmentation'),
        (7, 'neither polygons nor'),
        ('[[1, 1]]', 'neither polygons nor'),
        (SQUARE, 'list of polygons'),
        ([SQUARE, None], 'list of polygons'),
        ([[1, 1, 3, 3]], 'less than 3 points'),
        ([[*SQUARE, 5]], 'half a point'),
        ([[[1, 1], [3, 1], [3, 3], [1, 3], [0, 2], [0, 1]]], 'no numbers'),
        (RLE | {'counts': [5, 4, 14]}, 'not the pixels of the image: 23 and 24'),
        (RLE | {'counts': [5, 4, 16]}, 'not the pixels of the image: 25 and 24'),
        (RLE | {'counts': []}, 'not the pixels of the image: 0 and 24'),
        (RLE | {'counts': [5, -4, 23]}, 'no numbers of pixels'),
        (RLE | {'counts': [5, 4.5, 14.5]}, 'no numbers of pixels'),
        (RLE | {'counts': [5, None, 19]}, 'no numbers of pixels'),
        (RLE | {'counts': None}, 'without counts'),
        (RLE | {'size': [6, 4]}, r'differ in size .*: \(6, 4\) and \(4, 6\)'),
        (RLE | {'size': None}, 'without size'),
        (RLE | {'size': [4]}, 'without size'),
        (RLE | {'size': [4, None]}, 'differ in size'),
        (TEXT | {'counts': TEXT['counts'][:-1]}, 'run-length mask'),
        (TEXT | {'counts': TEXT['counts'] + '1'}, 'not the pixels of the image'),
        (TEXT | {'counts': ''}, 'not the pixels of the image'),
        (TEXT | {'counts': '~~~'}, 'mean nothing'),
        (TEXT | {'counts': 'ä'}, 'mean nothing'),
        (TEXT | {'counts': '5X'}, 'cut short'),
        (TEXT | {'counts': 'O'}, 'no numbers of pixels'),
    ],
)
def test_segmentation_of_another_form_is_refused_in_words(segmentation, message):
    with pytest.raises(ValueError, match=message):
        segmentation_runs(segmentation, HEIGHT, WIDTH)


def test_parts_of_less_than_three_points_cover_no_pixel():
    parts = [[], [1, 1], [0, 0, 5, 3], SQUARE]
    np.testing.assert_array_equal(drawn(parts), drawn([SQUARE]))


def test_numbers_in_quotes_are_numbers():
    rle = {'size': ['4', 6.0], 'counts': ['5', 4, 15.0]}
    np.testing.assert_array_equal(drawn(rle), drawn(RLE))
