# IDD part I, 6993 training and 981 validation images, trained and scored at 1280x720
# pixels. Prepare it once with `python tools/prepare_dataset.py idd data/idd`.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/idd/'
prepare_hint = 'python tools/prepare_dataset.py idd data/idd'

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='ResizeImageToLabel'),
    dict(type='LoadPanopticMap', backend_args=None),
    dict(
        type='RandomScaleCrop',
        scale=(1280, 720),
        ratio_range=(0.5, 2.0),
        crop_size=(1280, 720),
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
    dict(type='ResizeImageToLabel'),
    dict(type='Resize', scale=(1280, 720), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys={{_base_.meta_keys}}),
]

train_dataloader = dict(
    dataset=dict(
        type='IDDPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/idd_panoptic_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/idd_panoptic_train/'),
        pipeline=train_pipeline,
        prepare_hint=prepare_hint,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='IDDPanopticDataset',
        data_root=data_root,
        ann_file='gtFine/idd_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/idd_panoptic_val/'),
        pipeline=test_pipeline,
        prepare_hint=prepare_hint,
    ),
)
test_dataloader = val_dataloader
