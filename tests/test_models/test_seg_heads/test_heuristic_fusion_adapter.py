# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.structures import InstanceData

# Two things, then two stuff classes; an image of 16 x 24 pixels in a batch of 32 x 32
# at stride 4: 4 x 6 of 8 x 8 cells.
META = {
    'batch_input_shape': (32, 32),
    'img_shape': (16, 24),
    'ori_shape': (16, 24),
}
VOID = 4


def fuse(sem_logits, boxes, scores, labels, spoil=None, **test_cfg):
    head = MODELS.build(
        {
            'type': 'HeuristicFusionAdapter',
            'num_things_classes': 2,
            'num_stuff_classes': 2,
            'test_cfg': {'min_stuff_area': 1, **test_cfg},
        }
    )
    instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.long),
        mask_logits=torch.full((len(boxes), 8, 8), 8.0),
    )
    if spoil is not None:
        spoil(instances)
    (panoptic,) = head.predict([instances], [sem_logits], [META])
    assert panoptic.sem_seg.dtype == torch.int32
    return panoptic.sem_seg[0]


def logits_of(classes):
    """Logits of a class map (8, 8) of cells."""
    return 10.0 * (torch.as_tensor(classes) == torch.arange(4)[:, None, None])


def test_masks_are_laid_by_score_whatever_the_semantics():
    # Stuff class 3 is certain everywhere: EfficientPS's fusion would void both masks.
    semantic = 1000 * logits_of(torch.full((8, 8), 3))
    panoptic = fuse(semantic, [[0, 0, 8, 16], [6, 0, 16, 16]], [0.7, 0.9], [0, 1])
    expected = torch.full((16, 24), 3, dtype=torch.int32)
    expected[:, :6] = 2000
    expected[:, 6:16] = 1001
    assert torch.equal(panoptic, expected)


def test_things_of_the_semantic_map_without_a_mask_are_void():
    semantic = torch.full((8, 8), 2)
    semantic[:, 3:] = 1
    panoptic = fuse(logits_of(semantic), [], [], [])
    # The border of the classes is at 12 pixels; padding, of class 1 too, is cropped.
    expected = torch.full((16, 24), 2, dtype=torch.int32)
    expected[:, 12:] = VOID
    assert torch.equal(panoptic, expected)


def test_thresholds_are_those_of_efficientps():
    semantic = logits_of(torch.full((8, 8), 3))
    boxes, labels = [[0, 0, 8, 16], [4, 0, 12, 16], [16, 0, 24, 16]], [0, 0, 1]
    # Half of the second is taken by the first; the third is below the threshold;
    # 16 x 16 pixels of stuff are left.
    panoptic = fuse(
        semantic,
        boxes,
        [0.9, 0.8, 0.4],
        labels,
        overlap_thr=0.4,
        min_stuff_area=16 * 16 + 1,
    )
    expected = torch.full((16, 24), VOID, dtype=torch.int32)
    expected[:, :8] = 1000
    assert torch.equal(panoptic, expected)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('mask_logits', float('nan')),
        ('mask_logits', -1.0),
        ('scores', float('nan')),
        ('bboxes', float('nan')),
    ],
)
def test_a_broken_detection_leaves_the_others_alone(field, value):
    def spoil(instances):
        instances[field][0] = value

    semantic = logits_of(torch.full((8, 8), 3))
    boxes = [[0, 0, 12, 16], [4, 0, 16, 16]]
    panoptic = fuse(semantic, boxes, [0.9, 0.8], [0, 1], spoil)
    expected = torch.full((16, 24), 3, dtype=torch.int32)
    expected[:, 4:16] = 1001
    assert torch.equal(panoptic, expected)


def test_a_label_that_is_no_thing_is_refused():
    with pytest.raises(ValueError, match='class 2, but there are 2 thing'):
        fuse(logits_of(torch.full((8, 8), 3)), [[0, 0, 8, 16]], [0.9], [2])
