# KITTI panoptic, 855 training and 200 validation images (numbers from memory), trained
# and scored at 1280x384 pixels. Prepare it once with
# `python tools/prepare_dataset.py kitti data/kitti_panoptic`.
_base_ = './panoptic.py'

_base_.train_pipeline[2].update(scale=(1280, 384), crop_size=(1280, 384))
_base_.test_pipeline[1].update(scale=(1280, 384))
_base_.tta_pipeline[1].update(scale=(1280, 384))
_base_.train_pipeline.insert(1, dict(type='ResizeImageToLabel'))
_base_.test_pipeline.insert(1, dict(type='ResizeImageToLabel'))
_base_.tta_pipeline.insert(1, dict(type='ResizeImageToLabel'))

data_root = 'data/kitti_panoptic/'
dataset = dict(
    type='KITTIPanopticDataset',
    data_root=data_root,
    prepare_hint='python tools/prepare_dataset.py kitti data/kitti_panoptic',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='kitti_panoptic_training.json',
        data_prefix=dict(img='training/images/', seg='kitti_panoptic_training/'),
        pipeline=_base_.train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='kitti_panoptic_validation.json',
        data_prefix=dict(img='validation/images/', seg='kitti_panoptic_validation/'),
        pipeline=_base_.test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
