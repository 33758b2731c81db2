# Mapillary Vistas v1.2, 18000 training and 2000 validation images of many sizes; the
# longer side is brought to 2048 pixels. Prepare it once with
# `python tools/prepare_dataset.py vistas data/mapillary_vistas`.
_base_ = './panoptic.py'

_base_.train_pipeline[2].update(scale=(2048, 2048), crop_size=(1024, 1024))
_base_.test_pipeline[1].update(scale=(2048, 2048))
_base_.tta_pipeline[1].update(scale=(2048, 2048))

data_root = 'data/mapillary_vistas/'
dataset = dict(
    type='MapillaryVistasV1PanopticDataset',
    data_root=data_root,
    prepare_hint='python tools/prepare_dataset.py vistas data/mapillary_vistas',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='mapillary_vistas_v1.2_training.json',
        data_prefix=dict(img='training/images/', seg='mapillary_vistas_v1.2_training/'),
        pipeline=_base_.train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='mapillary_vistas_v1.2_validation.json',
        data_prefix=dict(
            img='validation/images/', seg='mapillary_vistas_v1.2_validation/'
        ),
        pipeline=_base_.test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader
