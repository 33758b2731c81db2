# 760 iterations of 2 images: AdamW with warm-up and cosine decay, for hundreds of
# images on one device. Configs of `tools/new_config.py` set another number.
max_iters = 760
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=190)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, weight_decay=1e-4),
    paramwise_cfg=dict(
        custom_keys=dict(
            # The pretrained backbone keeps its batch norm statistics: larger steps
            # would drive its features away from them.
            backbone=dict(lr_mult=0.3),
            # It has batch norm and no weights to begin with, and learns from every
            # pixel: it stands larger steps than the boxes do.
            semantic_head=dict(lr_mult=6),
        )
    ),
    clip_grad=dict(max_norm=35, norm_type=2),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(
        type='CosineAnnealingLR',
        by_epoch=False,
        begin=50,
        end=max_iters,
        T_max=max_iters - 50,
        eta_min=1e-5,
    ),
]
