# The variant the authors released, for their published Cityscapes checkpoint after
# tools/model_converters/efficientps_release_to_mmdet.py; see docs/checkpoints.md.
_base_ = [
    '../_base_/models/efficientps_release_effb5.py',
    '../_base_/datasets/cityscapes_panoptic.py',
    '../_base_/schedules/schedule_160e.py',
    '../_base_/epoch_runtime.py',
]

train_dataloader = dict(sampler=dict(type='DefaultSampler', shuffle=True))
