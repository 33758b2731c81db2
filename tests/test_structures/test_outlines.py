# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from pycocotools import mask as mask_api
from scipy.ndimage import binary_dilation, gaussian_filter

from mmdet_efficientps.structures.outlines import mask_outlines

HEIGHT, WIDTH = 40, 60


def draw(polygons):
    """Draw polygons as every user of COCO does."""
    masks = mask_api.frPyObjects(polygons, HEIGHT, WIDTH)
    return mask_api.decode(mask_api.merge(masks)).astype(bool)


def random_mask(seed, smooth):
    noise = np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH))
    return gaussian_filter(noise, smooth) > 0


@pytest.mark.parametrize('smooth', [0, 1, 3])
@pytest.mark.parametrize('seed', range(5))
def test_without_tolerance_the_polygons_are_the_mask(seed, smooth):
    mask = random_mask(seed, smooth)
    np.testing.assert_array_equal(draw(mask_outlines(mask)), mask)


def test_holes_and_what_lies_in_them_are_kept():
    mask = np.ones((HEIGHT, WIDTH), dtype=bool)
    mask[5:30, 5:50] = False
    mask[10:20, 10:20] = True
    mask[12:15, 12:15] = False
    mask[35:38, 40:50] = False
    polygons = mask_outlines(mask)
    assert len(polygons) == 2
    np.testing.assert_array_equal(draw(polygons), mask)


@pytest.mark.parametrize('tolerance', [0.5, 1, 2])
@pytest.mark.parametrize('seed', range(3))
def test_only_pixels_near_the_edge_differ_with_a_tolerance(seed, tolerance):
    mask = random_mask(seed, 4)
    drawn = draw(mask_outlines(mask, tolerance))
    steps = int(np.ceil(tolerance)) + 1
    near = binary_dilation(mask, iterations=steps) & binary_dilation(
        ~mask, iterations=steps, border_value=1
    )
    assert not (drawn ^ mask)[~near].any()


def test_a_tolerance_saves_points():
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    circle = (rows - 20) ** 2 + (columns - 30) ** 2 < 200
    (exact,), (near,) = mask_outlines(circle), mask_outlines(circle, 1)
    assert len(near) < len(exact) / 3


def test_the_smallest_masks_have_outlines():
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    assert mask_outlines(mask) == []
    mask[-1, -1] = True
    for tolerance in (0, 1, 5):
        np.testing.assert_array_equal(draw(mask_outlines(mask, tolerance)), mask)
