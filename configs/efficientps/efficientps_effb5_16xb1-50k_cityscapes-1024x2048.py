_base_ = [
    '../_base_/models/efficientps_effb5.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_50k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2500))
