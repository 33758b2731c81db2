# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask

from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
    panoptic_fusion,
    semantic_argmax,
)

GOLDEN = Path(__file__).parents[2] / 'data' / 'fusion_cases.npz'
GOLDEN_CASES = (
    'low_scores',
    'no_instance',
    'outside',
    'overlap',
    'small_stuff',
    'tiny_boxes',
)


def constant_logits(values, height=16, width=16):
    """One logit per class, the same in every cell; class 0 is the only thing."""
    return torch.tensor(values)[:, None, None].repeat(1, height, width)


def solid_instances(boxes, num_cells=4, logit=8.0):
    """Detections of class 0 by falling score whose masks fill their boxes."""
    count = len(boxes)
    return {
        'bboxes': torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
        'scores': torch.linspace(0.9, 0.6, count),
        'labels': torch.zeros(count, dtype=torch.long),
        'mask_logits': torch.full((count, num_cells, num_cells), logit),
    }


def random_instances(rng, count, out_shape, num_things, num_cells=7):
    """Detections of all sizes, some partly outside the image, overlapping freely."""
    image_size = torch.tensor(out_shape[::-1])
    center = image_size * (1.2 * torch.rand(count, 2, generator=rng) - 0.1)
    half = image_size * (0.01 + 0.3 * torch.rand(count, 2, generator=rng) ** 2)
    shape = (count, num_cells, num_cells)
    return {
        'bboxes': torch.cat((center - half, center + half), 1),
        'scores': torch.rand(count, generator=rng),
        'labels': torch.randint(num_things, (count,), generator=rng),
        'mask_logits': 0.5 + torch.randn(shape, generator=rng),
    }


def dense_fusion(full_logits, instances, num_things, overlap_thr, min_stuff_area):
    """Fuse at full size by the book: every step of the method on whole images.

    Returns the panoptic map and the pixels decided by less than rounding errors.
    """
    num_classes, height, width = full_logits.shape
    boxes, masks = instances['bboxes'], instances['mask_logits'][:, None]
    pasted = _do_paste_mask(masks, boxes, height, width, skip_empty=False)[0]
    reached = _do_paste_mask(
        torch.ones_like(masks), boxes, height, width, skip_empty=False
    )[0]
    stuff = full_logits[num_things:]
    candidates, codes = list(stuff), []
    taken = torch.zeros(height, width, dtype=torch.bool)
    for i in instances['scores'].argsort(descending=True).tolist():
        if not (reached[i] > 0).any():
            continue
        mask = pasted[i] > 0
        if (mask & taken).sum() / mask.sum() > overlap_thr:
            continue
        taken |= mask
        x1, y1, x2, y2 = boxes[i].tolist()
        inside = torch.zeros(height, width, dtype=torch.bool)
        inside[
            max(int(y1 + 1), 0) : max(int(round(y2 - 1) + 1), 0),
            max(int(x1 + 1), 0) : max(int(round(x2 - 1) + 1), 0),
        ] = True
        label = int(instances['labels'][i])
        mla, mlb = 4 * pasted[i], full_logits[label] * inside
        fused = (mla.sigmoid() + mlb.sigmoid()) * (mla + mlb)
        candidates.append(fused.masked_fill(reached[i] == 0, -torch.inf))
        codes.append(label + INSTANCE_OFFSET * (len(codes) + 1))

    candidates = torch.stack(candidates)
    choice = candidates.argmax(0)
    panoptic = full_logits.argmax(0)
    panoptic[panoptic < num_things] = num_classes
    for k, code in enumerate(codes):
        panoptic[choice == len(stuff) + k] = code
    for label in range(num_things, num_classes):
        if (panoptic == label).sum() < min_stuff_area:
            panoptic[panoptic == label] = num_classes

    def is_tie(values):
        best, second = values.topk(2, 0).values
        return (best - second) < 1e-4

    return panoptic, is_tie(candidates) | is_tie(full_logits)


@pytest.mark.parametrize('case', GOLDEN_CASES)
def test_fusion_equals_release_without_its_leak(case):
    with np.load(GOLDEN) as file:
        arrays = {
            key.split('/')[1]: torch.from_numpy(file[key])
            for key in file.files
            if key.startswith(f'{case}/')
        }
    # In the file stuff comes first (0-10), then things (11-18); 255 is void.
    sem_logits = arrays['sem_logits'][0].roll(8, 0)
    labels = arrays['labels']
    own_masks = arrays['mask_logits'][torch.arange(len(labels)), labels + 1]
    panoptic = panoptic_fusion(
        sem_logits,
        arrays['boxes'],
        arrays['scores'],
        labels,
        own_masks,
        (128, 256),
        num_things=8,
    )

    category_map = torch.full((256,), 19)
    category_map[:19] = torch.arange(19).roll(-8)
    expected_ids = arrays['panoptic_expected'].long()
    expected_classes = category_map[arrays['categories_expected']][expected_ids]
    clear = ~arrays['near_tie']
    assert torch.equal(
        (panoptic % INSTANCE_OFFSET)[clear].long(), expected_classes[clear]
    )
    pairs = torch.stack((expected_ids[clear], panoptic[clear].long()), 1).unique(dim=0)
    assert len(pairs) == len(pairs[:, 0].unique()) == len(pairs[:, 1].unique())


