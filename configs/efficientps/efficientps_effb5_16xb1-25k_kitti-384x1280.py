# Learning rate, momentum, weight decay, warm-up, flip and scales 0.5 to 2 as for
# Cityscapes, confirmed by public copies of the paper's settings. Iterations, milestones
# and the size 384x1280 are from memory.
_base_ = [
    '../_base_/models/efficientps_effb5.py',
    '../_base_/datasets/kitti_panoptic.py',
    '../_base_/schedules/schedule_25k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=1000))
