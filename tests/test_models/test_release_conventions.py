# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The box arithmetic of the release variant, by numbers worked out by hand.

The rules: x1, y1, x2, y2 name the first and the last pixel of a box, so a width is
x2 - x1 + 1, in anchors, deltas, IoU, NMS, RoI features and the choice of their level.
"""

import math
from pathlib import Path

import pytest
import torch
from mmcv.ops import batched_nms
from mmdet.models.task_modules.coders import LegacyDeltaXYWHBBoxCoder
from mmdet.registry import MODELS, TASK_UTILS
from mmdet.structures import DetDataSample
from mmdet.utils import register_all_modules
from mmengine.config import Config
from mmengine.structures import InstanceData

from mmdet_efficientps.models import (
    InclusiveDeltaXYWHBBoxCoder,
    InclusiveGTBoxes,
    InclusiveRoIExtractor,
)

CONFIGS = Path(__file__).parents[2] / 'configs/efficientps'
LN2 = math.log(2)


@pytest.fixture(scope='module')
def model():
    """The release variant, without weights."""
    register_all_modules(init_default_scope=True)
    name = 'efficientps-release_effb0_16xb1-160e_cityscapes-1024x2048.py'
    return MODELS.build(Config.fromfile(CONFIGS / name).model).eval()


def test_anchors_are_those_of_the_release(model):
    anchors = model.rpn_head.prior_generator.base_anchors
    assert anchors[0].tolist() == [
        [-21, -9, 24, 12],
        [-14, -14, 17, 17],
        [-9, -21, 12, 24],
    ]
    assert len(anchors) == 4
    # 8 times the stride and a pixel less from first to last
    squares = [level[1].tolist() for level in anchors]
    assert [x2 - x1 for x1, _, x2, _ in squares] == [31, 63, 127, 255]


def test_no_deltas_give_the_box_itself():
    boxes = torch.tensor([[3.0, 5.0, 12.0, 5.0], [0.0, 0.0, 9.0, 9.0]])
    coder = InclusiveDeltaXYWHBBoxCoder()
    assert torch.equal(coder.decode(boxes, torch.zeros(2, 4)), boxes)
    # which mmdet's own legacy coder misses by half a pixel on every side
    theirs = LegacyDeltaXYWHBBoxCoder().decode(boxes, torch.zeros(2, 4))
    assert (theirs - boxes).tolist() == [[-0.5, -0.5, 0.5, 0.5]] * 2


def test_decoding_by_hand():
    # 10 x 10 pixels around 4.5; the centre moves by a tenth of the width to 5.5, the
    # width doubles to 20: 5.5 - 10 + 0.5 and 5.5 + 10 - 0.5
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    deltas = torch.tensor([[0.1, 0.0, LN2, 0.0]])
    coder = InclusiveDeltaXYWHBBoxCoder()
    expected = torch.tensor([[-4.0, 0.0, 15.0, 9.0]])
    torch.testing.assert_close(coder.decode(box, deltas), expected)
    # in an image of 13 x 8 pixels the last are 12 and 7
    clipped = coder.decode(box, deltas, max_shape=(8, 13))
    torch.testing.assert_close(clipped, torch.tensor([[0.0, 0.0, 12.0, 7.0]]))


def test_decoding_of_several_classes_uses_the_standard_deviations():
    coder = InclusiveDeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    deltas = torch.tensor([[0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 5 * LN2, 0.0]])
    expected = torch.tensor([[0.0, 0.0, 9.0, 9.0, -4.0, 0.0, 15.0, 9.0]])
    torch.testing.assert_close(coder.decode(box, deltas), expected)


def test_a_box_grows_by_at_most_1000_to_16():
    box = torch.tensor([[0.0, 0.0, 15.0, 15.0]])
    coder = InclusiveDeltaXYWHBBoxCoder()
    x1, _, x2, _ = coder.decode(box, torch.tensor([[0.0, 0.0, 50.0, 0.0]]))[0]
    assert float(x2 - x1 + 1) == pytest.approx(1000, abs=1e-3)


def test_encoding_by_hand_and_back():
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0], [4.0, 4.0, 4.0, 4.0]])
    targets = torch.tensor([[-4.0, 0.0, 15.0, 9.0], [5.0, 4.0, 6.0, 4.0]])
    coder = InclusiveDeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    deltas = coder.encode(boxes, targets)
    # a box of one pixel has the width 1, not 0
    expected = torch.tensor([[1.0, 0.0, 5 * LN2, 0.0], [15.0, 0.0, 5 * LN2, 0.0]])
    torch.testing.assert_close(deltas, expected)
    torch.testing.assert_close(coder.decode(boxes, deltas), targets)


def test_the_box_head_decodes_by_these_rules(model):
    """One RoI through softmax, decoding, score threshold and NMS."""
    scores = torch.full((2, 9), -20.0)
    scores[0, 2], scores[1, 3] = 20.0, 0.0
    scores[1, 8] = 0.5
    deltas = torch.zeros(2, 8, 4)
    deltas[0, 2] = torch.tensor([1.0, 0.0, 5 * LN2, 0.0])
    # 20 x 40 pixels around (19.5, 39.5); the second is below the threshold 0.5
    rois = torch.tensor([[0.0, 10, 20, 29, 59], [0.0, 50, 60, 59, 69]])
    (results,) = model.roi_head.bbox_head.predict_by_feat(
        rois=(rois,),
        cls_scores=(scores,),
        bbox_preds=(deltas.flatten(1),),
        batch_img_metas=[dict(img_shape=(100, 200), scale_factor=(2.0, 2.0))],
        rcnn_test_cfg=model.test_cfg.rcnn,
    )
    torch.testing.assert_close(results.bboxes, torch.tensor([[2.0, 20.0, 41.0, 59.0]]))
    assert results.labels.tolist() == [2]


def test_nms_counts_pixels(model):
    # 4 x 4 pixels each, 3 x 4 of them shared: 12 / 20. As continuous boxes 6 / 12.
    boxes = torch.tensor([[0.0, 0.0, 3.0, 3.0], [1.0, 0.0, 4.0, 3.0]])
    scores, same = torch.tensor([0.9, 0.8]), torch.zeros(2)
    nms = model.test_cfg.rcnn.nms
    assert nms.iou_threshold == 0.5
    assert len(batched_nms(boxes, scores, same, nms)[0]) == 1
    assert len(batched_nms(boxes, scores, same, dict(nms, offset=0))[0]) == 2
    # neighbours of different classes are kept apart in spite of the added pixel
    assert len(batched_nms(boxes, scores, torch.arange(2), nms)[0]) == 2
    for part in (model.test_cfg.rpn, model.train_cfg.rpn_proposal):
        assert part.nms.offset == 1


def test_the_rpn_keeps_boxes_of_one_pixel(model):
    results = InstanceData(
        bboxes=torch.tensor([[5.0, 5.0, 5.0, 5.0], [9.0, 9.0, 9.0, 20.0]]),
        scores=torch.tensor([0.9, 0.8]),
        level_ids=torch.zeros(2),
    )
    kept = model.rpn_head._bbox_post_process(results, model.test_cfg.rpn)
    assert len(kept) == 2


@pytest.mark.parametrize('stage', ['rpn', 'rcnn'])
def test_assignment_counts_pixels(model, stage):
    cfg = dict(model.train_cfg[stage].assigner, pos_iou_thr=0.6, neg_iou_thr=0.5)
    assigner = TASK_UTILS.build(dict(cfg, match_low_quality=False))
    # 12 / 20 as above, and 8 / 24 when moved by two
    priors = torch.tensor([[1.0, 0.0, 4.0, 3.0], [2.0, 0.0, 5.0, 3.0]])
    result = assigner.assign(
        InstanceData(priors=priors),
        InstanceData(
            bboxes=torch.tensor([[0.0, 0.0, 3.0, 3.0]]), labels=torch.tensor([4])
        ),
        InstanceData(bboxes=torch.tensor([[0.0, 0.0, 9.0, 9.0]])),
    )
    torch.testing.assert_close(result.max_overlaps, torch.tensor([12 / 20, 8 / 24]))
    # matched and background: what lies in a group region is not ignored
    assert result.gt_inds.tolist() == [1, 0]


def test_ground_truth_boxes_name_their_last_pixel(model):
    sample = DetDataSample()
    given = torch.tensor([[2.0, 3.0, 10.0, 4.0]])
    sample.gt_instances = InstanceData(bboxes=given)
    sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    inputs = torch.zeros(1, 3, 8, 16)
    out, samples = InclusiveGTBoxes()(inputs, [sample])
    assert out is inputs
    assert samples[0].gt_instances.bboxes.tolist() == [[2, 3, 9, 3]]
    assert samples[0].ignored_instances.bboxes.shape == (0, 4)
    assert given.tolist() == [[2, 3, 10, 4]]
    assert [type(m) for m in model.data_preprocessor.batch_augments] == [
        InclusiveGTBoxes
    ]


def roi_extractor(model):
    extractor = model.roi_head.bbox_roi_extractor
    assert type(extractor) is type(model.roi_head.mask_roi_extractor)
    assert isinstance(extractor, InclusiveRoIExtractor)
    return extractor


def test_the_level_of_a_roi_follows_from_its_pixels(model):
    # level i from 56 * 2 ** i pixels on: 112 from 0 to 111, and one less
    rois = torch.tensor(
        [[0.0, 0, 0, 111, 111], [0, 0, 0, 110, 110], [0, 1, 0, 448, 447]]
    )
    feats = [torch.full((1, 256, 128 >> i, 128 >> i), float(i)) for i in range(4)]
    features = roi_extractor(model)(feats, rois)
    assert features[:, 0, 3, 3].tolist() == [1, 0, 3]


@pytest.mark.parametrize(('part', 'size'), [('bbox', 7), ('mask', 14)])
def test_roi_features_span_all_pixels_of_a_box(model, part, size):
    # Pixels 8 to 8 + 4 * size - 1 are cells 2 to 2 + size of the finest level, one
    # for each bin. The value of a cell is its index, at which it is found (aligned
    # sampling would find it half a cell later), and a bin averages what is at 1/4
    # and 3/4 of it.
    ramp = torch.arange(32.0).expand(1, 256, 32, 32).contiguous()
    feats = [ramp, *(torch.zeros(1, 256, 32 >> i, 32 >> i) for i in (1, 2, 3))]
    last = 8 + 4 * size - 1
    rois = torch.tensor([[0.0, 8, 8, last, last]])
    extractor = getattr(model.roi_head, f'{part}_roi_extractor')
    columns = extractor(feats, rois)[0, 0]
    expected = (2.5 + torch.arange(float(size))).expand(size, size)
    torch.testing.assert_close(columns, expected)


def test_kitti_is_the_same_network_tested_at_its_own_size():
    configs = [
        Config.fromfile(CONFIGS / f'efficientps-release_effb5_16xb1-160e_{data}.py')
        for data in ('cityscapes-1024x2048', 'kitti-384x1280')
    ]
    assert configs[0].model == configs[1].model
    sizes = [
        [step.scale for step in cfg.test_pipeline if step.type == 'PanopticResize']
        for cfg in configs
    ]
    assert sizes == [[(2048, 1024)], [(1280, 384)]]
