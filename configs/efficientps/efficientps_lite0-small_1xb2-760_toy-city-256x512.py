# The demo: a small EfficientPS that trains in minutes on two CPU cores.
_base_ = [
    '../_base_/models/efficientps_lite0_small.py',
    '../_base_/datasets/toy_city.py',
    '../_base_/schedules/schedule_small_data.py',
    '../_base_/default_runtime.py',
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=190, max_keep_ckpts=1),
)
