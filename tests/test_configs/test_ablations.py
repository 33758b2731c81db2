# Licensed under the Apache License, Version 2.0. See LICENSE.
import re
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
import torch
from mmdet.evaluation.functional import INSTANCE_OFFSET
from mmdet.registry import DATASETS, MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.runner import set_random_seed

CONFIGS = Path(__file__).parents[2] / 'configs'
ABLATIONS = CONFIGS / 'ablations'
SETTINGS = {
    '': (
        '_16xb1-50k_cityscapes-1024x2048',
        'efficientps_effb5_16xb1-50k_cityscapes-1024x2048.py',
    ),
    'toy_city/': (
        '_1xb2-760_toy-city-256x512',
        'efficientps_lite0-small_1xb2-760_toy-city-256x512.py',
    ),
    'pedestrian_zone/': (
        '_1xb2-760_pedestrian-zone',
        'efficientps_lite0-small_1xb2-760_pedestrian-zone.py',
    ),
}
HEADS = {'neck', 'semantic_head', 'roi_head'}
BASELINE = HEADS | {'type', 'panoptic_fusion_head', 'test_cfg'}
OF_QUERIES = BASELINE | {'panoptic_head', 'rpn_head', 'train_cfg'}
# What each config may differ in from the main config of its data set.
CHANGES = {
    'efficientps_r50': {'backbone', 'neck'},
    'efficientps_mobilenet-v2': {'backbone', 'neck'},
    'efficientps_effb0': {'backbone', 'neck'},
    'efficientps_effb3': {'backbone', 'neck'},
    'efficientps_lite0': {'backbone', 'neck', 'data_preprocessor'},
    'efficientps_lite1': {'backbone', 'neck', 'data_preprocessor'},
    'efficientps_lite2': {'backbone', 'neck', 'data_preprocessor'},
    'efficientps_effb5-se': {'backbone'},
    'efficientps_effb5_bn': HEADS | {'backbone'},
    'efficientps_effb5_syncbn': HEADS | {'backbone'},
    'efficientps_effb5_iabn': HEADS | {'backbone'},
    'efficientps_effb5_fpn': {'neck'},
    'efficientps_effb5_fpn-plain': {'neck'},
    'efficientps_effb5_bottom-up-fpn': {'neck'},
    'efficientps_effb5_pafpn-plain': {'neck'},
    'efficientps_effb5_bifpn': {'neck'},
    'efficientps_effb5_two-way-fpn-plain': {'neck'},
    'efficientps_effb5_all-lsfe': {'semantic_head'},
    'efficientps_effb5_all-dpc': {'semantic_head'},
    'efficientps_effb5_aspp': {'semantic_head'},
    'efficientps_effb5_no-mc': {'semantic_head'},
    'efficientps_effb5_panoptic-fpn-head': {'semantic_head'},
    'efficientps_effb5_plain-mask-head': {'roi_head'},
    'efficientps_effb5_heuristic-fusion': {'panoptic_fusion_head'},
    'efficientps_effb5_sum-fusion': {'panoptic_fusion_head'},
    'efficientps_effb5_product-fusion': {'panoptic_fusion_head'},
    'efficientps_effb5_plain-ce': {'semantic_head'},
    'panoptic-fpn_effb5': BASELINE,
    'toy_city/efficientps_lite0-small_fpn': {'neck'},
    'toy_city/efficientps_lite0-small_fpn-plain': {'neck'},
    'toy_city/efficientps_lite0-small_two-way-fpn-plain': {'neck'},
    'toy_city/efficientps_lite0-small_iabn-neck': {'neck'},
    'toy_city/efficientps_lite0-small_separable-mask-head': {'roi_head'},
    'toy_city/efficientps_lite0-small_separable-mask-head-no-norm': {'roi_head'},
    'toy_city/efficientps_lite0-small_class-specific': {'roi_head'},
    'toy_city/efficientps_lite0-small_one-rate': set(),
    'toy_city/efficientps_lite0-small_slow-backbone': set(),
    'toy_city/efficientps_lite0-small_heuristic-fusion': {'panoptic_fusion_head'},
    'toy_city/efficientps_lite0-small_plain-ce': {'semantic_head'},
    'toy_city/efficientps_lite0-small_worst25': {'semantic_head'},
    'toy_city/efficientps_lite0-small_mask56': {'roi_head', 'train_cfg'},
    'toy_city/efficientps_lite0-small_things-weight2': {'roi_head'},
    'toy_city/efficientps_lite0-small_copy-paste': set(),
    'toy_city/efficientps_lite0-small_scale-jitter': set(),
    'toy_city/efficientps_lite0-small_rare-classes': set(),
    'toy_city/panoptic-fpn_lite0-small': BASELINE,
    'toy_city/maskformer_lite0-small': OF_QUERIES,
    'pedestrian_zone/panoptic-fpn_lite0-small': BASELINE,
}
OUTSIDE_THE_MODEL = {
    'toy_city/efficientps_lite0-small_one-rate': {'optim_wrapper'},
    'toy_city/efficientps_lite0-small_slow-backbone': {'optim_wrapper'},
    'toy_city/efficientps_lite0-small_copy-paste': {'train_dataloader'},
    'toy_city/efficientps_lite0-small_scale-jitter': {
        'train_dataloader',
        'train_pipeline',
    },
    'toy_city/efficientps_lite0-small_rare-classes': {'train_dataloader'},
    # They have no other predictions than panoptic ones to evaluate.
    'panoptic-fpn_effb5': {'val_evaluator', 'test_evaluator'},
    'toy_city/panoptic-fpn_lite0-small': {'val_evaluator', 'test_evaluator'},
    'pedestrian_zone/panoptic-fpn_lite0-small': {'val_evaluator', 'test_evaluator'},
    'toy_city/maskformer_lite0-small': {
        'val_evaluator',
        'test_evaluator',
        'optim_wrapper',
        # what its model is written with
        *('attention', 'channels', 'feed_forward', 'num_classes', 'position'),
    },
}


