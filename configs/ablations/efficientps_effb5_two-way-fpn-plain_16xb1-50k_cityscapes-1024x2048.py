# Neck: two-way FPN with plain output convs, as in the released networks.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(neck=dict(separable_output_convs=False))
