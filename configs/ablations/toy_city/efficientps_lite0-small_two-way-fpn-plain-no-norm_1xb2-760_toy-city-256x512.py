# Neck: two-way FPN in the manner of mmdet's FPN, with plain output convs, without norm
# layers and activations.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(neck=dict(separable_output_convs=False, norm_cfg=None, act_cfg=None))
