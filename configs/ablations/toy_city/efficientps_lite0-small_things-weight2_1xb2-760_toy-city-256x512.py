# Losses: those of boxes, classes and masks count twice as much as the semantic loss.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(loss_cls=dict(loss_weight=2.0), loss_bbox=dict(loss_weight=2.0)),
        mask_head=dict(loss_mask=dict(loss_weight=2.0)),
    ),
)
