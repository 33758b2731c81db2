# Mask head: mmdet's FCNMaskHead, as in Mask R-CNN: plain convs, no norm layers.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    roi_head=dict(mask_head=dict(_delete_=True, type='FCNMaskHead', num_classes=8))
)
