# Augmentation: images of half to twice the size, as in the paper, in place of 0.8 to
# 1.25.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

train_pipeline = _base_.train_pipeline
train_pipeline[2].update(ratio_range=(0.5, 2.0))
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
