# 50 000 iterations of 16 images: SGD, warm-up from a third of the learning rate over
# 200 iterations, learning rate divided by 10 at 32 000 and 44 000 (paper, section 4).
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.07, momentum=0.9, weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=200),
    dict(
        type='MultiStepLR',
        begin=0,
        end=50000,
        by_epoch=False,
        milestones=[32000, 44000],
        gamma=0.1,
    ),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=50000, val_interval=2500)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
# `--auto-scale-lr` scales the learning rate by (GPUs x batch size) / this.
auto_scale_lr = dict(enable=False, base_batch_size=16)
