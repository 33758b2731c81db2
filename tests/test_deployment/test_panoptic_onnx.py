# Licensed under the Apache License, Version 2.0. See LICENSE.
import ast
import json
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from mmdet.registry import MODELS
from mmdet.structures.bbox import scale_boxes
from mmengine.dataset import Compose
from PIL import Image

from mmdet_efficientps.datasets.transforms import LoadCheckedImage
from mmdet_efficientps.deployment import panoptic_onnx
from mmdet_efficientps.deployment.panoptic_onnx import (
    ModelError,
    PanopticOnnx,
    draw_panoptic,
    measure_segments,
    panoptic_fusion,
    read_image,
)
from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
    fuse_segments,
    valid_logits_shape,
)
from mmdet_efficientps.visualization import panoptic_drawing

NAN, INF = float('nan'), float('inf')
GOLDEN = Path(__file__).parents[1] / 'data' / 'fusion_cases.npz'
# Largest share of pixels that may differ: those decided by rounding errors.
TIES = 1e-3


def random_scene(rng, cells, out_shape, count, num_things=3, num_stuff=4):
    """Logits and detections of all sizes, some partly or wholly outside the image."""
    height, width = out_shape
    size = np.array([width, height])
    center = size * (1.3 * rng.random((count, 2)) - 0.15)
    half = size * (0.01 + 0.35 * rng.random((count, 2)) ** 2)
    # Neighbors mostly agree about the class, as in photographs.
    coarse = 3 * rng.normal(
        size=(num_things + num_stuff, cells[0] // 4 + 1, cells[1] // 4 + 1)
    )
    sem_logits = coarse.repeat(4, 1).repeat(4, 2)[:, : cells[0], : cells[1]]
    return {
        'sem_logits': sem_logits + 0.3 * rng.normal(size=sem_logits.shape),
        'bboxes': np.concatenate([center - half, center + half], 1),
        'scores': rng.random(count),
        'labels': rng.integers(num_things, size=count),
        'mask_logits': 0.5 + rng.normal(size=(count, 7, 7)),
        'out_shape': out_shape,
        'num_things': num_things,
        'min_stuff_area': 20,
    }


def on_torch(scene):
    """The same as tensors, all numbers in float32."""
    return {
        key: torch.from_numpy(
            value.astype(np.float32 if value.dtype.kind == 'f' else int)
        )
        if isinstance(value, np.ndarray)
        else value
        for key, value in scene.items()
    }


def assert_fused_as_on_torch(scene):
    """Fuse; gives the map, and the detections of its instances."""
    expected, expected_kept = fuse_segments(**on_torch(scene))
    given = {
        key: value.astype(np.float32)
        if isinstance(value, np.ndarray) and value.dtype.kind == 'f'
        else value
        for key, value in scene.items()
    }
    before = {k: v.copy() for k, v in given.items() if isinstance(v, np.ndarray)}
    panoptic, kept = panoptic_fusion(**given)
    assert panoptic.dtype == np.int32
    assert panoptic.shape == scene['out_shape']
    assert np.mean(panoptic != expected.numpy()) <= TIES
    assert kept.tolist() == expected_kept
    for key, value in before.items():
        np.testing.assert_array_equal(given[key], value)
    return panoptic, kept


@pytest.mark.parametrize('combine', ['efficientps', 'sum', 'product'])
@pytest.mark.parametrize(
    ('cells', 'out_shape', 'valid_shape'),
    [
        ((16, 24), (64, 96), None),
        ((25, 37), (100, 150), (23.5, 36.25)),
        ((32, 40), (61, 77), (31.0, 33.3)),
        ((9, 12), (301, 407), (8.2, 11.9)),
        ((30, 20), (30, 20), None),
    ],
)
def test_fusion_equals_that_on_torch(cells, out_shape, valid_shape, combine):
    rng = np.random.default_rng(sum(cells))
    seen = 0
    for _ in range(3):
        scene = random_scene(rng, cells, out_shape, count=15)
        settings = {'valid_shape': valid_shape, 'combine': combine}
        panoptic, kept = assert_fused_as_on_torch({**scene, **settings})
        seen += len(np.unique(panoptic))
        # the rank and the label of an instance are those of its detection
        codes = np.unique(panoptic[panoptic >= 1000])
        labels = scene['labels'][kept[codes // 1000 - 1]]
        np.testing.assert_array_equal(codes % 1000, labels)
    assert seen > 12


@pytest.mark.parametrize(
    'case', sorted({key.split('/')[0] for key in np.load(GOLDEN).files})
)
def test_fusion_equals_that_on_torch_in_cases_of_the_release(case):
    with np.load(GOLDEN) as file:
        arrays = {
            key.split('/')[1]: file[key]
            for key in file.files
            if key.startswith(f'{case}/')
        }
    labels = arrays['labels'].astype(int)
    assert_fused_as_on_torch(
        {
            # In the file stuff comes first (0-10), then things (11-18).
            'sem_logits': np.roll(arrays['sem_logits'][0], 8, 0),
            'bboxes': arrays['boxes'],
            'scores': arrays['scores'],
            'labels': labels,
            'mask_logits': arrays['mask_logits'][np.arange(len(labels)), labels + 1],
            'out_shape': (128, 256),
            'num_things': 8,
        }
    )


def broken(seed, **changes):
    """A scene with values of one array replaced."""
    scene = random_scene(np.random.default_rng(seed), (16, 24), (64, 90), count=10)
    for name, (where, value) in changes.items():
        scene[name][where] = value
    return scene


@pytest.mark.parametrize(
    'changes',
    [
        {'sem_logits': ((2, slice(3, 9)), NAN)},
        {'sem_logits': ((5, slice(3, 9)), INF)},
        {'sem_logits': ((5, slice(3, 9)), -INF)},
        {'sem_logits': ((slice(0, 6), slice(None), slice(0, 9)), NAN)},
        {'mask_logits': ((0, 3, 3), NAN)},
        {'mask_logits': (0, INF)},
        {'mask_logits': ((slice(None), slice(0, 4)), -INF)},
        {'mask_logits': (slice(None), -1.0)},
        {'mask_logits': (0, 0.0)},
        {'scores': (slice(0, 2), NAN)},
        {'scores': (0, INF)},
        {'scores': (slice(None), 0.7)},
        {'bboxes': ((0, 2), NAN)},
        {'bboxes': ((0, 3), INF)},
        {'bboxes': (0, [5.0, 5.0, 5.0, 9.0])},
        {'bboxes': (0, [9.0, 5.0, 5.0, 9.0])},
        {'bboxes': (0, [-40.0, -40.0, -20.0, -20.0])},
        {'bboxes': (0, [300.0, 10.0, 320.0, 20.0])},
        {'bboxes': (0, [-1e9, -1e9, 1e9, 1e9])},
    ],
    ids=str,
)
@pytest.mark.parametrize('combine', ['efficientps', 'sum', 'product'])
def test_fusion_of_what_a_broken_network_predicts_equals_that_on_torch(
    changes, combine
):
    for seed in range(2):
        assert_fused_as_on_torch({**broken(seed, **changes), 'combine': combine})


@pytest.mark.parametrize(
    ('count', 'num_things', 'num_stuff'), [(0, 3, 4), (8, 7, 0), (0, 7, 0), (8, 1, 1)]
)
def test_fusion_without_detections_or_stuff_equals_that_on_torch(
    count, num_things, num_stuff
):
    rng = np.random.default_rng(0)
    scene = random_scene(rng, (16, 24), (64, 96), count, num_things, num_stuff)
    assert_fused_as_on_torch(scene)


@pytest.mark.parametrize('out_shape', [(1, 1), (12, 512), (300, 1)])
def test_fusion_of_a_strip_equals_that_on_torch(out_shape):
    scene = random_scene(np.random.default_rng(0), (75, 128), out_shape, count=6)
    valid_shape = (out_shape[0] / 4, out_shape[1] / 4)
    assert_fused_as_on_torch({**scene, 'valid_shape': valid_shape})


@pytest.mark.parametrize(
    'settings',
    [
        {'overlap_thr': 0.0},
        {'overlap_thr': 0.2},
        {'overlap_thr': 1.0},
        {'min_stuff_area': 0},
        {'min_stuff_area': 10**6},
        {'mask_logits_scale': 1.0},
    ],
)
def test_fusion_with_other_settings_equals_that_on_torch(settings):
    scene = random_scene(np.random.default_rng(1), (16, 24), (64, 96), count=15)
    assert_fused_as_on_torch({**scene, **settings})


@pytest.mark.parametrize(
    ('changes', 'match'),
    [
        ({'labels': np.full(10, 3)}, r'there are 3 thing classes, .*\[3\]'),
        ({'labels': np.full(10, -1)}, r'there are 3 thing classes, .*\[-1\]'),
        ({'num_things': 9}, 'there are 9 thing classes, but 7 channels'),
        ({'combine': 'max'}, "combine is 'max', must be one of"),
    ],
)
def test_fusion_refuses_what_does_not_fit(changes, match):
    with pytest.raises(ValueError, match=match):
        panoptic_fusion(**{**broken(0), **changes})


def test_fusion_of_a_large_image_takes_little_memory(load_tool):
    load_tool('analysis_tools/benchmarking.py')
    scene = load_tool('analysis_tools/benchmark_fusion.py').make_inputs(1024, 2048, 30)
    scene = {k: v.numpy() if torch.is_tensor(v) else v for k, v in scene.items()}
    tracemalloc.start()
    try:
        panoptic, _ = panoptic_fusion(**scene)
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < 80
    expected = fuse_segments(**on_torch(scene)).panoptic.numpy()
    assert np.mean(panoptic != expected) <= TIES


def test_segments_are_measured_as_their_pixels_are():
    rng = np.random.default_rng(0)
    panoptic = rng.choice([0, 7, 1003, 99_002], (5, 4)).repeat(3, 0).repeat(2, 1)
    codes, areas, boxes = measure_segments(panoptic)
    assert codes.tolist() == np.unique(panoptic).tolist()
    for code, area, box in zip(codes, areas, boxes, strict=True):
        y, x = np.nonzero(panoptic == code)
        assert area == len(y)
        ends = np.array([x.max(), y.max()]) + 1
        assert box.tolist() == [x.min(), y.min(), *(ends - [x.min(), y.min()])]


def package_pipeline(metadata):
    """What the package makes of an image on its way to the network."""
    pipeline = [dict(type='PackPanopticTargets', meta_keys=('img_shape', 'ori_shape'))]
    if metadata['scale'] is not None:
        pipeline[0]['meta_keys'] += ('scale_factor',)
        resize = dict(type='PanopticResize', scale=tuple(metadata['scale']))
        pipeline.insert(0, {**resize, 'keep_ratio': metadata['keep_ratio']})
    preprocessor = MODELS.build(
        dict(
            type='DetDataPreprocessor',
            mean=metadata['mean'],
            std=metadata['std'],
            bgr_to_rgb=metadata['to_rgb'],
            pad_size_divisor=metadata['pad_divisor'],
        )
    )

    def prepare(image):
        packed = Compose(pipeline)(
            {'img': image, 'img_shape': image.shape[:2], 'ori_shape': image.shape[:2]}
        )
        batch = {key: [value] for key, value in packed.items()}
        data = preprocessor(batch, training=False)
        return data['inputs'], data['data_samples'][0].metainfo

    return prepare


@pytest.mark.parametrize(
    'fields',
    [
        {},
        {'to_rgb': False, 'mean': [127.0, 127.0, 127.0], 'std': [128.0, 128.0, 128.0]},
        {'scale': [64, 96]},
        {'scale': [90, 70], 'keep_ratio': False},
        {'scale': None},
    ],
    ids=str,
)
@pytest.mark.parametrize(
    'shape', [(64, 96), (63, 97), (500, 333), (41, 29), (1, 1), (3, 700), (128, 192)]
)
def test_the_network_gets_what_the_package_gives_it(
    write_network, photograph, fields, shape
):
    model = PanopticOnnx(write_network(**fields))
    image = photograph(*shape)
    expected, meta = package_pipeline(model.metadata)(image.copy())

    logits = model.logits(image)
    inputs, image_shape = model._preprocess(image)

    np.testing.assert_array_equal(inputs, expected.numpy())
    assert image_shape == meta['img_shape'][:2]
    assert logits.out_shape == shape
    expected_shape = valid_logits_shape(torch.from_numpy(logits.seg_logits), meta)
    assert logits.valid_shape == expected_shape
    # The boxes are at fixed parts of what the network saw of the image.
    size = {'image': inputs, 'image_size': np.array(image_shape)}
    boxes = torch.from_numpy(model.session.run(['bboxes'], size)[0])
    factors = meta.get('scale_factor', (1.0, 1.0))
    expected_boxes = scale_boxes(boxes, tuple(1 / factor for factor in factors))
    np.testing.assert_allclose(logits.bboxes, expected_boxes.numpy(), rtol=1e-6)


def test_a_prediction_lists_the_segments_of_its_map(write_network, photograph):
    model = PanopticOnnx(write_network(), threads=1)
    image = photograph(100, 140)
    result = model.predict(image)
    assert result.panoptic.shape == (100, 140)
    by_id = {segment.id: segment for segment in result.segments}
    assert sorted(by_id) == np.unique(result.ids[result.ids > 0]).tolist()
    assert [s.score for s in result.segments if s.isthing] == pytest.approx([0.9, 0.7])
    for number, segment in by_id.items():
        label = (number - 1) % 1000
        assert segment.area == np.count_nonzero(result.panoptic == number - 1)
        assert segment.category_id == model.categories[label]['id']
        assert segment.isthing == (label < 2) == (segment.score is not None)
    # the third detection is less sure than the network was exported for
    kept = model.fuse(model.logits(image))[1]
    assert kept.tolist() == [0, 1]
    # with it, whatever surer ones cover of it
    kept = model.fuse(model.logits(image), score_thr=0.2, overlap_thr=1.0)[1]
    assert kept.tolist() == [0, 1, 2]
    stuff = model.fuse(model.logits(image), min_stuff_area=10**6)[0]
    assert set(np.unique(stuff % 1000)) <= {0, 1, 5}


@pytest.mark.parametrize(
    'image',
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((0, 8, 3), np.uint8),
        'street.jpg',
        None,
    ],
    ids=str,
)
def test_what_is_no_image_is_refused(write_network, image):
    model = PanopticOnnx(write_network())
    with pytest.raises(ValueError, match='must be an array of shape'):
        model.predict(image)


@pytest.mark.parametrize('alpha', [0.55, 0.3])
def test_a_drawing_equals_that_of_the_package(photograph, alpha):
    rng = np.random.default_rng(0)
    panoptic = rng.choice([0, 1, 2, 4, 5, 1000, 2001, 3000, 40_001, 120_000], (9, 13))
    panoptic = panoptic.repeat(9, 0).repeat(11, 1).astype(np.int32)
    image = photograph(*panoptic.shape)
    palette = rng.integers(0, 256, (5, 3)).tolist()
    expected = panoptic_drawing.draw_panoptic(
        image[..., ::-1], panoptic, palette, alpha
    )
    drawn = draw_panoptic(image, panoptic, palette, alpha)
    np.testing.assert_array_equal(drawn[..., ::-1], expected)


def test_image_and_map_of_different_size_are_not_drawn(photograph):
    with pytest.raises(ValueError, match='must be of one size'):
        draw_panoptic(photograph(8, 8), np.zeros((8, 9), np.int32), [[0, 0, 0]])


def write_turned(path, picture):
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90 degrees
    Image.fromarray(picture).save(path, exif=exif, quality=95)


KINDS = {
    'turned.jpg': write_turned,
    'grey.png': lambda path, picture: cv2.imwrite(path, picture[..., 0]),
    'alpha.png': lambda path, picture: cv2.imwrite(
        path, np.dstack([picture, picture[..., :1]])
    ),
    '16bit.png': lambda path, picture: cv2.imwrite(path, picture * np.uint16(257)),
    'palette.png': lambda path, picture: (
        Image.fromarray(picture).quantize(16).save(path)
    ),
    'cmyk.jpg': lambda path, picture: (
        Image.fromarray(picture).convert('CMYK').save(path)
    ),
    '16bit.tiff': lambda path, picture: cv2.imwrite(path, picture * np.uint16(257)),
    'a name \N{SNOWMAN}.webp': lambda path, picture: Image.fromarray(picture).save(
        path
    ),
}


@pytest.mark.parametrize('name', KINDS)
def test_an_image_is_read_as_the_package_reads_it(tmp_path, photograph, name):
    path = tmp_path / name
    KINDS[name](str(path), photograph(20, 30))
    image = read_image(path)
    expected = LoadCheckedImage().transform({'img_path': str(path)})['img']
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, expected)
    assert image.shape == ((30, 20, 3) if name == 'turned.jpg' else (20, 30, 3))


def not_ours(path):
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)


