# The variant the authors released: plain instead of separable output convs in the
# neck, its input normalisation, and its longer schedule. Anchors, box coder and
# RoIAlign are the current ones of mmdet: the published checkpoints were trained with
# those of mmdet 1.x and would give shifted boxes here.
_base_ = './efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    data_preprocessor=dict(
        mean=[106.433, 116.617, 119.559], std=[65.496, 67.6, 74.123]
    ),
    neck=dict(separable_output_convs=False),
)

train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=160, val_interval=10
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        begin=0,
        end=160,
        by_epoch=True,
        milestones=[120, 144],
        gamma=0.1,
    ),
]
optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=10),
)
log_processor = dict(by_epoch=True)
