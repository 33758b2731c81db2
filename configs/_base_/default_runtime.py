custom_imports = dict(imports=['mmdet_efficientps'], allow_failed_imports=False)
default_scope = 'mmdet'

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    # validation is logged at its iteration; set it True for epoch-based training
    logger=dict(type='LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(
        type='CheckpointHook',
        interval=1,
        max_keep_ckpts=2,
        # by the first number of the first metric: panoptic/PQ
        save_best='auto',
        rule='greater',
    ),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # the same few predictions in every validation; --show-dir draws those of a test
    visualization=dict(type='PanopticVisualizationHook', num_images=4),
)
custom_hooks = [
    dict(type='CheckpointCheckHook'),
    dict(type='SyncBNCheckHook'),
    dict(type='PanopticClassesCheckHook'),
    dict(type='PredictionNeedsHook'),
    dict(type='InvalidLossHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(
    type='PanopticVisualizer', vis_backends=vis_backends, name='visualizer'
)
log_processor = dict(type='LogProcessor', window_size=50, by_epoch=False)

log_level = 'INFO'
load_from = None
resume = False
