# Mapillary Vistas v2.0: the images of v1.2 with other labels.
_base_ = './mapillary_vistas_v1.2_panoptic.py'

dataset_type = 'MapillaryVistasV2PanopticDataset'

train_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='mapillary_vistas_v2.0_training.json',
        data_prefix=dict(seg='mapillary_vistas_v2.0_training/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type=dataset_type,
        ann_file='mapillary_vistas_v2.0_validation.json',
        data_prefix=dict(seg='mapillary_vistas_v2.0_validation/'),
    ),
)
test_dataloader = val_dataloader