@pytest.mark.parametrize('seed', range(8))
def test_fusion_equals_dense_computation(seed):
    rng = torch.Generator().manual_seed(seed)
    out_shape = [(37, 53), (64, 64), (41, 90), (30, 20)][seed % 4]
    cells = [(11, 14), (16, 16), (40, 31), (30, 20)][seed % 4]
    sem_logits = 3 * torch.randn(7, *cells, generator=rng)
    instances = random_instances(rng, 12, out_shape, num_things=3)
    full_logits = F.interpolate(sem_logits[None], out_shape, mode='bilinear')[0]
    expected, tie = dense_fusion(full_logits, instances, 3, 0.5, 20)

    panoptic = panoptic_fusion(
        sem_logits, **instances, out_shape=out_shape, num_things=3, min_stuff_area=20
    )

    assert len(expected[expected >= INSTANCE_OFFSET].unique()) > 3
    assert tie.float().mean() < 0.01
    assert torch.equal(panoptic[~tie].long(), expected[~tie])


def test_fusion_crops_padding():
    # 100 x 150 pixels padded to 128 x 160, at stride 4: 25 x 37.5 of 32 x 40 cells.
    rng = torch.Generator().manual_seed(0)
    image_cells = 3 * torch.randn(6, 25, 38, generator=rng)
    padded_cells = torch.full((6, 32, 40), 50.0)
    padded_cells[:, :25, :38] = image_cells
    instances = random_instances(rng, 6, (100, 150), num_things=2)
    full_logits = F.interpolate(image_cells[None], scale_factor=4, mode='bilinear')[0]
    expected, tie = dense_fusion(full_logits[:, :, :150], instances, 2, 0.5, 100)

    panoptic = panoptic_fusion(
        padded_cells,
        **instances,
        out_shape=(100, 150),
        num_things=2,
        valid_shape=(25, 37.5),
        min_stuff_area=100,
    )

    assert torch.equal(panoptic[~tie].long(), expected[~tie])


def test_fusion_does_not_leak_out_of_box_where_stuff_is_negative():
    panoptic = panoptic_fusion(
        constant_logits([-6.0, -5.0]),
        **solid_instances([[2, 2, 6, 6]]),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.full((16, 16), 1, dtype=torch.int32)
    expected[2:6, 2:6] = INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)


@pytest.mark.parametrize(
    'bad_box',
    [
        [8, 8, 8, 12],
        [8, 8, 12, 8],
        [12, 12, 8, 8],
        [float('nan'), 8, 12, 12],
        [0, 0, float('inf'), 12],
        [20, 2, 30, 6],
        [-9, -9, -3, -3],
    ],
)
def test_fusion_ignores_boxes_without_area_in_the_image(bad_box):
    panoptic = panoptic_fusion(
        constant_logits([-6.0, 5.0]),
        **solid_instances([bad_box, [2, 2, 6, 6]]),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.full((16, 16), 1, dtype=torch.int32)
    expected[2:6, 2:6] = INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)


def test_fusion_keeps_every_instance_where_no_stuff_wins():
    panoptic = panoptic_fusion(
        constant_logits([5.0, -5.0]),
        **solid_instances([[0, 0, 8, 16], [8, 0, 16, 16]]),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.full((16, 16), INSTANCE_OFFSET, dtype=torch.int32)
    expected[:, 8:] = 2 * INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)


