# Neck: feature pyramid network, the top-down path alone.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(neck=dict(paths=['top_down']))
