# Augmentation: instances of another image are pasted with their pixels and segments.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

load, load_map, crop, flip, pack = _base_.train_pipeline
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='MultiImageMixDataset',
        dataset={**_base_.train_dataloader.dataset, 'pipeline': [load, load_map, crop]},
        pipeline=[dict(type='PanopticCopyPaste', max_num_pasted=10), flip, pack],
    )
)
# what the loader is written with
del load, load_map, crop, flip, pack
