# Semantic loss: plain cross entropy, the mean over all labelled pixels.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    semantic_head=dict(
        loss_seg=dict(
            _delete_=True,
            type='CrossEntropyLoss',
            ignore_index=255,
            avg_non_ignore=True,
        )
    )
)
