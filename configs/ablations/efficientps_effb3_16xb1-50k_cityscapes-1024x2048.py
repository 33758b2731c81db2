# Backbone: EfficientNet-B3.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    backbone=dict(
        arch='b3',
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmclassification/v0/efficientnet/efficientnet-b3_3rdparty_8xb32-aa_in1k_20220119-5b4887a0.pth',  # noqa: E501
        ),
    ),
    neck=dict(in_channels=[32, 48, 136, 1536]),
)
