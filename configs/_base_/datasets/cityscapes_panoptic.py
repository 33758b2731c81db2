# Cityscapes, 2975 training and 500 validation images of 2048x1024 pixels. Prepare it
# once with `python tools/prepare_dataset.py cityscapes data/cityscapes`.
_base_ = './panoptic.py'

data_root = 'data/cityscapes/'
dataset = dict(
    type='CityscapesPanopticDataset',
    data_root=data_root,
    prepare_hint='python tools/prepare_dataset.py cityscapes data/cityscapes',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='gtFine/cityscapes_panoptic_train.json',
        data_prefix=dict(
            img='leftImg8bit/train/', seg='gtFine/cityscapes_panoptic_train/'
        ),
        pipeline=_base_.train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='gtFine/cityscapes_panoptic_val.json',
        data_prefix=dict(img='leftImg8bit/val/', seg='gtFine/cityscapes_panoptic_val/'),
        pipeline=_base_.test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
