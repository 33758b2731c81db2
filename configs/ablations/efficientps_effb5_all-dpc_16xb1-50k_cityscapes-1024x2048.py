# Semantic head: DPC at all four scales.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(semantic_head=dict(large_scale_cell='DPC'))
