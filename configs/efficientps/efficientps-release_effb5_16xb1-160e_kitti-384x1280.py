# The variant the authors released, for their published KITTI checkpoint, which has the
# classes of Cityscapes. How long they trained it on KITTI is not known: the schedule is
# the one for Cityscapes.
_base_ = [
    '../_base_/models/efficientps_release_effb5.py',
    '../_base_/datasets/kitti_panoptic.py',
    '../_base_/schedules/schedule_160e.py',
    '../_base_/epoch_runtime.py',
]

train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
