# Neck: three BiFPN layers.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='BiFPN',
        in_channels=[40, 64, 176, 2048],
        out_channels=256,
        num_layers=3,
        norm_cfg=dict(type='InPlaceABNSync'),
    ),
)
