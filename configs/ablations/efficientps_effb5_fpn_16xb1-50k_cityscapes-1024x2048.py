# Neck: feature pyramid network, the top-down path alone.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(neck=dict(paths=['top_down']))
