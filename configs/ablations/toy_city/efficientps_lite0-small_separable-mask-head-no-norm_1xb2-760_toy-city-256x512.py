# Mask head: separable convs without norm layers.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    roi_head=dict(
        mask_head=dict(
            type='SeparableConvMaskHead', norm_cfg=None, act_cfg=dict(type='ReLU')
        )
    )
)
