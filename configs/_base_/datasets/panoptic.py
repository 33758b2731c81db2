# What all data sets have in common: pipelines, loaders and metrics. A data set says
# where it is and, in these pipelines, its sizes: (width, height) into which an image is
# fitted, and of the crop.
backend_args = None
meta_keys = (
    'img_id',
    'img_path',
    'seg_map_path',
    'segments_info',
    'ori_shape',
    'img_shape',
    'scale_factor',
    'flip',
    'flip_direction',
)

train_pipeline = [
    # LoadCheckedImage, by the name that mmdet's DetInferencer looks for
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='LoadPanopticMap', backend_args=backend_args),
    dict(
        type='RandomScaleCrop',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        crop_size=(2048, 1024),
    ),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPanopticTargets', min_area=16, meta_keys=meta_keys),
]
test_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='PanopticResize', scale=(2048, 1024), keep_ratio=True),
    dict(type='PackPanopticTargets', meta_keys=meta_keys),
]
# tools/test.py --tta: six scales of the paper, each mirrored or not
tta_model = dict(type='PanopticTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=backend_args),
    dict(type='PanopticTestTimeAug', scale=(2048, 1024), meta_keys=meta_keys),
]

train_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(backend_args=backend_args),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(test_mode=True, backend_args=backend_args),
)
test_dataloader = val_dataloader

val_evaluator = [
    dict(type='PanopticQualityMetric', backend_args=backend_args),
    dict(type='CityscapesInstanceAPMetric', backend_args=backend_args),
    dict(type='CocoMaskAPMetric', backend_args=backend_args),
    dict(type='SemanticIoUMetric', backend_args=backend_args),
]
test_evaluator = val_evaluator