def metadata_without(key):
    def spoil(path):
        model = onnx.load(path)
        (entry,) = model.metadata_props
        metadata = json.loads(entry.value)
        del metadata[key]
        entry.value = json.dumps(metadata)
        onnx.save(model, path)

    return spoil


def metadata_text(text):
    def spoil(path):
        model = onnx.load(path)
        model.metadata_props[0].value = text
        onnx.save(model, path)

    return spoil


def without_output(path):
    model = onnx.load(path)
    del model.graph.output[-1]
    onnx.save(model, path)


@pytest.mark.parametrize(
    ('spoil', 'match'),
    [
        (Path.unlink, 'there is no model'),
        (lambda path: path.write_bytes(b''), 'cannot be loaded'),
        (lambda path: path.write_bytes(b'<html>'), 'cannot be loaded'),
        (lambda path: path.write_bytes(path.read_bytes()[:300]), 'cannot be loaded'),
        (not_ours, 'is no exported EfficientPS: it has no metadata'),
        (metadata_text('{'), 'is no exported EfficientPS'),
        (metadata_text('[1]'), 'is no exported EfficientPS'),
        (metadata_text('{"format": 2}'), 'metadata of format 2, this file knows 1'),
        (metadata_without('fusion'), "is no exported EfficientPS: .*'fusion'"),
        (metadata_without('scale'), "is no exported EfficientPS: .*'scale'"),
        (without_output, "is no exported EfficientPS: its outputs are .*not .*'seg_l"),
    ],
)
def test_a_file_that_is_not_ours_is_refused_in_words(write_network, spoil, match):
    path = write_network()
    spoil(path)
    with pytest.raises(ModelError, match=match) as info:
        PanopticOnnx(path)
    assert str(path) in str(info.value)


def test_the_file_imports_nothing_but_numpy_opencv_and_onnx_runtime():
    tree = ast.parse(Path(panoptic_onnx.__file__).read_text(encoding='utf-8'))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split('.')[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level
            imported.add(node.module.split('.')[0])
    assert imported - sys.stdlib_module_names == {'cv2', 'numpy', 'onnxruntime'}