fromfile = cache(Config.fromfile)


def read(name):
    """The ablation, and the config it is compared with."""
    folder = name[: name.rfind('/') + 1]
    suffix, main = SETTINGS[folder]
    return (
        fromfile(ABLATIONS / f'{name}{suffix}.py'),
        fromfile(CONFIGS / 'efficientps' / main),
    )


def different_keys(a, b):
    return {key for key in a.keys() | b.keys() if a.get(key) != b.get(key)}


def test_every_config_is_listed_here_and_in_the_readme():
    names = set()
    for folder, (suffix, _) in SETTINGS.items():
        for path in (ABLATIONS / folder).glob('*.py'):
            assert path.stem.endswith(suffix), path
            names.add(folder + path.stem.removesuffix(suffix))
    assert names == set(CHANGES)
    linked = set(
        re.findall(r'\]\(([^)]+)\.py\)', (ABLATIONS / 'README.md').read_text())
    )
    files = {
        str(p.relative_to(ABLATIONS).with_suffix('')) for p in ABLATIONS.rglob('*.py')
    }
    assert {link for link in linked if not link.startswith('..')} == files


@pytest.mark.parametrize('name', CHANGES)
def test_ablation_changes_only_what_it_is_about(name):
    cfg, main = read(name)
    assert different_keys(cfg.model, main.model) == CHANGES[name]
    outside = different_keys(
        {k: v for k, v in cfg.items() if k not in ('model', 'norm_cfg')},
        {k: v for k, v in main.items() if k not in ('model', 'norm_cfg')},
    )
    assert outside == OUTSIDE_THE_MODEL.get(name, set())


