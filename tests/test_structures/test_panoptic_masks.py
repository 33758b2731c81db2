# Licensed under the Apache License, Version 2.0. See LICENSE.
import pickle

import numpy as np
import pytest
import torch
from mmdet.structures.mask import BitmapMasks, mask_target
from mmengine.config import ConfigDict
from mmengine.structures import InstanceData

from mmdet_efficientps.structures import PanopticMasks

HEIGHT, WIDTH = 24, 40


@pytest.fixture(params=[np.uint8, np.uint16])
def pair(request):
    """The same masks as a map and as bitmaps: blobs, some at the borders."""
    rng = np.random.default_rng(0)
    index_map = np.kron(rng.integers(0, 9, (6, 8)), np.ones((4, 5)))
    index_map = index_map.astype(request.param)
    numbers = np.array([1, 3, 4, 7, 8])
    bitmaps = np.stack([index_map == number for number in numbers]).astype(np.uint8)
    bitmaps = BitmapMasks(bitmaps, HEIGHT, WIDTH)
    boxes = bitmaps.get_bboxes('hbox').tensor.numpy().astype(int)
    return PanopticMasks(index_map, numbers, boxes), bitmaps


def random_boxes(masks, count):
    """Boxes that miss those of the masks by some pixels, as proposals do."""
    rng = np.random.default_rng(1)
    inds = rng.integers(0, len(masks), count)
    corners = masks.boxes[inds].reshape(-1, 2, 2) + rng.uniform(-9, 9, (count, 2, 2))
    boxes = np.concatenate((corners.min(1), corners.max(1)), axis=1)
    return boxes.astype(np.float32), inds


def test_bitmaps_are_those_it_was_made_of(pair):
    masks, bitmaps = pair
    np.testing.assert_array_equal(masks.to_ndarray(), bitmaps.masks)
    np.testing.assert_array_equal(list(masks), bitmaps.masks)
    assert masks.masks.dtype == np.uint8
    assert torch.equal(
        masks.to_tensor(torch.bool, 'cpu'), bitmaps.to_tensor(torch.bool, 'cpu')
    )
    assert masks.areas.tolist() == bitmaps.areas.tolist()


def test_soft_targets_are_those_of_bitmaps(pair):
    masks, bitmaps = pair
    boxes, inds = random_boxes(masks, 300)
    arguments = boxes, (7, 5), inds
    targets = masks.crop_and_resize(*arguments, binarize=False).masks
    expected = bitmaps.crop_and_resize(*arguments, binarize=False).masks
    assert targets.dtype == expected.dtype
    assert 0.1 < expected.mean() < 0.5
    # Coordinates are counted from the window, so they round differently.
    np.testing.assert_allclose(targets, expected, atol=1e-5)


def test_targets_of_the_mask_head_are_those_of_bitmaps(pair):
    masks, bitmaps = pair
    boxes, inds = map(torch.from_numpy, random_boxes(masks, 300))
    config = ConfigDict(mask_size=14)
    targets = mask_target([boxes], [inds], [masks], config)
    expected = mask_target([boxes], [inds], [bitmaps], config)
    assert targets.shape == (300, 14, 14)
    # A pixel half covered is rounded by the last bit of its coordinates.
    soft_config = ConfigDict(mask_size=14, soft_mask_target=True)
    soft = mask_target([boxes], [inds], [bitmaps], soft_config)
    is_tie = (soft - 0.5).abs() < 1e-5
    assert is_tie.float().mean() < 0.01
    np.testing.assert_array_equal(targets[~is_tie], expected[~is_tie])


@pytest.mark.parametrize('inds', [[], [2, 2, 0]])
def test_tight_boxes_fill_their_targets_in_the_order_asked_for(pair, inds):
    masks, bitmaps = pair
    inds = np.array(inds, dtype=int)
    boxes = masks.boxes[inds].astype(np.float32)
    targets = masks.crop_and_resize(boxes, (4, 4), inds)
    expected = bitmaps.crop_and_resize(boxes, (4, 4), inds)
    np.testing.assert_array_equal(targets.masks, expected.masks)


@pytest.mark.parametrize(
    'index', [2, slice(1, 4), np.array([3, 0]), np.zeros(5, dtype=bool)]
)
def test_selection_shares_the_map(pair, index):
    masks, bitmaps = pair
    selected = masks[index]
    assert selected.index_map is masks.index_map
    np.testing.assert_array_equal(selected.masks, bitmaps[index].masks)


@pytest.mark.parametrize('value', [0, 1])
def test_padding_is_that_of_bitmaps(pair, value):
    masks, bitmaps = pair
    padded = masks.pad((32, 64), value)
    assert isinstance(padded, PanopticMasks) is (value == 0)
    assert (padded.height, padded.width) == (32, 64)
    np.testing.assert_array_equal(padded.masks, bitmaps.pad((32, 64), value).masks)


@pytest.mark.parametrize(
    ('method', 'arguments'),
    [
        ('flip', ()),
        ('resize', ((30, 30),)),
        ('rescale', (2.0,)),
        ('crop', (np.array([3, 2, 20, 17]),)),
        ('expand', (40, 60, 5, 6)),
        ('translate', ((HEIGHT, WIDTH), 5)),
        ('rotate', ((HEIGHT, WIDTH), 30)),
    ],
)
def test_other_geometry_is_that_of_bitmaps(pair, method, arguments):
    masks, bitmaps = pair
    result = getattr(masks, method)(*arguments)
    expected = getattr(bitmaps, method)(*arguments)
    np.testing.assert_array_equal(result.masks, expected.masks)


def test_masks_of_several_images_join_as_bitmaps(pair):
    masks, bitmaps = pair
    joined = masks.cat([masks, bitmaps])
    assert len(joined) == 10
    np.testing.assert_array_equal(joined.masks[:5], joined.masks[5:])


def test_instance_data_selects_masks_with_their_labels(pair):
    masks, bitmaps = pair
    instances = InstanceData(labels=torch.arange(5), masks=masks)
    selected = instances[torch.tensor([4, 1])]
    assert selected.labels.tolist() == [4, 1]
    np.testing.assert_array_equal(selected.masks.masks, bitmaps.masks[[4, 1]])


def test_pickled_it_takes_the_room_of_the_map(pair):
    masks, _ = pair
    content = pickle.dumps(masks)
    assert len(content) < masks.index_map.nbytes + 2000
    np.testing.assert_array_equal(pickle.loads(content).masks, masks.masks)


def test_no_instances_make_no_masks():
    none = np.zeros((0,), int)
    masks = PanopticMasks(np.zeros((4, 6), np.uint8), none, none.reshape(0, 4))
    assert masks.masks.shape == (0, 4, 6)
    assert len(masks.pad((8, 8))) == 0
    targets = masks.crop_and_resize(np.zeros((0, 4), np.float32), (7, 7), none)
    assert targets.masks.shape == (0, 7, 7)
