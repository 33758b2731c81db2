# Schedule, crop 1024x2048, flip and scales 0.5 to 2 are the paper's, as public copies
# of its settings confirm.
_base_ = [
    '../_base_/models/efficientps_effb5.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_50k.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=2500))
