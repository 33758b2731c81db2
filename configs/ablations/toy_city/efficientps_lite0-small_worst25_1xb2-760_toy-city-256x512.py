# Semantic loss: the worst quarter of the pixels, as in the paper, in place of half.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(semantic_head=dict(loss_seg=dict(fraction=0.25)))
