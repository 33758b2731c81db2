# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

# Ids that are neither labels nor in their order; two things come first.
CATEGORIES = [
    {'id': 24, 'name': 'person', 'supercategory': 'human', 'isthing': 1},
    {'id': 3, 'name': 'car', 'supercategory': 'vehicle', 'isthing': 1},
    {'id': 7, 'name': 'road', 'supercategory': 'flat', 'isthing': 0},
    {'id': 11, 'name': 'building', 'supercategory': '', 'isthing': 0},
    {'id': 23, 'name': 'sky', 'supercategory': '', 'isthing': 0},
]
for _category, _color in zip(
    CATEGORIES,
    ([220, 20, 60], [0, 0, 142], [128, 64, 128], [70, 70, 70], [70, 130, 180]),
    strict=True,
):
    _category['color'] = _color
METADATA = {
    'format': 1,
    'version': '1.0',
    'categories': CATEGORIES,
    'num_things': 2,
    'mean': [123.675, 116.28, 103.53],
    'std': [58.395, 57.12, 57.375],
    'to_rgb': True,
    'scale': [96, 64],
    'keep_ratio': True,
    'pad_divisor': 32,
    'fusion': {
        'score_thr': 0.5,
        'overlap_thr': 0.5,
        'min_stuff_area': 10,
        'mask_logits_scale': 4.0,
        'combine': 'efficientps',
    },
}


def tiny_network(metadata, seg_logits='seg_logits'):
    """A network of the exporter's inputs and outputs, without weights worth a name.

    Semantic logits are the mean colors of 4 x 4 pixels, weighted; three boxes lie at
    fixed parts of the image, whose mask logits follow the brightness of the image.
    """
    rng = np.random.default_rng(0)
    corners = [[0.1, 0.2, 0.45, 0.9], [0.5, 0.3, 1.02, 0.8], [0.0, 0.0, 0.6, 0.4]]
    values = {
        'color_weights': rng.normal(size=(5, 3, 1, 1)).astype(np.float32),
        'corners': np.array(corners, np.float32),
        'x_y': np.array([1, 0, 1, 0]),
        'masks': rng.normal(1, 2, (3, 7, 7)).astype(np.float32),
        'first': np.array([0]),
        'given_scores': np.array([0.9, 0.7, 0.3], np.float32),
        'given_labels': np.array([1, 0, 1]),
    }
    node = helper.make_node
    nodes = [
        node('AveragePool', ['image'], ['cells'], kernel_shape=[4, 4], strides=[4, 4]),
        node('Conv', ['cells', 'color_weights'], ['classes']),
        node('Squeeze', ['classes', 'first'], [seg_logits]),
        node('Cast', ['image_size'], ['size'], to=TensorProto.FLOAT),
        node('Gather', ['size', 'x_y'], ['sides']),
        node('Mul', ['corners', 'sides'], ['bboxes']),
        node('ReduceMean', ['image'], ['brightness'], keepdims=0),
        node('Add', ['masks', 'brightness'], ['mask_logits']),
        node('Identity', ['given_scores'], ['scores']),
        node('Identity', ['given_labels'], ['labels']),
    ]
    value = helper.make_tensor_value_info
    floating, integer = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes,
        'tiny',
        [value('image', floating, [1, 3, 'H', 'W']), value('image_size', integer, [2])],
        [
            value('bboxes', floating, ['M', 4]),
            value('scores', floating, ['M']),
            value('labels', integer, ['M']),
            value('mask_logits', floating, ['M', 7, 7]),
            value(seg_logits, floating, [5, 'h', 'w']),
        ],
        [numpy_helper.from_array(array, name) for name, array in values.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=10
    )
    onnx.checker.check_model(model, full_check=True)
    if metadata is not None:
        helper.set_model_props(model, {'mmdet_efficientps': json.dumps(metadata)})
    return model


@pytest.fixture
def write_network(tmp_path):
    """Write a tiny network; fields of its metadata may be others."""

    def _write_network(name='model.onnx', metadata=METADATA, **fields):
        path = tmp_path / 'network' / name
        path.parent.mkdir(exist_ok=True)
        onnx.save(tiny_network(metadata and {**metadata, **fields}), path)
        return path

    return _write_network


@pytest.fixture
def photograph():
    """Make a picture with areas and noise, (H, W, 3), uint8, BGR."""

    def _photograph(height, width, seed=0):
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), 3))
        picture = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
        noise = rng.integers(-20, 21, picture.shape)
        return (picture + noise).clip(0, 255).astype(np.uint8)

    return _photograph
