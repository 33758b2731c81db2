# Neck: mmdet's FPN, top-down path alone and plain output convs.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    neck=dict(
        _delete_=True,
        type='FPN',
        in_channels=[24, 40, 112, 1280],
        out_channels=64,
        num_outs=4,
    )
)
