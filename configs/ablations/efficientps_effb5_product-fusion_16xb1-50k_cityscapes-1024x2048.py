# Fusion: the product of mask and semantic logits.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(panoptic_fusion_head=dict(combine='product'))
