# Norm layers: batch norm, statistics over all GPUs, in place of iABN.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

norm_cfg = dict(type='SyncBN')
model = dict(
    backbone=dict(norm_cfg=norm_cfg),
    neck=dict(norm_cfg=norm_cfg),
    semantic_head=dict(norm_cfg=norm_cfg),
    roi_head=dict(mask_head=dict(norm_cfg=norm_cfg)),
)
