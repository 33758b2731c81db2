# Box and mask heads: a box and a mask of each class, as in the paper.
_base_ = '../../efficientps/efficientps_lite0-small_1xb2-760_toy-city-256x512.py'

model = dict(
    roi_head=dict(
        bbox_head=dict(reg_class_agnostic=False),
        mask_head=dict(class_agnostic=False),
    )
)
