# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy
import json
import math
import subprocess
import sys
from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict

from mmdet_efficientps import __version__, init_model
from mmdet_efficientps.datasets import CityscapesPanopticDataset
from mmdet_efficientps.deployment import export
from mmdet_efficientps.deployment.export import (
    ExportError,
    broken_rules,
    compare,
    describe,
    export_onnx,
)

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

CLASSES = CityscapesPanopticDataset.METAINFO['classes']
CITYSCAPES_IDS = {label.name: label.id for label in labels if label.trainId < 19}
del CITYSCAPES_IDS['license plate']


@pytest.fixture(scope='module')
def model(tiny_config, tiny_checkpoint):
    path = tiny_checkpoint.with_suffix('.py')
    config = copy.deepcopy(tiny_config)
    # The network has this number elsewhere, too.
    config.model.test_cfg.rcnn.score_thr = 0.5
    config.dump(path)
    checkpoint = torch.load(tiny_checkpoint, weights_only=True)
    checkpoint['meta'] = dict(license='GPLv3', weights_from='release.pth', seed=0)
    torch.save(checkpoint, path.with_name('with-terms.pth'))
    model = init_model(path, path.with_name('with-terms.pth'), device='cpu')
    # Surer, to find enough in spite of that.
    model.roi_head.bbox_head.fc_cls.weight.data.mul_(4)
    return model


@pytest.fixture(scope='module')
def exported(model, tmp_path_factory):
    """The file, what the export reported, and the network with all it computes."""
    path = tmp_path_factory.mktemp('exported') / 'folder' / 'model.onnx'
    kept = []
    with pytest.MonkeyPatch.context() as patch:
        trace = export._trace
        patch.setattr(export, '_trace', lambda m: kept.append(trace(m)) or kept[0])
        differences = export_onnx(model, path)
    return path, differences, kept[0]


@torch.no_grad()
def predicted_by_pytorch(model, image, size):
    meta = dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0))
    sample = DetDataSample(metainfo=meta)
    features = model.extract_feat(image)
    proposals = model.rpn_head.predict(features, [sample], rescale=False)
    (found,) = model.roi_head.predict(features, proposals, [sample])
    seg_logits = model.semantic_head(features)['seg_preds'][0]
    return found.bboxes, found.scores, found.labels, found.mask_logits, seg_logits


