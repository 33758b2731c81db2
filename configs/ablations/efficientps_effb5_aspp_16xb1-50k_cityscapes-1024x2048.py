# Semantic head: ASPP in place of DPC.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(semantic_head=dict(small_scale_cell='ASPP'))
