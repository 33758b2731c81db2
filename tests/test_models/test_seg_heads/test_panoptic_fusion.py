# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmdet.evaluation.functional import INSTANCE_OFFSET

from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
    COMBINATIONS,
    panoptic_fusion,
    semantic_argmax,
)

NAN, INF = float('nan'), float('inf')
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


def paste(mask, box, shape):
    """Lay a mask into its box, zeros around it; x1, y1, x2, y2 in pixels."""
    y, x = (
        2 * (torch.arange(size) + 0.5 - low) / (high - low) - 1
        for size, low, high in zip(
            shape, (box[1], box[0]), (box[3], box[2]), strict=True
        )
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing='xy'), 2)
    return F.grid_sample(mask[None, None], grid[None], align_corners=False)[0, 0]


def reference_fusion(
    sem, bboxes, scores, labels, mask_logits, num_things, min_stuff_area, combine
):
    """Fuse as in section 3.4 of the paper, every step on whole images.

    ``sem`` are the semantic logits at image size. Returns the panoptic map and the
    pixels decided by less than rounding errors.
    """
    void, *shape = sem.shape
    stuff = sem[num_things:]
    taken = torch.zeros(shape, dtype=torch.bool)
    candidates, names = list(stuff), list(range(num_things, void))
    for i in scores.argsort(descending=True).tolist():
        # A mask that is empty, or mostly taken by surer ones, is left out.
        mla = paste(mask_logits[i], bboxes[i], shape)
        mask = mla > 0
        if not mask.any() or (mask & taken).sum() / mask.sum() > 0.5:
            continue
        taken |= mask
        # MLA: mask logits; MLB: semantic logits of its class, cropped to its box.
        mla = 4 * mla
        x1, y1, x2, y2 = bboxes[i].tolist()
        rows = slice(max(int(y1 + 1), 0), max(round(y2 - 1) + 1, 0))
        columns = slice(max(int(x1 + 1), 0), max(round(x2 - 1) + 1, 0))
        mlb = torch.zeros(shape)
        mlb[rows, columns] = sem[labels[i], rows, columns]
        fused = {
            'efficientps': (mla.sigmoid() + mlb.sigmoid()) * (mla + mlb),
            'sum': mla + mlb,
            'product': (mla * mlb).abs() * torch.where((mla > 0) & (mlb > 0), 1, -1),
        }[combine]
        reached = paste(torch.ones_like(mask_logits[i]), bboxes[i], shape) > 0
        candidates.append(fused.where(reached, -torch.inf))
        names.append(labels[i] + INSTANCE_OFFSET * (len(names) - len(stuff) + 1))

    # An instance has the pixels that it wins; elsewhere the semantic class counts.
    winner = torch.tensor(names)[torch.stack(candidates).argmax(0)]
    semantic = sem.argmax(0)
    panoptic = semantic.where(semantic >= num_things, void)
    panoptic = winner.where(winner >= INSTANCE_OFFSET, panoptic)
    for label in range(num_things, void):
        if (panoptic == label).sum() < min_stuff_area:
            panoptic[panoptic == label] = void
    margins = [v.topk(2, 0).values for v in (torch.stack(candidates), sem)]
    return panoptic, sum(best - second < 1e-4 for best, second in margins) > 0


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


