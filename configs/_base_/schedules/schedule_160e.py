# The schedule of the release: 160 epochs of Cityscapes, learning rate divided by 10
# after 120 and 144, longer warm-up, gradients clipped.
_base_ = './schedule_50k.py'

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
_base_.param_scheduler[0].update(end=500)
_base_.param_scheduler[1].update(end=160, by_epoch=True, milestones=[120, 144])
train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=160, val_interval=10
)