@pytest.mark.slow
@pytest.mark.parametrize(
    ('padded', 'size'),
    [((128, 160), (128, 160)), ((96, 64), (75, 61)), ((64, 288), (50, 270))],
)
def test_one_file_computes_what_pytorch_computes_on_any_size(
    exported, model, padded, size
):
    path, _, _ = exported
    image = torch.zeros(1, 3, *padded)
    generator = torch.Generator().manual_seed(0)
    image[..., : size[0], : size[1]] = torch.randn(3, *size, generator=generator)
    session = onnxruntime.InferenceSession(path)
    outputs = session.run(None, dict(image=image.numpy(), image_size=np.array(size)))
    expected = predicted_by_pytorch(model, image, size)
    assert len(expected[0]) > 10
    for output, value in zip(outputs, expected, strict=True):
        assert output.dtype == value.numpy().dtype
        np.testing.assert_allclose(output, value.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_nothing_detected_is_no_error(exported, model, tmp_path):
    network = onnx.load(exported[0])
    (threshold,) = (c for c in network.graph.initializer if c.name == 'score_thr')
    two = np.full((1, 1), 2, np.float32)
    threshold.CopyFrom(onnx.numpy_helper.from_array(two, 'score_thr'))
    session = onnxruntime.InferenceSession(network.SerializeToString())
    image = np.zeros((1, 3, 64, 96), np.float32)
    outputs = session.run(None, dict(image=image, image_size=np.array([64, 96])))
    shapes = [output.shape for output in outputs]
    assert shapes == [(0, 4), (0,), (0,), (0, 28, 28), (19, 16, 24)]


@pytest.mark.slow
def test_inputs_outputs_and_metadata_say_how_to_use_the_file(exported):
    network = onnx.load(exported[0])
    onnx.checker.check_model(network, full_check=True)
    assert [i.name for i in network.graph.input] == ['image', 'image_size']
    names = ['bboxes', 'scores', 'labels', 'mask_logits', 'seg_logits']
    assert [o.name for o in network.graph.output] == names
    used = {name for node in network.graph.node for name in node.input}
    made = {name for node in network.graph.node for name in node.output if name}
    assert made - used == set(names) - used, 'something is computed for nothing'
    assert {node.domain for node in network.graph.node} == {''}
    (entry,) = network.metadata_props
    assert entry.key == 'mmdet_efficientps'
    metadata = json.loads(entry.value)
    assert metadata.pop('version') == __version__
    categories = metadata.pop('categories')
    assert [c['name'] for c in categories] == list(CLASSES)
    assert {c['name']: c['id'] for c in categories} == CITYSCAPES_IDS
    assert [c['isthing'] for c in categories] == [1] * 8 + [0] * 11
    assert all(len(c['color']) == 3 for c in categories)
    assert metadata == dict(
        format=1,
        num_things=8,
        mean=[127.0, 127.0, 127.0],
        std=[128.0, 128.0, 128.0],
        to_rgb=True,
        scale=[512, 256],
        keep_ratio=True,
        pad_divisor=32,
        fusion=dict(
            score_thr=0.4,
            overlap_thr=0.5,
            min_stuff_area=512,
            mask_logits_scale=4.0,
            combine='efficientps',
        ),
        license='GPLv3',
        weights_from='release.pth',
    )


@pytest.mark.slow
def test_the_export_reports_how_much_differs(exported):
    _, differences, _ = exported
    assert {'semantic logits', 'rpn', 'mask logits', 'results'} <= differences.keys()
    assert 0 < max(differences.values()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ('weights', 'part'),
    [
        ('semantic_head.conv_logits.bias', 'semantic logits'),
        ('rpn_head.rpn_cls.bias', 'rpn'),
        ('roi_head.bbox_head.fc_cls.bias', 'class logits'),
        ('roi_head.bbox_head.fc_reg.bias', 'box deltas'),
        ('roi_head.mask_head.conv_logits.bias', 'mask logits'),
    ],
)
def test_weights_that_differ_are_found_where_they_are(exported, model, weights, part):
    path, _, traced = exported
    other = copy.deepcopy(model)
    other.get_parameter(weights).data.add_(0.01)
    differences = compare(other, traced, path)
    assert differences.pop(part) == pytest.approx(0.01, abs=1e-3)
    assert max(differences.values()) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    ('field', 'value', 'part'),
    [
        ('rpn_head.test_cfg.nms.iou_threshold', 0.3, 'proposals'),
        ('roi_head.test_cfg.nms.iou_threshold', 0.2, 'detections'),
        ('roi_head.test_cfg.score_thr', 0.8, 'results'),
        ('roi_head.bbox_head.bbox_coder.stds', (0.2,) * 4, 'candidates'),
        ('rpn_head.bbox_coder.means', (0.1,) * 4, 'anchors'),
    ],
)
def test_settings_that_differ_are_found_where_they_are(
    exported, model, field, value, part
):
    path, _, traced = exported
    other = copy.deepcopy(model)
    owner, _, name = field.rpartition('.')
    setattr(attrgetter(owner)(other), name, value)
    differences = compare(other, traced, path)
    assert differences.pop(part) > 1e-2
    assert max(differences.values()) < 1e-3


@pytest.mark.slow
def test_a_file_that_differs_is_not_left(model, tmp_path, monkeypatch):
    monkeypatch.setattr(export, '_trace', lambda model: onnx.ModelProto())
    monkeypatch.setattr(export, 'compare', lambda *_: {'rpn': 0.0, 'results': 0.002})
    with pytest.raises(ExportError, match='by 0.002 in results, where 0.001 is'):
        export_onnx(model, tmp_path / 'model.onnx')
    monkeypatch.setattr(export, 'compare', lambda *_: {'rpn': math.nan})
    with pytest.raises(ExportError, match='by nan in rpn'):
        export_onnx(model, tmp_path / 'model.onnx')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('name', ['onnx', 'onnxscript', 'onnxruntime'])
def test_a_missing_package_is_named_with_the_command(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match='`pip install onnx onnxscript onnxruntime`'):
        export_onnx(torch.nn.Identity(), tmp_path / 'model.onnx')


