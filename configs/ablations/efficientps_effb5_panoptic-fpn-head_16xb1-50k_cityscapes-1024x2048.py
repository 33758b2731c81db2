# Semantic head: mmdet's PanopticFPNHead with the loss of EfficientPS. The head adds one
# channel to its stuff classes for all things: with 0 thing and 18 stuff classes it has
# the 19 classes that the fusion needs.
_base_ = '../efficientps/efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py'

model = dict(
    semantic_head=dict(
        _delete_=True,
        type='PanopticFPNHead',
        num_things_classes=0,
        num_stuff_classes=18,
        loss_seg=dict(type='BootstrappedCrossEntropyLoss'),
    ),
)
