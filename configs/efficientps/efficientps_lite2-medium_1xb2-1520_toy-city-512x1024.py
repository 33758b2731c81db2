# The medium network on toy_city of twice the size, which is made once with
# `python tools/prepare_dataset.py toy-city --size 512 1024 --out data/toy_city_1024`.
_base_ = [
    '../_base_/models/efficientps_lite2_medium.py',
    '../_base_/datasets/toy_city.py',
    '../_base_/schedules/schedule_small_data.py',
    '../_base_/default_runtime.py',
]

data_root = 'data/toy_city_1024/'
dataset = dict(
    data_root=data_root,
    prepare_hint='python tools/prepare_dataset.py toy-city --size 512 1024 '
    '--out data/toy_city_1024',
)
_base_.train_pipeline[2].update(scale=(1024, 512), crop_size=(768, 512))
_base_.test_pipeline[1].update(scale=(1024, 512))
_base_.tta_pipeline[1].update(scale=(1024, 512))
train_dataloader = dict(
    dataset=dict(pipeline=_base_.train_pipeline, **dataset),
)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline, **dataset))
test_dataloader = val_dataloader

max_iters = 1520
train_cfg = dict(max_iters=max_iters, val_interval=380)
_base_.param_scheduler[1].update(
    end=max_iters, T_max=max_iters - _base_.param_scheduler[1].begin
)
default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(by_epoch=False, interval=380, max_keep_ckpts=1),
)
