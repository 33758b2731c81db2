# 192 000 iterations of 16 images for Mapillary Vistas. Total and milestones are the
# paper's as remembered, not checked against its text; the rest is schedule_50k.py.
_base_ = './schedule_50k.py'

_base_.param_scheduler[1].update(end=192000, milestones=[144000, 176000])
train_cfg = dict(max_iters=192000, val_interval=8000)
