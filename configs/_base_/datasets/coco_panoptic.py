# COCO panoptic 2017, 118287 training and 5000 validation images, as it is downloaded.
# Folders and test size are those of mmdet's own config; the classes are those of the
# json, in the order of mmdet's CocoPanopticDataset. The paper does not train on COCO.
_base_ = './panoptic.py'

_base_.train_pipeline[2].update(scale=(1333, 800), crop_size=(1024, 1024))
_base_.test_pipeline[1].update(scale=(1333, 800))
_base_.tta_pipeline[1].update(scale=(1333, 800))

data_root = 'data/coco/'
dataset = dict(
    type='PanopticDataset',
    data_root=data_root,
    prepare_hint='the download, see docs/datasets/coco.md',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        pipeline=_base_.train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        pipeline=_base_.test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
