# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.utils import register_all_modules
from mmengine.registry import init_default_scope

from mmdet_efficientps import get_config, init_model
from mmdet_efficientps.testing.data_set_trees import WRITERS

ROOT = Path(__file__).parents[1]
SMALL = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'


@pytest.fixture(scope='session', autouse=True)
def _default_scope():
    """The scope configs are read in: every one of them sets default_scope."""
    register_all_modules(init_default_scope=True)


@pytest.fixture(scope='session')
def prepare():
    """Run tools/prepare_dataset.py in this process."""
    spec = importlib.util.spec_from_file_location(
        'prepare_dataset', ROOT / 'tools/prepare_dataset.py'
    )
    prepare_dataset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare_dataset)

    def _prepare(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', ['prepare_dataset.py', *map(str, arguments)])
            prepare_dataset.main()

    return _prepare


@pytest.fixture
def load_tool(monkeypatch):
    """Import a script of tools/ for one test; scripts it imports go first."""

    def _load_tool(path):
        spec = importlib.util.spec_from_file_location(
            Path(path).stem, ROOT / 'tools' / path
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return _load_tool


@pytest.fixture
def write_tree(tmp_path):
    """Write the miniature of a kind; gives what to spoil and what to expect."""

    def _write_tree(kind, folder='download', **kwargs):
        return WRITERS[kind](tmp_path / folder, **kwargs)

    return _write_tree


@pytest.fixture(params=WRITERS)
def tree(request, write_tree):
    """The miniature of each kind."""
    return write_tree(request.param)


@pytest.fixture(scope='session')
def small_checkpoint(tmp_path_factory):
    """Checkpoint of the small network for images of 128 x 64, its config inside.

    The weights are random; detections have scores from 0.05.
    """
    config = get_config(SMALL)
    for pipeline in (config.test_pipeline, config.test_dataloader.dataset.pipeline):
        pipeline[1].update(type='PanopticResize', scale=(128, 64))
    torch.manual_seed(0)
    model = init_model(SMALL, device='cpu')
    # So that there are masks, classes differ from place to place, and scores from each
    # other: which of two equal ones comes first is up to the last bit.
    for layer, std in (
        (model.roi_head.mask_head.conv_logits, 0.5),
        (model.semantic_head.conv_logits, 0.5),
        (model.roi_head.bbox_head.fc_cls, 0.5),
        (model.rpn_head.rpn_cls, 0.5),
    ):
        torch.nn.init.normal_(layer.weight, std=std)
    # Both things and stuff win somewhere.
    model.roi_head.mask_head.conv_logits.bias.data += 5
    model.semantic_head.conv_logits.bias.data[8:] += 1
    path = tmp_path_factory.mktemp('checkpoint') / 'small.pth'
    dataset_meta = {'classes': model.dataset_meta['classes']}
    torch.save(
        {
            'state_dict': model.state_dict(),
            'meta': {'cfg': config.pretty_text, 'dataset_meta': dataset_meta},
        },
        path,
    )
    return path


@pytest.fixture
def photographs(tmp_path):
    """Folder of two drives with images of the same names and several sizes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / 'photographs'
    for number, (name, shape) in enumerate(
        {
            'drive1/0.jpg': (60, 130),
            'drive1/1.png': (60, 130),
            'drive2/0.jpg': (33, 71),
            'last.bmp': (64, 128),
        }.items()
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image = rng.integers(0, 256, (*shape, 3), np.uint8)
        cv2.imwrite(str(path), cv2.blur(image, (5, 5)) // (number + 1))
    return folder


@pytest.fixture(scope='session')
def chromium():
    """A headless Chromium, driven by selenium."""
    webdriver = pytest.importorskip(
        'selenium.webdriver', reason='needs selenium: pip install selenium'
    )
    paths = [
        next(filter(None, map(shutil.which, names)), None)
        for names in (('chromium', 'chromium-browser', 'chrome'), ('chromedriver',))
    ]
    if None in paths:
        pytest.skip(
            'needs Chromium and its driver: apt-get install chromium chromium-driver'
        )
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--window-size=1300,900',
        # Whatever a page would fetch fails and is logged.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost',
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(paths[1])
    )
    yield driver
    driver.quit()


@pytest.fixture
def open_page(chromium):
    """Open a file; at the end of the test nothing may be on the console."""

    def open_file(path):
        chromium.get(path.as_uri())
        return chromium

    yield open_file
    assert chromium.get_log('browser') == []


@pytest.fixture(scope='session')
def tiny_config():
    """The demo's config with a network that is exported in seconds.

    It has the paper's neck and heads, with norm layers everywhere.
    """
    norm_cfg = dict(type='InPlaceABNSync')
    channels = dict(in_channels=16)
    extractor = dict(out_channels=16)
    cfg = get_config('efficientps_lite0-small_1xb2-760_toy-city-256x512')
    model = dict(
        backbone=dict(
            _delete_=True,
            type='ResNet',
            depth=18,
            base_channels=8,
            norm_cfg=dict(type='BN'),
            norm_eval=False,
        ),
        neck=dict(
            in_channels=[8, 16, 32, 64],
            out_channels=16,
            norm_cfg=dict(norm_cfg, _delete_=True),
            act_cfg=dict(type='LeakyReLU', negative_slope=0.01, _delete_=True),
        ),
        semantic_head=dict(inner_channels=8, norm_cfg=norm_cfg, **channels),
        rpn_head=dict(feat_channels=16, **channels),
        roi_head=dict(
            bbox_roi_extractor=extractor,
            bbox_head=dict(fc_out_channels=32, reg_class_agnostic=False, **channels),
            mask_roi_extractor=extractor,
            mask_head=dict(
                _delete_=True,
                type='SeparableConvMaskHead',
                num_convs=4,
                conv_out_channels=16,
                num_classes=8,
                norm_cfg=norm_cfg,
                **channels,
            ),
        ),
    )
    cfg.merge_from_dict(dict(model=model))
    return cfg


@pytest.fixture(scope='session')
def like_trained():
    """Give a network weights that find something."""

    def _like_trained(model):
        torch.manual_seed(0)
        for name, weights in model.state_dict().items():
            # No norm is the identity, and scores are far from each other.
            if name.endswith('running_var'):
                weights.uniform_(0.1, 0.5)
            elif name.endswith(('running_mean', '.bias')):
                weights.normal_(0, 0.1)
            elif name.endswith('fc_cls.weight'):
                weights.normal_(0, 0.5)
            elif name.endswith(('rpn_cls.weight', 'rpn_reg.weight', 'fc_reg.weight')):
                weights.normal_(0, 0.05)
            elif weights.dim() == 1 and name.endswith('.weight'):
                weights.uniform_(-1.5, 1.5)
        return model.eval()

    return _like_trained


@pytest.fixture(scope='session')
def tiny_checkpoint(tiny_config, like_trained, tmp_path_factory):
    """Such weights for the tiny network."""
    torch.manual_seed(0)
    init_default_scope('mmdet')
    model = like_trained(MODELS.build(tiny_config.model))
    path = tmp_path_factory.mktemp('tiny') / 'tiny.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)
    return path
