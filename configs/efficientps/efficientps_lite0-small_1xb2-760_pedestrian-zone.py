# The demo's network on real photographs: a pattern for your own data, see
# docs/custom_dataset.md. 140 training and 40 validation images of 672x376 pixels,
# which the pipelines of the demo scale to fit into 512x256.
_base_ = './efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

things = ('bicycle', 'person')
stuff = (
    'building',
    'fence',
    'road',
    'rock',
    'sky',
    'stairs',
    'terrain',
    'vegetation',
)

model = dict(
    semantic_head=dict(num_things_classes=len(things), num_stuff_classes=len(stuff)),
    roi_head=dict(
        bbox_head=dict(num_classes=len(things)),
        mask_head=dict(num_classes=len(things)),
    ),
    panoptic_fusion_head=dict(
        num_things_classes=len(things), num_stuff_classes=len(stuff)
    ),
)

data_root = 'data/pedestrian_zone/'
dataset = dict(
    type='PanopticDataset',
    data_root=data_root,
    metainfo=dict(classes=things + stuff, thing_classes=things, stuff_classes=stuff),
    prepare_hint='the commands of docs/custom_dataset.md',
)
train_dataloader = dict(
    dataset=dict(
        ann_file='panoptic_train.json',
        data_prefix=dict(img='train/', seg='panoptic_train/'),
        **dataset,
    ),
)
val_dataloader = dict(
    dataset=dict(
        ann_file='panoptic_valid.json',
        data_prefix=dict(img='valid/', seg='panoptic_valid/'),
        **dataset,
    ),
)
test_dataloader = val_dataloader
