# Fusion: mmdet's HeuristicFusionHead. The training is that of the main config.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(panoptic_fusion_head=dict(type='HeuristicFusionAdapter'))
