# Licensed under the Apache License, Version 2.0. See LICENSE.
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.dataset import Compose
from PIL import Image

from mmdet_efficientps.structures import PanopticMasks
from mmdet_efficientps.structures.panoptic import id2rgb

ROOT = Path(__file__).parents[3]
VOID = 255


def run(results, *transforms, min_area=1):
    """Load, transform and pack; gives the data sample."""
    pipeline = [
        {'type': 'LoadCheckedImage'},
        {'type': 'LoadPanopticMap'},
        *transforms,
        {'type': 'PackPanopticTargets', 'min_area': min_area},
    ]
    return Compose(pipeline)(results)['data_samples']


class CropTo:
    """Crop to a fixed window, as a transform."""

    def __init__(self, x1, y1, x2, y2):
        self.window = slice(y1, y2), slice(x1, x2)

    def __call__(self, results):
        """Crop image and map."""
        for key in ('img', 'gt_seg_map'):
            results[key] = results[key][self.window]
        results['img_shape'] = results['img'].shape[:2]
        return results


def test_boxes_are_tight_and_groups_are_apart(results):
    sample = run(results)
    assert sample.gt_instances.bboxes.tensor.tolist() == [[1, 1, 6, 3]]
    assert sample.gt_instances.bboxes.tensor.dtype == torch.float32
    assert sample.gt_instances.labels.tolist() == [1]
    assert sample.gt_instances.labels.dtype == torch.int64
    assert sample.ignored_instances.bboxes.tensor.tolist() == [[0, 3, 2, 4]]
    assert sample.ignored_instances.labels.tolist() == [0]


def test_masks_are_the_pixels_of_the_segments(results, scene):
    sample = run(results)
    masks = sample.gt_instances.masks
    assert isinstance(masks, PanopticMasks)
    np.testing.assert_array_equal(masks.masks, [scene.ids == scene.car])
    np.testing.assert_array_equal(
        sample.ignored_instances.masks.masks, [scene.ids == scene.group]
    )


def test_group_is_painted_with_its_class(results):
    semantic = run(results).gt_sem_seg.sem_seg
    assert semantic.dtype == torch.uint8
    assert semantic[0].tolist() == [
        [VOID] * 6,
        [2, 1, 1, 2, 2, 2],
        [2, 1, 1, 2, 2, 1],
        [0, 0, 2, 2, VOID, VOID],
    ]


def test_instance_cut_by_the_crop_has_a_tight_box(results):
    # Without the car's lone pixel at the right, the box ends at the body.
    sample = run(results, CropTo(0, 0, 5, 2))
    assert sample.gt_instances.bboxes.tensor.tolist() == [[1, 1, 3, 2]]
    assert sample.gt_instances.masks.masks.sum() == 2
    assert len(sample.ignored_instances) == 0


def test_sliver_is_no_instance_but_stays_in_the_semantic_map(results):
    crop = CropTo(4, 0, 6, 4)
    sample = run(dict(results), crop, min_area=2)
    assert len(sample.gt_instances) == 0
    assert sample.gt_sem_seg.sem_seg[0].tolist() == [
        [VOID, VOID],
        [2, 2],
        [2, 1],
        [VOID, VOID],
    ]
    assert len(run(results, crop, min_area=1).gt_instances) == 1


def test_number_of_dropped_instances_can_be_packed(results):
    pack = {'type': 'PackPanopticTargets', 'meta_keys': ['num_dropped_instances']}
    for min_area, expected in ((5, 0), (6, 1)):
        pipeline = [
            {'type': 'LoadCheckedImage'},
            {'type': 'LoadPanopticMap'},
            pack | {'min_area': min_area},
        ]
        packed = Compose(pipeline)(dict(results))
        assert packed['data_samples'].num_dropped_instances == expected


def test_image_without_things_is_kept(results, scene):
    Image.fromarray(id2rgb(0 * scene.ids + scene.road)).save(results['seg_map_path'])
    sample = run(results)
    assert sample.gt_instances.bboxes.tensor.shape == (0, 4)
    assert sample.gt_instances.masks.masks.shape == (0, *scene.ids.shape)
    assert sample.gt_instances.labels.shape == (0,)
    assert (sample.gt_sem_seg.sem_seg == 2).all()


def test_without_ground_truth_the_image_is_packed(results):
    results['seg_map_path'] = None
    sample = run(results)
    assert sample.ori_shape == (4, 6)
    assert 'gt_sem_seg' not in sample


@pytest.mark.parametrize('direction', [None, 'horizontal', 'vertical'])
@pytest.mark.parametrize('doubled', [False, True])
def test_targets_are_those_of_mmdet(results, direction, doubled):
    pytest.importorskip(
        'panopticapi', reason='pip install --no-deps panopticapi-lite gives it'
    )
    # mmdet's data set leaves groups out of the instances.
    results['instances'] = results['instances'][1:]
    results['instances'][0]['bbox'] = [1, 1, 6, 3]
    geometry = []
    if doubled:
        geometry.append({'type': 'Resize', 'scale_factor': 2.0})
    if direction:
        geometry.append({'type': 'RandomFlip', 'prob': 1.0, 'direction': direction})
    stock = [
        {'type': 'LoadImageFromFile'},
        {'type': 'LoadPanopticAnnotations'},
        *geometry,
        {'type': 'PackDetInputs'},
    ]
    expected = Compose(stock)(dict(results))
    expected = expected['data_samples']
    sample = run(results, *geometry)
    ours, theirs = sample.gt_instances, expected.gt_instances
    assert torch.equal(ours.bboxes.tensor, theirs.bboxes.tensor)
    assert torch.equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.masks.masks, theirs.masks.masks)
    assert torch.equal(sample.gt_sem_seg.sem_seg, expected.gt_sem_seg.sem_seg)


def test_anchor_in_a_group_is_not_background_for_the_rpn(results):
    sample = run(results)
    for instances in (sample.gt_instances, sample.ignored_instances):
        instances.bboxes = instances.bboxes.tensor
    # Over the group, over nothing; both within the image.
    anchors = torch.tensor([[0.0, 2.9, 2.0, 3.9], [3.0, 0.0, 5.0, 1.0]])
    base = ROOT / 'configs' / '_base_' / 'models' / 'efficientps_effb5.py'
    config = Config.fromfile(base).model
    head = MODELS.build(config.rpn_head | {'train_cfg': config.train_cfg.rpn})

    def weights(ignored):
        targets = head.get_targets(
            [[anchors]],
            [[torch.ones(2, dtype=torch.bool)]],
            [sample.gt_instances],
            [sample.metainfo],
            batch_gt_instances_ignore=[ignored],
        )
        return targets[1][0][0].tolist()

    assert weights(sample.ignored_instances) == [0, 1]
    assert weights(sample.ignored_instances[:0]) == [1, 1]
