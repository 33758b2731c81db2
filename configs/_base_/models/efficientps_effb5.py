# EfficientPS with EfficientNet-B5, as the paper describes it, for data sets with
# the 8 thing and 11 stuff classes of Cityscapes.
norm_cfg = dict(type='InPlaceABNSync')
act_cfg = dict(type='LeakyReLU', negative_slope=0.01)
num_things_classes = 8
num_stuff_classes = 11

model = dict(
    type='EfficientPS',
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        mask_pad_value=0,
        pad_seg=True,
        seg_pad_value=255,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='SEFreeEfficientNet',
        arch='b5',
        norm_cfg=dict(type='InPlaceABNSync', eps=1e-3),
        act_cfg=act_cfg,
        init_cfg=dict(
            type='Pretrained',
            prefix='backbone',
            checkpoint='https://download.openmmlab.com/mmclassification/v0/efficientnet/efficientnet-b5_3rdparty_8xb32-aa_in1k_20220119-2cab8b78.pth',  # noqa: E501
        ),
    ),
    neck=dict(
        type='TwoWayFPN',
        in_channels=[40, 64, 176, 2048],
        out_channels=256,
        separable_output_convs=True,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
    ),
    semantic_head=dict(
        type='EfficientPSSemanticHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
        in_channels=256,
        inner_channels=128,
        norm_cfg=norm_cfg,
        act_cfg=act_cfg,
        loss_seg=dict(
            type='BootstrappedCrossEntropyLoss', fraction=0.25, ignore_index=255
        ),
    ),
    rpn_head=dict(
        type='Float32RPNHead',
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(
            type='AnchorGenerator',
            scales=[8],
            ratios=[0.5, 1.0, 2.0],
            strides=[4, 8, 16, 32],
        ),
        bbox_coder=dict(
            type='DeltaXYWHBBoxCoder',
            target_means=[0.0, 0.0, 0.0, 0.0],
            target_stds=[1.0, 1.0, 1.0, 1.0],
        ),
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type='SmoothL1Loss', beta=1.0 / 9.0, loss_weight=1.0),
    ),
    roi_head=dict(
        type='EfficientPSRoIHead',
        bbox_roi_extractor=dict(
            type='Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            in_channels=256,
            fc_out_channels=1024,
            roi_feat_size=7,
            num_classes=num_things_classes,
            bbox_coder=dict(
                type='DeltaXYWHBBoxCoder',
                target_means=[0.0, 0.0, 0.0, 0.0],
                target_stds=[0.1, 0.1, 0.2, 0.2],
            ),
            reg_class_agnostic=False,
            loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
            loss_bbox=dict(type='SmoothL1Loss', beta=1.0, loss_weight=1.0),
        ),
        mask_roi_extractor=dict(
            type='Float32RoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=2),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type='SeparableConvMaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            num_classes=num_things_classes,
            norm_cfg=norm_cfg,
            act_cfg=act_cfg,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    panoptic_fusion_head=dict(
        type='EfficientPSFusionHead',
        num_things_classes=num_things_classes,
        num_stuff_classes=num_stuff_classes,
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type='ChunkedMaxIoUAssigner',
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                # Anchors inside a crowd region are neither object nor background.
                ignore_iof_thr=0.5,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=0,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=0.5,
            ),
            sampler=dict(
                type='RandomSampler',
                num=256,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            mask_size=28,
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=1000,
            max_per_img=1000,
            nms=dict(type='nms', iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            # Low-score detections count for AP; the fusion takes confident ones
            # only, by its own threshold below.
            score_thr=0.05,
            nms=dict(type='nms', iou_threshold=0.5),
            max_per_img=100,
            mask_thr_binary=0.5,
        ),
        panoptic=dict(
            # what to predict; switch off what you do not need to save time
            with_panoptic=True,
            with_instances=True,
            with_semantic=True,
            # the fusion
            score_thr=0.5,
            overlap_thr=0.5,
            min_stuff_area=2048,
        ),
    ),
)
