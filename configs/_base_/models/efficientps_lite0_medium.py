# Between the small network and that of the paper, for images of about 1024x512 pixels:
# half the paper's channels, its anchors, and the small network's settings for few data
# and small batches.
_base_ = './efficientps_lite0_small.py'

model = dict(
    neck=dict(out_channels=128),
    semantic_head=dict(in_channels=128, inner_channels=128),
    rpn_head=dict(
        in_channels=128, feat_channels=128, anchor_generator=dict(scales=[8])
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=128, finest_scale=56),
        bbox_head=dict(in_channels=128, fc_out_channels=512),
        mask_roi_extractor=dict(out_channels=128, finest_scale=56),
        mask_head=dict(in_channels=128, conv_out_channels=128),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=1000, max_per_img=500),
        rcnn=dict(sampler=dict(num=128)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500)),
)
