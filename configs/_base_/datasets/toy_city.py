# toy_city, procedural street scenes of 512x256 pixels in the layout of Cityscapes.
# Make it once with `python tools/prepare_dataset.py toy-city`.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/toy_city/'
prepare_hint = 'python tools/prepare_dataset.py toy-city'

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='LoadPanopticMap', backend_args=None),
    dict(
        type='RandomScaleCrop',
        scale=(512, 256),
        ratio_range=(0.8, 1.25),
        crop_size=(384, 256),
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='PackPanopticTargets',
        min_area=16,
        meta_keys={{_base_.meta_keys}},
    ),
]
test_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='Resize', scale=(512, 256), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys={{_base_.meta_keys}}),
]

train_dataloader = dict(
    batch_size=2,
    # a worker would take its time from the two cores that compute
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root, pipeline=train_pipeline, prepare_hint=prepare_hint
    ),
)
val_dataloader = dict(
    batch_size=2,
    num_workers=0,
    persistent_workers=False,
    dataset=dict(
        data_root=data_root, pipeline=test_pipeline, prepare_hint=prepare_hint
    ),
)
test_dataloader = val_dataloader
