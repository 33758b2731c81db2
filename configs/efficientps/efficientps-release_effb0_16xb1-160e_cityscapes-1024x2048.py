# The released variant with the smaller backbone.
_base_ = './efficientps-release_effb5_16xb1-160e_cityscapes-1024x2048.py'

model = dict(
    backbone=dict(
        arch='b0',
        init_cfg=dict(
            checkpoint='https://download.openmmlab.com/mmclassification/v0/efficientnet/efficientnet-b0_3rdparty_8xb32-aa_in1k_20220119-8d939117.pth',  # noqa: E501
        ),
    ),
    neck=dict(in_channels=[24, 40, 112, 1280]),
)
