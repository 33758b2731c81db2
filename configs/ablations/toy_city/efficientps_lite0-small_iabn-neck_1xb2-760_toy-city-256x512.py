# Neck: norm layers and activations after every conv, as in the paper.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    neck=dict(
        norm_cfg=dict(_delete_=True, type='InPlaceABNSync'),
        act_cfg=dict(_delete_=True, type='LeakyReLU', negative_slope=0.01),
    )
)
