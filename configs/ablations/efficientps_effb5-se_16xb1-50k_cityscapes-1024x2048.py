# Backbone: with squeeze-and-excitation. mmdet's EfficientNet takes no iABN, so compare
# with efficientps_effb5_syncbn.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    backbone=dict(
        type='EfficientNet', out_indices=(2, 3, 4, 6), norm_cfg=dict(type='SyncBN')
    )
)
