# Sampling: images with a class that fewer than half of them show, which are trains, are
# drawn twice in a pass.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ClassBalancedDataset',
        oversample_thr=0.5,
        dataset=_base_.train_dataloader.dataset,
    )
)
