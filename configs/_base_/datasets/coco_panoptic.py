# COCO panoptic 2017, 118287 training and 5000 validation images, as it is downloaded.
# Folders and test size are those of mmdet's own config; the classes are those of the
# json, in the order of mmdet's CocoPanopticDataset. The paper does not train on COCO.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/coco/'
prepare_hint = 'the download, see docs/datasets/coco.md'

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='LoadPanopticMap', backend_args=None),
    dict(
        type='RandomScaleCrop',
        scale=(1333, 800),
        ratio_range=(0.5, 2.0),
        crop_size=(1024, 1024),
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
    dict(type='Resize', scale=(1333, 800), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys={{_base_.meta_keys}}),
]

train_dataloader = dict(
    dataset=dict(
        type='PanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_train2017.json',
        data_prefix=dict(img='train2017/', seg='annotations/panoptic_train2017/'),
        pipeline=train_pipeline,
        prepare_hint=prepare_hint,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='PanopticDataset',
        data_root=data_root,
        ann_file='annotations/panoptic_val2017.json',
        data_prefix=dict(img='val2017/', seg='annotations/panoptic_val2017/'),
        pipeline=test_pipeline,
        prepare_hint=prepare_hint,
    ),
)
test_dataloader = val_dataloader
