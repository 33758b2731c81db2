# Mask head: separable convs and norm layers, as in the paper.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    roi_head=dict(
        mask_head=dict(
            type='SeparableConvMaskHead',
            norm_cfg=dict(type='InPlaceABNSync'),
            act_cfg=dict(type='LeakyReLU', negative_slope=0.01),
        )
    )
)
