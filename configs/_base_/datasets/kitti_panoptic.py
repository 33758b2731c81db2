# KITTI panoptic, 855 training and 200 validation images (numbers from memory), trained
# and scored at 1280x384 pixels. Prepare it once with
# `python tools/prepare_dataset.py kitti data/kitti_panoptic`.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/kitti_panoptic/'
prepare_hint = 'python tools/prepare_dataset.py kitti data/kitti_panoptic'

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='ResizeImageToLabel'),
    dict(type='LoadPanopticMap', backend_args=None),
    dict(
        type='RandomScaleCrop',
        scale=(1280, 384),
        ratio_range=(0.5, 2.0),
        crop_size=(1280, 384),
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
    dict(type='Resize', scale=(1280, 384), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys={{_base_.meta_keys}}),
]

train_dataloader = dict(
    dataset=dict(
        type='KITTIPanopticDataset',
        data_root=data_root,
        ann_file='kitti_panoptic_training.json',
        data_prefix=dict(img='training/images/', seg='kitti_panoptic_training/'),
        pipeline=train_pipeline,
        prepare_hint=prepare_hint,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='KITTIPanopticDataset',
        data_root=data_root,
        ann_file='kitti_panoptic_validation.json',
        data_prefix=dict(img='validation/images/', seg='kitti_panoptic_validation/'),
        pipeline=test_pipeline,
        prepare_hint=prepare_hint,
    ),
)
test_dataloader = val_dataloader
