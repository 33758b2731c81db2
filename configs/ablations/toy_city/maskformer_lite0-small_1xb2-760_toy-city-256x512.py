# Baseline of another kind: mmdet's MaskFormer, which finds segments by queries, with
# the backbone, data and schedule of the demo, 128 channels and half the layers of
# mmdet's own config. Its learning rate is five times mmdet's, and gradients are cut at
# 1 instead of 0.01: those are for trainings of days.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

num_classes = 19
channels = 128
attention = dict(embed_dims=channels, num_heads=8, dropout=0.1, batch_first=True)
feed_forward = dict(
    embed_dims=channels,
    feedforward_channels=512,
    num_fcs=2,
    ffn_drop=0.1,
    act_cfg=dict(type='ReLU', inplace=True),
)
position = dict(num_feats=channels // 2, normalize=True)

model = dict(
    _delete_=True,
    type='MaskFormer',
    data_preprocessor={{_base_.model.data_preprocessor}},
    backbone={{_base_.model.backbone}},
    panoptic_head=dict(
        type='MaskFormerHead',
        in_channels=[24, 40, 112, 1280],
        feat_channels=channels,
        out_channels=channels,
        num_things_classes=8,
        num_stuff_classes=11,
        num_queries=100,
        pixel_decoder=dict(
            type='TransformerEncoderPixelDecoder',
            norm_cfg=dict(type='GN', num_groups=32),
            act_cfg=dict(type='ReLU'),
            encoder=dict(
                num_layers=3,
                layer_cfg=dict(self_attn_cfg=attention, ffn_cfg=feed_forward),
            ),
            positional_encoding=position,
        ),
        enforce_decoder_input_project=False,
        positional_encoding=position,
        transformer_decoder=dict(
            num_layers=3,
            layer_cfg=dict(
                self_attn_cfg=attention,
                cross_attn_cfg=attention,
                ffn_cfg=feed_forward,
            ),
            return_intermediate=True,
        ),
        loss_cls=dict(
            type='CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=1.0,
            reduction='mean',
            class_weight=[1.0] * num_classes + [0.1],
        ),
        loss_mask=dict(
            type='FocalLoss',
            use_sigmoid=True,
            gamma=2.0,
            alpha=0.25,
            reduction='mean',
            loss_weight=20.0,
        ),
        loss_dice=dict(
            type='DiceLoss',
            use_sigmoid=True,
            activate=True,
            reduction='mean',
            naive_dice=True,
            eps=1.0,
            loss_weight=1.0,
        ),
    ),
    panoptic_fusion_head=dict(
        type='MaskFormerFusionHead',
        num_things_classes=8,
        num_stuff_classes=11,
        loss_panoptic=None,
        init_cfg=None,
    ),
    train_cfg=dict(
        assigner=dict(
            type='HungarianAssigner',
            match_costs=[
                dict(type='ClassificationCost', weight=1.0),
                dict(type='FocalLossCost', weight=20.0, binary_input=True),
                dict(type='DiceCost', weight=1.0, pred_act=True, eps=1.0),
            ],
        ),
        sampler=dict(type='MaskPseudoSampler'),
    ),
    test_cfg=dict(
        panoptic_on=True,
        semantic_on=False,
        instance_on=False,
        max_per_image=100,
        # 0.8 in mmdet's config: trained for minutes, it is seldom so sure
        object_mask_thr=0.3,
        iou_thr=0.8,
        filter_low_score=False,
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=5e-4),
    paramwise_cfg=dict(
        _delete_=True,
        custom_keys=dict(
            backbone=dict(lr_mult=0.3), query_embed=dict(lr_mult=1.0, decay_mult=0.0)
        ),
        norm_decay_mult=0.0,
    ),
    clip_grad=dict(max_norm=1.0),
)
# it predicts panoptic maps only
val_evaluator = dict(_delete_=True, type='PanopticQualityMetric')
test_evaluator = val_evaluator
