# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Tiles, with the ground truth in place of a network."""

import subprocess
import sys
from functools import partial

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cityscapesscripts.helpers.labels import id2label

from mmdet_efficientps.apis.tiling import (
    parse_tile,
    predict_tiles,
    tile_windows,
)
from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.evaluation.functional import (
    class_groups,
    encoded_quality_stats,
    report_quality,
)
from mmdet_efficientps.models import EfficientPSFusionHead
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.testing.toy_city import render_scene

META = CityscapesPanopticDataset.METAINFO
CLASSES, THINGS = META['classes'], len(META['thing_classes'])
VOID = len(CLASSES)
MASK, STRIDE = 28, 4


def truth_of(scene):
    """Class + 1000 * instance of every pixel of a scene, void where it has none."""
    ids = scene.instance_ids
    truth = np.full(ids.shape, VOID)
    for number, value in enumerate(np.unique(ids), start=1):
        name = id2label[int(value if value < 1000 else value // 1000)].name
        if name in CLASSES and (CLASSES.index(name) >= THINGS or value >= 1000):
            label = CLASSES.index(name)
            truth[ids == value] = label + 1000 * number * (label < THINGS)
    return truth


def as_image(truth):
    """An image of which the oracle reads the truth."""
    return np.stack([truth % 1000, truth // 1000 % 256, truth // 256000], 2).astype(
        np.uint8
    )


def oracle(images, ask=None):
    """What a network would say that sees the truth at its resolutions."""
    found = []
    for image in images:
        values = image.astype(int)
        truth = values[..., 0] + 1000 * (values[..., 1] + 256 * values[..., 2])
        if ask is not None:
            ask.append(truth.shape)
        boxes, labels, masks = [], [], []
        for value in np.unique(truth[truth >= 1000]):
            mask = truth == value
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            box = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            crop = mask[box[1] : box[3], box[0] : box[2]].astype(np.float32)
            # a network leaves out what is hardly to be seen
            if crop.sum() >= 12:
                boxes.append(box)
                labels.append(value % 1000)
                small = cv2.resize(crop, (MASK, MASK), interpolation=cv2.INTER_AREA)
                masks.append(torch.from_numpy(small * 16 - 8))
        one_hot = F.one_hot(torch.from_numpy(truth % 1000), VOID + 1)[..., :VOID]
        height, width = truth.shape
        padding = (0, -width % STRIDE, 0, -height % STRIDE)
        padded = F.pad(one_hot.permute(2, 0, 1)[None].float(), padding)
        found.append(
            FusionInputs(
                torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                torch.linspace(0.9, 0.8, len(boxes)),
                torch.tensor(labels, dtype=torch.long),
                torch.stack(masks) if masks else torch.zeros(0, MASK, MASK),
                F.avg_pool2d(padded, STRIDE)[0] * 16 - 8,
                (height / STRIDE, width / STRIDE),
                (height, width),
            )
        )
    return found


def fuse(inputs):
    head = EfficientPSFusionHead(
        THINGS, VOID - THINGS, test_cfg=dict(score_thr=0.3, min_stuff_area=64)
    )
    return head.fuse(inputs).panoptic.numpy()


def quality(pairs):
    """PQ of fused maps, in percent."""
    total = 0
    for truth, inputs in pairs:
        values = [int(value) for value in np.unique(truth) if value % 1000 < VOID]
        segments = [
            dict(id=k, category=value % 1000, iscrowd=0)
            for k, value in enumerate(values, start=1)
        ]
        ids = np.zeros(truth.shape, int)
        for segment, value in zip(segments, values, strict=True):
            ids[truth == value] = segment['id']
        stats = encoded_quality_stats(ids, segments, fuse(inputs), VOID)
        total = stats if total == 0 else total + stats
    groups = class_groups(CLASSES, META['thing_classes'], META['stuff_classes'])
    return report_quality([total], CLASSES, groups)[0]['PQ']


def stitched(seed):
    """The truth of four scenes that border on each other."""
    truths = [truth_of(render_scene((seed, k))) for k in range(4)]
    for k, truth in enumerate(truths):
        truth[truth >= 1000] += 1000 * 200 * k
    return np.block([truths[:2], truths[2:]])


def rectangles(*boxes, shape=(128, 256), label=2):
    """A truth of road with some rectangles of a class."""
    truth = np.full(shape, CLASSES.index('road'))
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        truth[y1:y2, x1:x2] = label + 1000 * number
    return truth


def tiled(truth, tile=(96, 128), overlap=0.25, **kwargs):
    return predict_tiles(as_image(truth), oracle, tile, overlap, **kwargs)


def test_an_image_of_one_tile_is_predicted_as_it_is():
    image = as_image(rectangles((10, 10, 60, 50)))
    given, said = [], oracle([image])

    def predict(images):
        given.extend(images)
        return said

    assert predict_tiles(image, predict, (256, 128)) is said[0]
    assert len(given) == 1
    assert given[0] is image


@pytest.mark.parametrize('shape', [(200, 500), (64, 333), (1000, 90), (129, 257)])
@pytest.mark.parametrize('overlap', [0, 0.2, 0.5])
def test_tiles_of_one_size_show_every_pixel(shape, overlap):
    windows = tile_windows(shape, (128, 64), overlap)
    seen = np.zeros(shape, int)
    for window in windows:
        seen[window.top : window.bottom, window.left : window.right] += 1
    assert seen.min() == 1
    sizes = {(w.bottom - w.top, w.right - w.left) for w in windows}
    assert sizes == {(min(64, shape[0]), min(128, shape[1]))}


def test_stitched_scenes_score_in_tiles_as_they_do_whole():
    truths = [stitched(seed) for seed in range(2)]
    whole = quality((t, oracle([as_image(t)])[0]) for t in truths)
    asked = []
    pairs = [
        (t, predict_tiles(as_image(t), partial(oracle, ask=asked), (512, 256)))
        for t in truths
    ]
    assert asked == [(256, 512)] * 18
    assert whole > 70
    assert quality(pairs) > whole - 1


@pytest.mark.parametrize('overlap', [0, 0.25])
@pytest.mark.parametrize(
    'box',
    [(60, 20, 200, 100), (2, 40, 254, 70), (88, 30, 104, 90), (0, 0, 256, 128)],
    ids=['two borders', 'from side to side', 'small', 'everywhere'],
)
def test_an_object_that_tiles_cut_is_one_again(overlap, box):
    truth = rectangles(box)
    inputs = tiled(truth, overlap=overlap)
    assert len(inputs.scores) == 1
    torch.testing.assert_close(inputs.bboxes[0], torch.tensor(box).float())
    result, whole = fuse(inputs), fuse(oracle([as_image(truth)])[0])
    assert (result == whole).mean() > 0.995


def test_an_object_that_two_tiles_see_whole_is_kept_as_one_saw_it():
    truth = rectangles((78, 40, 90, 60))
    (inputs, alone) = tiled(truth), oracle([as_image(truth[:, 72:168])])[0]
    assert inputs.bboxes.tolist() == [[78, 40, 90, 60]]
    assert torch.equal(inputs.mask_logits, alone.mask_logits)


@pytest.mark.parametrize('overlap', [0, 0.25])
def test_neighbours_stay_apart(overlap):
    truth = rectangles((60, 20, 140, 60), (60, 64, 140, 100))
    inputs = tiled(truth, overlap=overlap)
    assert len(inputs.scores) == 2
    whole = oracle([as_image(truth)])[0]
    assert (fuse(inputs) == fuse(whole)).mean() > 0.99


def test_classes_are_not_mixed():
    truth = rectangles((60, 20, 140, 60))
    truth[:, 96:][truth[:, 96:] >= 1000] += 1
    inputs = tiled(truth, overlap=0)
    assert sorted(inputs.labels.tolist()) == [2, 3]


def test_scores_descend_and_joined_ones_are_the_highest():
    truth = rectangles((10, 10, 30, 30), (60, 20, 200, 100), (210, 60, 240, 90))
    inputs = tiled(truth)
    assert len(inputs.scores) == 3
    assert (inputs.scores.diff() <= 0).all()
    assert inputs.scores.max() == pytest.approx(0.9)


def test_nothing_found_in_any_tile_is_a_result():
    inputs = tiled(rectangles())
    assert inputs.bboxes.shape == (0, 4)
    assert inputs.mask_logits.shape == (0, MASK, MASK)
    assert (fuse(inputs) == CLASSES.index('road')).all()


@pytest.mark.parametrize('shape', [(128, 256), (131, 257)])
@pytest.mark.parametrize('overlap', [0, 0.2])
def test_logits_of_tiles_that_agree_are_those_of_the_image(shape, overlap):
    """A plane is what it is at any resolution, but half a cell from the borders."""

    def plane(top, left, height, width, cells):
        axes = [
            start + (torch.arange(n) + 0.5) * size / n
            for start, size, n in zip((top, left), (height, width), cells, strict=True)
        ]
        return torch.stack(
            [axes[0][:, None] + 2 * axes[1], -axes[0][:, None] + axes[1]]
        )

    def predict(images):
        ((top, left),) = [image[0, 0, :2].tolist() for image in images]
        height, width = images[0].shape[:2]
        # a padded input: half of the last cells show the image
        logits = plane(top, left, height, width, (height // 4, width // 4))
        cells = F.pad(logits, (0, 8, 0, 8), value=1e4)
        empty = torch.zeros(0)
        return [
            FusionInputs(
                empty.reshape(0, 4),
                empty,
                empty.long(),
                empty.reshape(0, 28, 28),
                cells,
                (height / 4, width / 4),
                (height, width),
            )
        ]

    # every pixel tells where it is
    places = np.stack(np.indices(shape) % 256, 2).astype(np.uint8)
    image = np.concatenate([places, places[..., :1]], 2)
    inputs = predict_tiles(image, predict, (96, 64), overlap)
    assert inputs.out_shape == shape
    assert inputs.valid_shape == inputs.seg_logits.shape[1:]
    expected = plane(0, 0, *shape, inputs.seg_logits.shape[1:])
    # a tile repeats the centre of its outermost cells up to its border
    slack = 2 * 4 * 3
    assert (inputs.seg_logits - expected).abs().max() < slack
    inner = (inputs.seg_logits - expected)[:, 2:-2, 2:-2].abs()
    assert inner.median() < 1e-3


def test_the_step_between_tiles_that_disagree_is_gradual():
    """The first tile says 0 and the second 1; weights fall linearly in the overlap."""
    said = iter([0.0, 1.0])

    def predict(images):
        (inputs,) = oracle(images)
        inputs.seg_logits = torch.full_like(inputs.seg_logits, next(said))
        return [inputs]

    image = as_image(rectangles(shape=(64, 160)))
    row = predict_tiles(image, predict, (96, 64), 1 / 3).seg_logits[0, 0]
    expected = [0] * 16 + [k / 8 + 1 / 16 for k in range(8)] + [1] * 16
    torch.testing.assert_close(row, torch.tensor(expected), atol=1e-6, rtol=0)


def test_batches_and_progress():
    sizes, calls = [], []

    def predict(images):
        sizes.append(len(images))
        return oracle(images)

    image = as_image(rectangles((60, 20, 200, 100)))
    predict_tiles(
        image,
        predict,
        (96, 64),
        batch_size=5,
        progress=lambda done, of: calls.append((done, of)),
    )
    assert sizes == [5, 5, 2]
    assert calls == [(5, 12), (10, 12), (12, 12)]


def test_sizes_are_read_as_width_and_height():
    assert parse_tile('1024x512') == (1024, 512)
    for text in ('1024', '1024*512', '-1x5', 'x', '1e3x100'):
        with pytest.raises(ValueError, match='WIDTHxHEIGHT'):
            parse_tile(text)
    with pytest.raises(ValueError, match='at least 64 pixels'):
        parse_tile('1024x63')


@pytest.mark.parametrize('overlap', [-0.1, 0.9, float('nan')])
def test_overlaps_that_do_not_end_are_refused(overlap):
    with pytest.raises(ValueError, match='overlap of tiles'):
        tiled(rectangles(), overlap=overlap)


def test_predictions_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r'tile 0 has the size \(128, 256\)'):
        predict_tiles(
            as_image(rectangles()),
            lambda images: oracle([as_image(rectangles())]),
            (96, 64),
        )


LARGE = """
import resource, sys
import numpy as np, torch
from mmdet_efficientps.apis.tiling import predict_tiles
from mmdet_efficientps.models import EfficientPSFusionHead
from mmdet_efficientps.structures.fusion_inputs import FusionInputs

def predict(images):
    height, width = images[0].shape[:2]
    corners = torch.rand(100, 2) * 700
    boxes = torch.cat([corners, corners + 40 + torch.rand(100, 2) * 280], 1)
    return [FusionInputs(
        boxes, torch.rand(100).sort(descending=True).values, torch.randint(8, (100,)),
        torch.randn(100, 28, 28) + 1, torch.randn(19, height // 4, width // 4),
        (height / 4, width / 4), (height, width),
    )]

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

torch.manual_seed(0)
head = EfficientPSFusionHead(8, 11, test_cfg=dict(score_thr=0.5))
head.fuse(predict([np.zeros((64, 64, 3), np.uint8)])[0])
before = peak()
image = np.zeros((4096, 8192, 3), np.uint8)
image[:] = 1
panoptic = head.fuse(predict_tiles(image, predict)).panoptic
assert panoptic.shape == (4096, 8192)
print(peak() - before)
"""


@pytest.mark.slow
def test_a_large_image_fits_into_memory():
    """An image of 8192x4096 pixels with 19 classes, image and result included."""
    result = subprocess.run(
        [sys.executable, '-c', LARGE], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < 3e9
