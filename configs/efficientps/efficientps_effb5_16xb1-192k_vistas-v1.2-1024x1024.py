# Learning rate, momentum, weight decay, warm-up, flip and scales 0.5 to 2 as for
# Cityscapes, confirmed by public copies of the paper's settings. Iterations,
# milestones, the crop 1024x1024 and the longer side of 2048 are from memory.
_base_ = [
    '../_base_/models/efficientps_effb5.py',
    '../_base_/datasets/mapillary_vistas_v1.2_panoptic.py',
    '../_base_/schedules/schedule_192k.py',
    '../_base_/default_runtime.py',
]

things, stuff = 37, 28
model = dict(
    semantic_head=dict(num_things_classes=things, num_stuff_classes=stuff),
    roi_head=dict(
        bbox_head=dict(num_classes=things),
        mask_head=dict(num_classes=things),
    ),
    panoptic_fusion_head=dict(num_things_classes=things, num_stuff_classes=stuff),
)

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=8000))