@pytest.mark.parametrize(
    ('step', 'expected'),
    [
        (
            dict(type='PanopticResize', scale=(64, 32), keep_ratio=True),
            ([64, 32], True),
        ),
        (dict(type='mmdet.Resize', scale=48), ([48, 48], False)),
        (dict(type='ResizeImageToLabel'), (None, True)),
    ],
)
def test_the_resize_is_that_of_the_test_pipeline(model, step, expected):
    model = copy.copy(model)
    model.cfg = copy.deepcopy(model.cfg)
    model.cfg.test_dataloader.dataset.pipeline[1] = step
    metadata = describe(model)
    assert (metadata['scale'], metadata['keep_ratio']) == expected


@pytest.mark.parametrize(
    ('step', 'message'),
    [
        (dict(type='Resize', scale_factor=0.5), 'Resize in the test pipeline has no'),
        (dict(type='RandomResize', scale=(8, 8)), 'RandomResize in the test pipeline'),
    ],
)
def test_a_resize_that_the_runtime_does_not_have_is_refused(model, step, message):
    model = copy.copy(model)
    model.cfg = copy.deepcopy(model.cfg)
    model.cfg.test_dataloader.dataset.pipeline[1] = step
    with pytest.raises(ValueError, match=message):
        describe(model)


def test_class_names_that_do_not_fit_are_refused(model):
    model = copy.copy(model)
    model.dataset_meta = dict(classes=('cat', 'mat'))
    with pytest.raises(ValueError, match='2 class names .* for the 19 classes'):
        describe(model)


BOXES = torch.tensor(
    [[0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [20, 0, 30, 10], [0, 0, 10, 10]]
).float()
SCORES = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5])
GROUPS = torch.tensor([0, 0, 0, 0, 1])


@pytest.mark.parametrize(
    ('chosen', 'options', 'expected'),
    [
        # Box 1 overlaps box 0 by 0.8, box 2 by 0.5.
        ([0, 2, 3, 4], {}, 0),
        ([0, 1, 3, 4], {}, 0.1),
        ([0, 3, 4], {}, 0.2),
        # Box 0 overlaps better ones only by less: instead of box 1 it had to be chosen.
        ([1, 3, 4], {}, 0.1),
        ([0, 2, 3], {}, 0.7),
        ([0, 0, 2, 3, 4], {}, math.inf),
        ([], {}, math.inf),
        ([0, 2, 3], dict(max_per_img=3), 0),
        ([0, 2, 4], dict(max_per_img=3), 0.1),
        ([0, 2, 3], dict(class_agnostic=True), 0),
        ([0, 2, 3, 4], dict(class_agnostic=True), 0.3),
        # A pixel wider, box 2 overlaps by 6 / 11.
        ([0, 2, 3, 4], dict(offset=1, iou_threshold=0.54), 6 / 11 - 0.54),
    ],
)
def test_the_rules_of_suppression_are_checked(chosen, options, expected):
    nms = dict(iou_threshold=0.7)
    max_per_img = options.pop('max_per_img', 10)
    cfg = ConfigDict(nms=dict(nms, **options), max_per_img=max_per_img)
    chosen = torch.tensor(chosen, dtype=torch.int64)
    broken = broken_rules(BOXES, SCORES, GROUPS, chosen, cfg)
    assert broken == pytest.approx(expected, abs=1e-6)


def test_boxes_that_are_too_small_must_not_be_chosen():
    cfg = ConfigDict(nms=dict(iou_threshold=0.7), max_per_img=10)
    scores = torch.tensor([-1, 0.8, 0.7, 0.6, 0.5])
    right = torch.tensor([1, 2, 3, 4])
    assert broken_rules(BOXES, scores, GROUPS, right, cfg) == 0
    wrong = torch.tensor([0, 2, 3, 4])
    assert broken_rules(BOXES, scores, GROUPS, wrong, cfg) == math.inf


@pytest.mark.slow
def test_the_package_does_not_need_onnx():
    code = (
        'import sys\n'
        "for name in ('onnx', 'onnxscript', 'onnxruntime'): sys.modules[name] = None\n"
        'import mmdet_efficientps.deployment.export\n'
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, '-c', code], check=True, cwd=root)
