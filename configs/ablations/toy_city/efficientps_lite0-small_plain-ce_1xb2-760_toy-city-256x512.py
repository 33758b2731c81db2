# Semantic loss: plain cross entropy, the mean over all labelled pixels.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

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
