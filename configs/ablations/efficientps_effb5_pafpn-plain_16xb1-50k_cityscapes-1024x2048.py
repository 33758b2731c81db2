# Neck: mmdet's PAFPN: top-down path, then bottom-up by strided convs, all plain.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='PAFPN',
        in_channels=[40, 64, 176, 2048],
        out_channels=256,
        num_outs=4,
        # its activation, a leaky ReLU, is part of it
        norm_cfg=dict(type='InPlaceABNSync'),
    ),
)
