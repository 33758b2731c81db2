# Cityscapes, 2975 training and 500 validation images of 2048x1024 pixels. Prepare it
# once with `python tools/prepare_dataset.py cityscapes data/cityscapes`.
dataset_type = 'CityscapesPanopticDataset'
data_root = 'data/cityscapes/'
prepare_hint = 'python tools/prepare_dataset.py cityscapes data/cityscapes'
backend_args = None
meta_keys = (
    'img_id',
    'img_path',
    'seg_map_path',
    'segments_info',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
)

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=backend_args),
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='RandomScaleCrop',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        crop_size=(2048, 1024),
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPanopticTargets', min_area=16, meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadCheckedImage', backend_args=backend_args),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='gtFine/cityscapes_panoptic_train.json',
        data_prefix=dict(
            img='leftImg8bit/train/', seg='gtFine/cityscapes_panoptic_train/'
        ),
        pipeline=train_pipeline,
        prepare_hint=prepare_hint,
        backend_args=backend_args,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/cityscapes_panoptic_val/'),
        test_mode=True,
        pipeline=test_pipeline,
        prepare_hint=prepare_hint,
        backend_args=backend_args,
    ),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='PanopticQualityMetric', backend_args=backend_args),
    dict(type='CityscapesInstanceAPMetric', backend_args=backend_args),
    dict(type='CocoMaskAPMetric', backend_args=backend_args),
    dict(type='SemanticIoUMetric', backend_args=backend_args),
]
test_evaluator = val_evaluator
