# Semantic head: without mismatch correction, coarse features are only resized.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(semantic_head=dict(with_mc=False))
