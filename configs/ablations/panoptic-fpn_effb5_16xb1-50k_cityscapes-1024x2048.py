# Baseline: mmdet's PanopticFPN with the backbone, data, schedule, anchors and
# thresholds of the main config; the rest as in mmdet's own config of it.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    type='PanopticFPN',
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[40, 64, 176, 2048],
        out_channels=256,
        num_outs=4,
    ),
    semantic_head=dict(
        _delete_=True,
        type='PanopticFPNHead',
        num_things_classes=8,
        num_stuff_classes=11,
        loss_seg=dict(type='CrossEntropyLoss', ignore_index=255, loss_weight=0.5),
    ),
    roi_head=dict(
        type='StandardRoIHead',
        mask_head=dict(_delete_=True, type='FCNMaskHead', num_classes=8),
    ),
    panoptic_fusion_head=dict(
        _delete_=True,
        type='HeuristicFusionHead',
        num_things_classes=8,
        num_stuff_classes=11,
    ),
    test_cfg=dict(
        rcnn=dict(score_thr=0.5, nms=dict(class_agnostic=True)),
        panoptic=dict(_delete_=True, mask_overlap=0.5, stuff_area_limit=2048),
    ),
)
# it predicts panoptic maps only
val_evaluator = dict(_delete_=True, type='PanopticQualityMetric')
test_evaluator = val_evaluator
