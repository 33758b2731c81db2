# Mapillary Vistas v1.2, 18000 training and 2000 validation images of many sizes; the
# longer side is brought to 2048 pixels. Prepare it once with
# `python tools/prepare_dataset.py vistas data/mapillary_vistas`.
_base_ = './cityscapes_panoptic.py'

data_root = 'data/mapillary_vistas/'
prepare_hint = 'python tools/prepare_dataset.py vistas data/mapillary_vistas'

train_pipeline = [
    dict(type='LoadCheckedImage', backend_args=None),
    dict(type='LoadPanopticMap', backend_args=None),
    dict(
        type='RandomScaleCrop',
        scale=(2048, 2048),
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
    dict(type='Resize', scale=(2048, 2048), keep_ratio=True),
    dict(type='PackDetInputs', meta_keys={{_base_.meta_keys}}),
]

train_dataloader = dict(
    dataset=dict(
        type='MapillaryVistasV1PanopticDataset',
        data_root=data_root,
        ann_file='mapillary_vistas_v1.2_training.json',
        data_prefix=dict(img='training/images/', seg='mapillary_vistas_v1.2_training/'),
        pipeline=train_pipeline,
        prepare_hint=prepare_hint,
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='MapillaryVistasV1PanopticDataset',
        data_root=data_root,
        ann_file='mapillary_vistas_v1.2_validation.json',
        data_prefix=dict(
            img='validation/images/', seg='mapillary_vistas_v1.2_validation/'
        ),
        pipeline=test_pipeline,
        prepare_hint=prepare_hint,
    ),
)
test_dataloader = val_dataloader
