# IDD part I, 6993 training and 981 validation images, trained and scored at 1280x720
# pixels. Prepare it once with `python tools/prepare_dataset.py idd data/idd`.
_base_ = './panoptic.py'

_base_.train_pipeline[2].update(scale=(1280, 720), crop_size=(1280, 720))
_base_.test_pipeline[1].update(scale=(1280, 720))
_base_.tta_pipeline[1].update(scale=(1280, 720))
_base_.train_pipeline.insert(1, dict(type='ResizeImageToLabel'))
_base_.test_pipeline.insert(1, dict(type='ResizeImageToLabel'))
_base_.tta_pipeline.insert(1, dict(type='ResizeImageToLabel'))

data_root = 'data/idd/'
dataset = dict(
    type='IDDPanopticDataset',
    data_root=data_root,
    prepare_hint='python tools/prepare_dataset.py idd data/idd',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='gtFine/idd_panoptic_train.json',
        data_prefix=dict(img='leftImg8bit/train/', seg='gtFine/idd_panoptic_train/'),
        pipeline=_base_.train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='gtFine/idd_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/idd_panoptic_val/'),
        pipeline=_base_.test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
