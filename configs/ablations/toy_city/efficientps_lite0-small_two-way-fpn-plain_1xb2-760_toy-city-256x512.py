# Neck: plain in place of separable output convs.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(neck=dict(separable_output_convs=False))
