# Fusion: mmdet's HeuristicFusionHead. The training is that of the demo.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(panoptic_fusion_head=dict(type='HeuristicFusionAdapter'))
