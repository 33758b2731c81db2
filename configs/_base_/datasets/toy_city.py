# toy_city, procedural street scenes of 512x256 pixels in the layout of Cityscapes.
# Make it once with `python tools/prepare_dataset.py toy-city`.
_base_ = './cityscapes_panoptic.py'

_base_.train_pipeline[2].update(
    scale=(512, 256), ratio_range=(0.8, 1.25), crop_size=(384, 256)
)
_base_.test_pipeline[1].update(scale=(512, 256))
_base_.tta_pipeline[1].update(scale=(512, 256))

data_root = 'data/toy_city/'
dataset = dict(
    data_root=data_root, prepare_hint='python tools/prepare_dataset.py toy-city'
)
# a worker would take its time from the two cores that compute
loader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_dataloader = dict(
    dataset=dict(pipeline=_base_.train_pipeline, **dataset), **loader
)
val_dataloader = dict(dataset=dict(pipeline=_base_.test_pipeline, **dataset), **loader)
test_dataloader = val_dataloader
