# The schedule of the release: 160 epochs of Cityscapes, learning rate divided by 10
# after 120 and 144, longer warm-up, gradients clipped.
_base_ = './schedule_50k.py'

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
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
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=160, val_interval=10
)
