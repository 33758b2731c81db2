# As for v1.2. The paper has no numbers for v2.0.
_base_ = [
    '../_base_/models/efficientps_effb5.py',
    '../_base_/datasets/mapillary_vistas_v2.0_panoptic.py',
    '../_base_/schedules/schedule_192k.py',
    '../_base_/default_runtime.py',
]

things, stuff = 70, 46
model = dict(
    semantic_head=dict(num_things_classes=things, num_stuff_classes=stuff),
    roi_head=dict(
        bbox_head=dict(num_classes=things),
        mask_head=dict(num_classes=things),
    ),
    panoptic_fusion_head=dict(num_things_classes=things, num_stuff_classes=stuff),
)

default_hooks = dict(checkpoint=dict(by_epoch=False, interval=8000))