def small(model):
    """Make the config of a model quick to build and run; what is ablated stays."""
    if model.backbone.get('arch') == 'b5':
        model.backbone.arch = 'b0'
        model.neck.in_channels = [24, 40, 112, 1280]
    model.backbone.init_cfg = None
    if model.type == 'MaskFormer':
        model.test_cfg.object_mask_thr = 0.0
        return model
    model.roi_head.bbox_head.fc_out_channels = 32
    model.train_cfg.rpn_proposal.max_per_img = 20
    model.train_cfg.rcnn.sampler.num = 16
    model.test_cfg.rpn.max_per_img = 20
    # everything an untrained network finds goes into the fusion
    model.test_cfg.rcnn.score_thr = 0.0
    model.test_cfg.rcnn.max_per_img = 10
    if 'score_thr' in model.test_cfg.panoptic:
        model.test_cfg.panoptic.score_thr = 0.0
    return model


@pytest.mark.slow
@pytest.mark.parametrize('name', CHANGES)
def test_ablation_trains_and_predicts(name):
    torch.manual_seed(0)
    model = revert_sync_batchnorm(MODELS.build(small(deepcopy(read(name)[0].model))))
    num_things = model.panoptic_fusion_head.num_things_classes
    num_classes = num_things + model.panoptic_fusion_head.num_stuff_classes
    batch = demo_mm_inputs(
        1,
        [(3, 64, 64)],
        num_items=[2],
        num_classes=num_things,
        with_mask=True,
        with_semantic=True,
    )
    data = model.data_preprocessor(batch, training=True)
    losses = model.train()(**data, mode='loss')
    loss, _ = model.parse_losses(losses)
    loss.backward()
    assert torch.isfinite(loss)
    for key, parameter in model.named_parameters():
        if parameter.requires_grad:
            # distributed training waits for every one of them
            assert parameter.grad is not None, key
    with torch.no_grad():
        results = model.eval().test_step(batch)
    panoptic = results[0].pred_panoptic_seg.sem_seg
    assert panoptic.shape == (1, 64, 64)
    classes = panoptic % INSTANCE_OFFSET
    is_instance = panoptic >= INSTANCE_OFFSET
    assert (classes[is_instance] < num_things).all()
    of_stuff = classes[~is_instance]
    assert ((of_stuff >= num_things) & (of_stuff <= num_classes)).all()


@pytest.fixture(scope='module')
def toy_city(tmp_path_factory, prepare):
    """Folder of a toy_city of a few small scenes."""
    root = tmp_path_factory.mktemp('data') / 'toy_city'
    sizes = ('--size', 128, 64, '--num-train', 4, '--num-val', 1)
    prepare('toy-city', '--out', root, *sizes)
    return root


def training_set(name, root):
    """The data set an ablation trains on, and that of the main config."""
    configs = read(name)
    data_sets = []
    for cfg in deepcopy(configs):
        cfg = cfg.train_dataloader.dataset
        inner = cfg.get('dataset', cfg)
        inner.data_root = f'{root}/'
        data_sets.append(DATASETS.build(cfg))
    return data_sets


def test_copy_paste_adds_instances(toy_city):
    set_random_seed(0)
    ablation, main = training_set(
        'toy_city/efficientps_lite0-small_copy-paste', toy_city
    )
    counts = [
        sum(
            len(data_set[i]['data_samples'].gt_instances)
            for i in range(4)
            for _ in 'abcd'
        )
        for data_set in (ablation, main)
    ]
    assert counts[0] > counts[1]


def test_rare_classes_are_drawn_more_often(toy_city):
    ablation, main = training_set(
        'toy_city/efficientps_lite0-small_rare-classes', toy_city
    )
    shares = [main.get_cat_ids(i) for i in range(len(main))]
    rare = [any(sum(label in s for s in shares) < 2 for label in s) for s in shares]
    assert any(rare)
    assert len(ablation) == len(main) + sum(rare)


def test_scale_jitter_scales_by_more(toy_city):
    ablation, main = training_set(
        'toy_city/efficientps_lite0-small_scale-jitter', toy_city
    )
    spread = []
    for data_set in (ablation, main):
        factors = [data_set[0]['data_samples'].scale_factor[0] for _ in range(30)]
        spread.append(max(factors) / min(factors))
    assert spread[0] > 2 > spread[1]
