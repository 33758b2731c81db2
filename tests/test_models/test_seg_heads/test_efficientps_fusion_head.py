# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
    fusion_inputs,
    valid_logits_shape,
)

# Two things, then two stuff classes; an image of 16 x 24 pixels in a batch of 32 x 32
# at stride 4: 4 x 6 of 8 x 8 cells.
META = {
    'batch_input_shape': (32, 32),
    'img_shape': (16, 24),
    'ori_shape': (32, 48),
}
VOID = 4


def build_head(combine='efficientps', **test_cfg):
    return MODELS.build(
        {
            'type': 'EfficientPSFusionHead',
            'num_things_classes': 2,
            'num_stuff_classes': 2,
            'test_cfg': {'min_stuff_area': 1, **test_cfg},
            'combine': combine,
        }
    )


def detections(boxes, scores):
    return InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.ones(len(boxes), dtype=torch.long),
        mask_logits=torch.full((len(boxes), 8, 8), 8.0),
    )


def stuff_logits():
    """Stuff class 2 in the image, the other thing class all over the padding."""
    logits = torch.full((4, 8, 8), -5.0)
    logits[0] = 50
    logits[0, :4, :6] = -5
    logits[2, :4, :6] = 5
    return logits


def test_head_gives_map_of_original_size_if_rescaled():
    (panoptic,) = build_head().predict(
        [detections([[4, 8, 12, 16]], [0.9])], [stuff_logits()], [META]
    )
    expected = torch.full((1, 32, 48), 2, dtype=torch.int32)
    expected[0, 8:16, 4:12] = 1001
    assert torch.equal(panoptic.sem_seg, expected)


def test_head_gives_map_of_input_size_if_not_rescaled():
    (panoptic,) = build_head().predict(
        [detections([[4, 8, 12, 16]], [0.9])], [stuff_logits()], [META], rescale=False
    )
    expected = torch.full((1, 16, 24), 2, dtype=torch.int32)
    expected[0, 8:16, 4:12] = 1001
    assert torch.equal(panoptic.sem_seg, expected)


def test_head_fuses_each_image_with_its_own_shape():
    other = {**META, 'ori_shape': (10, 15)}
    panoptics = build_head().predict(
        [detections([], []), detections([[0, 0, 15, 10]], [0.9])],
        [stuff_logits(), stuff_logits()],
        [META, other],
    )
    assert torch.equal(
        panoptics[0].sem_seg, torch.full((1, 32, 48), 2, dtype=torch.int32)
    )
    assert torch.equal(
        panoptics[1].sem_seg, torch.full((1, 10, 15), 1001, dtype=torch.int32)
    )


def test_head_leaves_out_detections_below_score_threshold():
    boxes = [[4, 8, 12, 16], [20, 8, 28, 16]]
    head = build_head(score_thr=0.6, with_instances=True)
    (panoptic,) = head.predict(
        [detections(boxes, [0.59, 0.61])], [stuff_logits()], [META]
    )
    expected = torch.full((1, 32, 48), 2, dtype=torch.int32)
    expected[0, 8:16, 20:28] = 1001
    assert torch.equal(panoptic.sem_seg, expected)


def test_head_passes_its_thresholds_on():
    # Half of the second detection is taken by the first; class 2 keeps 1472 pixels.
    boxes = [[0, 0, 8, 8], [4, 0, 12, 8]]
    head = build_head(overlap_thr=0.4, min_stuff_area=1473)
    (panoptic,) = head.predict(
        [detections(boxes, [0.9, 0.8])], [stuff_logits()], [META]
    )
    expected = torch.full((1, 32, 48), VOID, dtype=torch.int32)
    expected[0, :8, :8] = 1001
    assert torch.equal(panoptic.sem_seg, expected)


def test_head_passes_the_scale_of_mask_logits_on():
    # MLA = scale * 1, MLB = 0: the fused logits are 1.2 at 1 and 5.9 at 4, the default
    logits = torch.zeros(4, 8, 8)
    logits[2] = 3
    instance = detections([[-60, -60, 100, 100]], [0.9])
    instance.mask_logits[:] = 1
    for scale, winner in (({}, 1001), ({'mask_logits_scale': 1.0}, 2)):
        (panoptic,) = build_head(**scale).predict([instance], [logits], [META])
        assert (panoptic.sem_seg == winner).all()


def test_head_passes_its_combination_on():
    # MLA = 4, MLB = 2: their sum is 6, the fused logits of the paper are 11.2
    logits = torch.zeros(4, 8, 8)
    logits[1] = 2
    logits[2] = 8
    instance = detections([[-60, -60, 100, 100]], [0.9])
    instance.mask_logits[:] = 1
    classes = {}
    for combine in ('efficientps', 'sum'):
        head = build_head(combine=combine)
        (panoptic,) = head.predict([instance], [logits], [META])
        classes[combine] = panoptic.sem_seg.unique().tolist()
    assert classes == {'efficientps': [1001], 'sum': [2]}


def test_unknown_combination_names_the_field():
    with pytest.raises(ValueError, match="fusion_head.combine is 'max'.*'sum'"):
        build_head(combine='max')


def test_head_names_settings_if_number_of_classes_differs():
    with pytest.raises(ValueError, match='num_stuff_classes=2.*semantic_head'):
        build_head().predict([detections([], [])], [torch.zeros(5, 8, 8)], [META])


def test_head_names_settings_if_a_detection_is_of_no_thing_class():
    instance = detections([[4, 8, 12, 16]], [0.9])
    instance.labels[:] = 2
    with pytest.raises(ValueError, match='class 2, .* roi_head.bbox_head'):
        build_head().predict([instance], [stuff_logits()], [META])


def test_valid_logits_shape_is_the_share_of_the_image_in_the_batch():
    meta = {'img_shape': (100, 150), 'batch_input_shape': (128, 160)}
    assert valid_logits_shape(torch.zeros(4, 32, 40), meta) == (25, 37.5)


def test_head_has_no_loss():
    assert build_head().loss() == {}


def test_fusing_again_with_other_thresholds_needs_the_inputs_alone():
    head = build_head(score_thr=0.5)
    found = detections([[0, 0, 8, 8], [16, 0, 24, 8], [0, 16, 8, 24]], [0.3, 0.9, 0.6])
    inputs = fusion_inputs(found, stuff_logits(), META)

    confident = head.fuse(inputs)
    assert confident.detections == [1, 2]
    assert confident.panoptic[4, 20] == 1001
    assert confident.panoptic[20, 4] == 2001
    assert confident.panoptic[4, 4] == 2

    everything = head.fuse(inputs, score_thr=0.2)
    assert everything.detections == [1, 2, 0]
    assert everything.panoptic[4, 4] == 3001
    assert (head.fuse(inputs, min_stuff_area=32 * 48).panoptic == VOID).any()


def test_an_unknown_setting_of_the_fusion_is_named():
    inputs = fusion_inputs(detections([], []), stuff_logits(), META)
    with pytest.raises(TypeError, match="no setting 'score_thresh'"):
        build_head().fuse(inputs, score_thresh=0.2)
