# Neck: the bottom-up path alone.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(neck=dict(paths=['bottom_up']))
