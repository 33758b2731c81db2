# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
import torch
from pycocotools import mask as mask_api

from mmdet_efficientps.structures.run_length_masks import (
    crop_to_rle,
    masks_to_rle,
    rle_intersections,
    segments_to_rle,
)


def encode(mask):
    return mask_api.encode(np.asfortranarray(mask, dtype=np.uint8))


@pytest.mark.parametrize('seed', range(20))
def test_masks_of_segments_are_those_of_pycocotools(seed):
    rng = np.random.default_rng(seed)
    index = rng.integers(0, rng.integers(1, 5), rng.integers(1, 9, 2))
    rles = segments_to_rle(index, range(6))
    assert rles == [encode(index == number) for number in range(6)]


@pytest.mark.parametrize('share', [0, 0.5, 0.9, 1])
@pytest.mark.parametrize('seed', range(10))
def test_mask_of_a_crop_is_that_of_the_whole_mask(seed, share):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(1, 9, 2)
    # every third crop is as high as the image, so that runs go over columns
    rows = height if seed % 3 == 0 else rng.integers(1, height + 1)
    columns = rng.integers(1, width + 1)
    top, left = rng.integers(0, height - rows + 1), rng.integers(0, width - columns + 1)
    whole = np.zeros((height, width), bool)
    crop = rng.random((rows, columns)) < share
    whole[top : top + rows, left : left + columns] = crop
    assert crop_to_rle(crop, top, left, whole.shape) == encode(whole)


def test_intersections_are_counted_in_pixels():
    rng = np.random.default_rng(0)
    masks, others = rng.random((7, 20, 31)) < 0.3, rng.random((5, 20, 31)) < 0.4
    masks[0] = False
    shared = rle_intersections([encode(m) for m in masks], [encode(m) for m in others])
    assert shared.tolist() == [[int((a & b).sum()) for b in others] for a in masks]
    assert rle_intersections([], [encode(others[0])]).shape == (0, 1)


def test_bitmaps_are_encoded_and_run_length_masks_stay():
    masks = torch.rand(3, 6, 5) < 0.5
    rles = [encode(mask) for mask in masks.numpy()]
    assert masks_to_rle(masks) == rles
    assert masks_to_rle(rles) == rles