@pytest.mark.parametrize('combine', ['efficientps', 'sum', 'product'])
@pytest.mark.parametrize('seed', range(8))
def test_fusion_equals_the_reference_on_random_scenes(seed, combine):
    rng = torch.Generator().manual_seed(seed)
    out_shape = [(37, 53), (64, 64), (41, 90), (30, 20)][seed % 4]
    cells = [(11, 14), (16, 16), (40, 31), (30, 20)][seed % 4]
    sem_logits = 3 * torch.randn(7, *cells, generator=rng)
    instances = random_instances(rng, 12, out_shape, num_things=3)
    # two of them without a positive logit
    instances['mask_logits'][:2] = -instances['mask_logits'][:2].abs()
    settings = dict(num_things=3, min_stuff_area=20, combine=combine)
    full_logits = F.interpolate(sem_logits[None], out_shape, mode='bilinear')[0]
    expected, tie = reference_fusion(full_logits, **instances, **settings)

    panoptic = panoptic_fusion(sem_logits, **instances, out_shape=out_shape, **settings)

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
    settings = dict(num_things=2, min_stuff_area=100, combine='efficientps')
    full_logits = F.interpolate(image_cells[None], scale_factor=4, mode='bilinear')[0]
    expected, tie = reference_fusion(full_logits[:, :, :150], **instances, **settings)

    panoptic = panoptic_fusion(
        padded_cells,
        **instances,
        out_shape=(100, 150),
        valid_shape=(25, 37.5),
        **settings,
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


# MLA, MLB, how they are combined, fused logits
COMBINED = [
    (4, 2, 'efficientps', 11.1769),
    (4, -2, 'efficientps', 2.2024),
    (-4, -2, 'efficientps', -0.8231),
    (4, 2, 'sum', 6),
    (4, -2, 'sum', 2),
    (-4, -2, 'sum', -6),
    (4, 2, 'product', 8),
    (4, -2, 'product', -8),
    (-4, -2, 'product', -8),
]


@pytest.mark.parametrize(('mla', 'mlb', 'combine', 'fused'), COMBINED)
def test_each_combination_of_two_logits(mla, mlb, combine, fused):
    combined = COMBINATIONS[combine](torch.tensor(1.0 * mla), torch.tensor(1.0 * mlb))
    assert combined.item() == pytest.approx(fused, abs=1e-4)


@pytest.mark.parametrize(
    ('mla', 'mlb', 'combine', 'fused'), [row for row in COMBINED if row[0] > 0]
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


def two_boxes(**other):
    """One healthy instance at the left of 16 x 16 pixels of stuff, one at the right."""
    instances = solid_instances([[2, 2, 6, 6], [10, 2, 14, 6]])
    for field, (where, value) in other.items():
        instances[field][where] = value
    return panoptic_fusion(
        constant_logits([-6.0, 5.0]),
        **instances,
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )


def boxes_map(left, right):
    expected = torch.full((16, 16), 1, dtype=torch.int32)
    expected[2:6, 2:6], expected[2:6, 10:14] = left, right
    return expected


@pytest.mark.parametrize(
    'broken',
    [
        dict(mask_logits=((0, 1, 1), NAN)),
        dict(mask_logits=(0, NAN)),
        dict(scores=(0, NAN)),
        dict(scores=(0, INF)),
        dict(bboxes=((0, 2), NAN)),
        # nowhere positive
        dict(mask_logits=(0, -1.0)),
        dict(mask_logits=(0, 0.0)),
        dict(mask_logits=(0, -INF)),
    ],
)
def test_a_broken_instance_is_left_out_and_the_others_stay(broken):
    assert torch.equal(two_boxes(**broken), boxes_map(1, INSTANCE_OFFSET))


def test_an_instance_with_nan_does_not_take_the_place_of_a_healthy_one_it_covers():
    instances = solid_instances([[2, 2, 6, 6], [2, 2, 6, 6]])
    instances['mask_logits'][0, 3, 3] = NAN
    panoptic = panoptic_fusion(
        constant_logits([-6.0, 5.0]),
        **instances,
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    assert torch.equal(panoptic, boxes_map(INSTANCE_OFFSET, 1))


def test_an_infinite_mask_logit_is_a_sure_one():
    sure = two_boxes(mask_logits=(0, INF))
    assert torch.equal(sure, boxes_map(INSTANCE_OFFSET, 2 * INSTANCE_OFFSET))
    # surely not in the upper half of its box: rows 2 and 3 are left to the stuff
    half = two_boxes(mask_logits=((0, slice(0, 2)), -INF))
    expected = boxes_map(INSTANCE_OFFSET, 2 * INSTANCE_OFFSET)
    expected[2:4, 2:6] = 1
    assert torch.equal(half, expected)


def test_a_mask_that_is_nowhere_positive_wins_nothing_even_where_semantics_agree():
    # Semantic logits of 20 against stuff of 5: the fused logits would be 17.5.
    instances = solid_instances([[2, 2, 6, 6]], logit=-0.5)
    panoptic = panoptic_fusion(
        constant_logits([20.0, 5.0]),
        **instances,
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    assert (panoptic == 2).all()


@pytest.mark.parametrize('value', [NAN, -INF])
def test_a_semantic_logit_that_is_no_number_wins_nothing(value):
    # Class 2 would win everywhere; in the left half its logits are broken.
    sem_logits = constant_logits([-6.0, 1.0, 5.0])
    sem_logits[2, :, :8] = value
    panoptic = panoptic_fusion(
        sem_logits,
        **solid_instances([[2, 2, 6, 6]]),
        out_shape=(16, 16),
        num_things=1,
        min_stuff_area=1,
    )
    expected = torch.full((16, 16), 2, dtype=torch.int32)
    expected[:, :8] = 1
    expected[2:6, 2:6] = INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)
    classes = semantic_argmax(sem_logits, (16, 16))
    assert torch.equal(classes, expected.where(expected < INSTANCE_OFFSET, 1))


def test_an_infinite_semantic_logit_wins():
    sem_logits = constant_logits([-6.0, 5.0, 1.0])
    sem_logits[2, :, :8] = INF
    classes = semantic_argmax(sem_logits, (16, 16))
    assert (classes[:, :8] == 2).all()
    assert (classes[:, 8:] == 1).all()


def test_mask_logits_scale_is_the_factor_of_mla():
    # MLA = scale * 1, MLB = 0: at 1 the fused logits are (0.7311 + 0.5) * 1 = 1.2311
    instance = solid_instances([[-20, -20, 40, 40]], logit=1.0)
    for stuff, winner in ((1.23, INSTANCE_OFFSET), (1.24, 1)):
        panoptic = panoptic_fusion(
            constant_logits([0.0, stuff]),
            **instance,
            out_shape=(16, 16),
            num_things=1,
            min_stuff_area=1,
            mask_logits_scale=1.0,
        )
        assert (panoptic == winner).all()


def test_without_stuff_classes_the_rest_is_void():
    panoptic = panoptic_fusion(
        constant_logits([5.0]),
        **solid_instances([[2, 2, 6, 6]]),
        out_shape=(16, 16),
        num_things=1,
    )
    expected = torch.full((16, 16), 1, dtype=torch.int32)
    expected[2:6, 2:6] = INSTANCE_OFFSET
    assert torch.equal(panoptic, expected)


@pytest.mark.parametrize('label', [-1, 1, 7])
def test_a_label_that_is_no_thing_is_refused(label):
    instances = solid_instances([[2, 2, 6, 6]])
    instances['labels'][:] = label
    with pytest.raises(ValueError, match=f'class {label}, but there are 1 thing'):
        panoptic_fusion(
            constant_logits([0.0, 1.0]), **instances, out_shape=(16, 16), num_things=1
        )


def test_fewer_channels_than_things_are_refused():
    with pytest.raises(ValueError, match='1 channels, but there are 2 thing classes'):
        panoptic_fusion(
            constant_logits([1.0]),
            **solid_instances([]),
            out_shape=(16, 16),
            num_things=2,
        )


@pytest.mark.parametrize('out_shape', [(1, 1), (12, 512), (300, 1)])
def test_an_image_may_be_a_strip(out_shape):
    height, width = out_shape
    panoptic = panoptic_fusion(
        constant_logits([-6.0, 5.0], 75, 128),
        **solid_instances([[0, 0, width, height]], num_cells=28),
        out_shape=out_shape,
        num_things=1,
        valid_shape=(height / 4, width / 4),
        min_stuff_area=1,
    )
    assert torch.equal(
        panoptic, torch.full(out_shape, INSTANCE_OFFSET, dtype=torch.int32)
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
