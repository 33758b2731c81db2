# 25 000 iterations of 16 images for KITTI. Total and milestones are the
# paper's as remembered, not checked against its text; the rest is schedule_50k.py.
_base_ = './schedule_50k.py'

_base_.param_scheduler[1].update(end=25000, milestones=[16000, 22000])
train_cfg = dict(max_iters=25000, val_interval=1000)
