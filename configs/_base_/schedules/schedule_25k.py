# 25 000 iterations of 16 images for KITTI. Total and milestones are the
# paper's as remembered, not checked against its text; the rest is schedule_50k.py.
_base_ = './schedule_50k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=200),
    dict(
        type='MultiStepLR',
        begin=0,
        end=25000,
        by_epoch=False,
        milestones=[16000, 22000],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=25000, val_interval=1000)
