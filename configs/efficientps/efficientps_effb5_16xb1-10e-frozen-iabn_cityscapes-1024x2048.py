# The paper's final stage: ten epochs at a constant small learning rate with frozen
# iABN, from the result of the main schedule.
_base_ = './efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(freeze_norm=True)
load_from = 'work_dirs/efficientps_effb5_16xb1-50k_cityscapes-1024x2048/iter_50000.pth'

optim_wrapper = dict(optimizer=dict(lr=1e-4))
param_scheduler = None
train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=10, val_interval=1
)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=1),
)
log_processor = dict(by_epoch=True)
