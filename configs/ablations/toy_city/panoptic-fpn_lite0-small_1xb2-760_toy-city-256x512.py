# Baseline: mmdet's PanopticFPN with the backbone, data, schedule, learning rates of
# the parts, anchors, channels and thresholds of the demo; the rest as in mmdet's own
# config.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    type='PanopticFPN',
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[24, 40, 112, 1280],
        out_channels=64,
        num_outs=4,
    ),
    semantic_head=dict(
        _delete_=True,
        type='PanopticFPNHead',
        num_things_classes=8,
        num_stuff_classes=11,
        in_channels=64,
        inner_channels=64,
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
    ),
    roi_head=dict(
        type='StandardRoIHead',
        bbox_head=dict(reg_class_agnostic=False),
        mask_head=dict(
            _delete_=True,
            type='FCNMaskHead',
            in_channels=64,
            conv_out_channels=64,
            num_classes=8,
        ),
    ),
    panoptic_fusion_head=dict(
        _delete_=True,
        type='HeuristicFusionHead',
        num_things_classes=8,
        num_stuff_classes=11,
    ),
    test_cfg=dict(
        rcnn=dict(score_thr=0.4, nms=dict(class_agnostic=True)),
        panoptic=dict(_delete_=True, mask_overlap=0.5, stuff_area_limit=512),
    ),
)
# it predicts panoptic maps only
val_evaluator = dict(_delete_=True, type='PanopticQualityMetric')
test_evaluator = val_evaluator