def test_fusion_skips_instance_only_if_more_than_half_of_it_is_taken():
    # The second shares 32 of its 64 pixels with the first, the third 40 of 64 with
    # the second.
    panoptic = panoptic_fusion(
        constant_logits([0.0, 5.0], 8, 16),
        **solid_instances([[0, 0, 8, 8], [4, 0, 12, 8], [7, 0, 15, 8]], num_cells=8),
        out_shape=(8, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.full((8, 16), 1, dtype=torch.int32)
    expected[:, :8] = INSTANCE_OFFSET
    expected[:, 8:12] = 2 * INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)


@pytest.mark.parametrize(('min_stuff_area', 'left_over'), [(16, 2), (17, 3)])
def test_fusion_voids_stuff_below_minimum_area(min_stuff_area, left_over):
    sem_logits = constant_logits([-6.0, 5.0, 0.0])
    sem_logits[2, :4, :4] = 9.0
    panoptic = panoptic_fusion(
        sem_logits,
        **solid_instances([]),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=min_stuff_area,
    )
    expected = torch.full((16, 16), 1, dtype=torch.int32)
    expected[:4, :4] = left_over
    assert torch.equal(panoptic, expected)


def test_fusion_counts_stuff_area_after_instances_took_theirs():
    panoptic = panoptic_fusion(
        constant_logits([-6.0, 5.0]),
        **solid_instances([[0, 0, 16, 15]], num_cells=16),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=17,
    )
    expected = torch.full((16, 16), INSTANCE_OFFSET, dtype=torch.int32)
    expected[15] = 2
    assert torch.equal(panoptic, expected)


def test_fusion_of_things_without_detection_is_void():
    panoptic = panoptic_fusion(
        constant_logits([5.0, -5.0]),
        **solid_instances([]),
        out_shape=(20, 30),
        num_things=1,
    )
    assert torch.equal(panoptic, torch.full((20, 30), 2, dtype=torch.int32))


def test_fusion_does_not_depend_on_order_of_detections():
    rng = torch.Generator().manual_seed(5)
    sem_logits = torch.randn(7, 16, 16, generator=rng)
    instances = random_instances(rng, 10, (64, 64), num_things=3)
    shuffle = torch.randperm(10, generator=rng)
    shuffled = {key: value[shuffle] for key, value in instances.items()}
    settings = {'out_shape': (64, 64), 'num_things': 3, 'min_stuff_area': 20}
    assert torch.equal(
        panoptic_fusion(sem_logits, **instances, **settings),
        panoptic_fusion(sem_logits, **shuffled, **settings),
    )


def test_fusion_prefers_higher_score_on_equal_logits():
    instances = solid_instances([[0, 0, 8, 8], [4, 0, 12, 8]], num_cells=8)
    instances['scores'] = torch.tensor([0.6, 0.9])
    panoptic = panoptic_fusion(
        constant_logits([0.0, 5.0], 8, 16),
        **instances,
        out_shape=(8, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.tensor(4 * [2000] + 8 * [1000] + 4 * [1], dtype=torch.int32)
    assert torch.equal(panoptic, expected.expand(8, 16))


@pytest.mark.parametrize(
    ('mla', 'mlb', 'combine', 'fused'),
    [
        (4, 2, 'efficientps', 11.1769),
        (4, -2, 'efficientps', 2.2024),
        (-4, -2, 'efficientps', -0.8231),
        (4, 2, 'sum', 6),
        (4, -2, 'sum', 2),
        (-4, -2, 'sum', -6),
        (4, 2, 'product', 8),
        (4, -2, 'product', -8),
        (-4, -2, 'product', -8),
    ],
)
def test_fused_logits_of_each_combination_are_compared_with_stuff(
    mla, mlb, combine, fused
):
    # The box is so large that mask and crop are constant all over the image.
    instance = solid_instances([[-20, -20, 40, 40]], logit=mla / 4)
    for margin, winner in ((-1e-3, INSTANCE_OFFSET), (1e-3, 1)):
        panoptic = panoptic_fusion(
            constant_logits([float(mlb), fused + margin]),
            **instance,
            out_shape=(16, 16),
            num_things=1,
            min_stuff_area=1,
            combine=combine,
        )
        # void where semantics would have it a thing
        expected = winner if winner > 1 or fused + margin > mlb else 2
        assert (panoptic == expected).all()


def test_fusion_needs_stuff():
    with pytest.raises(ValueError, match='at least one stuff class'):
        panoptic_fusion(
            constant_logits([1.0]),
            **solid_instances([]),
            out_shape=(16, 16),
            num_things=1,
        )


@pytest.mark.parametrize('out_shape', [(37, 53), (22, 28), (9, 12)])
def test_semantic_argmax_equals_argmax_of_resized_logits(out_shape):
    rng = torch.Generator().manual_seed(0)
    sem_logits = torch.randn(5, 11, 14, generator=rng)
    full_logits = F.interpolate(sem_logits[None], out_shape, mode='bilinear')[0]
    best, second = full_logits.topk(2, 0).values
    clear = best - second > 1e-4
    classes = semantic_argmax(sem_logits, out_shape)
    assert clear.float().mean() > 0.99
    assert torch.equal(classes[clear].long(), full_logits.argmax(0)[clear])


def test_semantic_argmax_crops_padding():
    sem_logits = torch.zeros(2, 4, 4)
    sem_logits[0, :3, :2] = 1
    sem_logits[1, :, 2:] = 9
    sem_logits[1, 3:] = 9
    classes = semantic_argmax(sem_logits, (12, 8), valid_shape=(3, 2))
    assert torch.equal(classes, torch.zeros(12, 8, dtype=torch.int32))
