# Learning rate: the semantic head takes the steps of the other heads.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(semantic_head=dict(lr_mult=1)))
)
