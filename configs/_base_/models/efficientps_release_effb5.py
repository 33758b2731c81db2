# The network the authors released, for their published checkpoints: plain output convs
# in the neck, its input normalisation, and boxes by the rules of mmdet 1.x, where x2
# and y2 name the last pixel of a box.
_base_ = './efficientps_effb5.py'

roi_extractor = dict(type='InclusiveRoIExtractor', roi_layer=dict(aligned=False))
bbox_coder = dict(type='InclusiveDeltaXYWHBBoxCoder')
# IoU of inclusive boxes. It knows no IoF, by which the other configs ignore what lies
# in a crowd region; the release counts that as background, too.
assigner = dict(ignore_iof_thr=-1, iou_calculator=dict(type='BboxOverlaps2D_GLIP'))
# A box with x1 = x2 is one pixel wide: there are none without area to drop.
proposals = dict(nms=dict(offset=1), min_bbox_size=-1)

model = dict(
    data_preprocessor=dict(
        mean=[106.433, 116.617, 119.559],
        std=[65.496, 67.6, 74.123],
        batch_augments=[dict(type='InclusiveGTBoxes')],
    ),
    neck=dict(separable_output_convs=False),
    rpn_head=dict(
        anchor_generator=dict(type='LegacyAnchorGenerator', center_offset=0.5),
        bbox_coder=bbox_coder,
    ),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(bbox_coder=bbox_coder),
        mask_roi_extractor=roi_extractor,
    ),
    train_cfg=dict(
        rpn=dict(assigner=assigner),
        rpn_proposal=proposals,
        rcnn=dict(assigner=assigner),
    ),
    test_cfg=dict(rpn=proposals, rcnn=dict(score_thr=0.5, nms=dict(offset=1))),
)
