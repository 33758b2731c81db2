# Backbone: ResNet-50, with SyncBN and ReLU.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='SyncBN'),
        norm_eval=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='https://download.pytorch.org/models/resnet50-0676ba61.pth',
        ),
    ),
    neck=dict(in_channels=[256, 512, 1024, 2048]),
)
