# 144 000 iterations of 16 images for IDD. Total and milestones are the
# paper's as remembered, not checked against its text; the rest is schedule_50k.py.
_base_ = './schedule_50k.py'

_base_.param_scheduler[1].update(end=144000, milestones=[108000, 130000])
train_cfg = dict(max_iters=144000, val_interval=4000)
