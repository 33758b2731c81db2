# Licensed under the Apache License, Version 2.0. See LICENSE.
import threading
import time

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import inference_detector
from PIL import Image
from pycocotools import mask as mask_api

from mmdet_efficientps import init_model
from mmdet_efficientps.apis import PanopticInferencer
from mmdet_efficientps.apis.image_inputs import InputImage
from mmdet_efficientps.structures.panoptic import decode_panoptic_seg

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def model(small_checkpoint):
    return init_model(small_checkpoint, device='cpu')


@pytest.fixture(scope='module')
def inferencer(model):
    return PanopticInferencer(model, score_thr=0.05, min_stuff_area=1)


def random_image(height=60, width=130, seed=0):
    rng = np.random.default_rng(seed)
    return cv2.blur(rng.integers(0, 256, (height, width, 3), np.uint8), (5, 5))


def same(result, other):
    return np.array_equal(result.ids, other.ids) and result.segments == other.segments


def test_the_map_is_that_of_mmdets_inference(model):
    image = random_image(45, 99)
    (result,) = PanopticInferencer(model, prepare=False)(image)
    encoded = inference_detector(model, image).pred_panoptic_seg.sem_seg[0].numpy()
    assert result.shape == (45, 99)
    assert np.array_equal(result.panoptic_seg(), encoded)
    assert np.array_equal(result.ids, decode_panoptic_seg(encoded, 19)[0])


def test_instances_and_semantic_map_are_those_of_mmdets_inference(model):
    image = random_image()
    inferencer = PanopticInferencer(model, prepare=False, instances=True, semantic=True)
    (result,) = inferencer(image)
    expected = inference_detector(model, image)
    assert len(result.instances.scores) > 10
    boxes = expected.pred_instances.bboxes.numpy()
    assert np.allclose(result.instances.bboxes, boxes, atol=1e-3)
    assert len(result.instances.masks) == len(boxes)
    assert np.array_equal(result.semantic, expected.pred_sem_seg.sem_seg[0].numpy())


def test_things_have_the_score_of_their_detection_and_stuff_has_none(inferencer):
    (result,) = inferencer(random_image())
    things = [s for s in result.segments if result.class_of(s).isthing]
    stuff = [s for s in result.segments if not result.class_of(s).isthing]
    assert things
    assert stuff
    assert all(0.05 <= s.score <= 1 for s in things)
    assert all(s.score is None for s in stuff)
    for segment in result.segments:
        y, x = np.nonzero(result.mask(segment))
        size = np.ptp(x) + 1, np.ptp(y) + 1
        assert segment.area == len(x)
        assert segment.bbox == (x.min(), y.min(), *size)


@pytest.mark.parametrize('batch_size', [2, 3])
def test_results_do_not_depend_on_the_batch(model, inferencer, batch_size):
    images = [random_image(60, 130, seed) for seed in range(4)]
    # Of another size, but of the same after padding; and of yet another.
    images[1:1] = [random_image(58, 128, 7), random_image(100, 50, 8)]
    batched = PanopticInferencer(
        model, batch_size=batch_size, score_thr=0.05, min_stuff_area=1
    )
    for one, other in zip(inferencer(images), batched(images), strict=True):
        assert one.shape == other.shape
        # Sums of floats may come out differently in a batch.
        assert (one.ids != other.ids).mean() < 0.001


def test_every_kind_of_input_is_the_same_image(inferencer, tmp_path):
    path = tmp_path / 'image.png'
    image = random_image()
    cv2.imwrite(str(path), image)
    rgb = Image.fromarray(np.ascontiguousarray(image[..., ::-1]))
    (expected,) = inferencer(image)
    for given in (path, str(path), tmp_path, f'{tmp_path}/*.png', rgb, [[path]]):
        (result,) = inferencer(given)
        assert same(result, expected)
    generated = (item for item in (image, path))
    first, second = inferencer.stream(generated)
    assert same(first, expected)
    assert same(second, expected)
    assert (first.name, second.name) == ('000000', 'image.png')


def test_an_address_needs_a_loader(model, inferencer):
    image = random_image()
    with pytest.raises(ValueError, match=r's3://bucket/a.png is an address.*loader'):
        inferencer('s3://bucket/a.png')
    own = PanopticInferencer(model, loader=lambda address: image)
    (result,) = own('s3://bucket/a.png')
    assert result.name == 'bucket/a.png'


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_done(
    inferencer, photographs
):
    (photographs / 'drive1' / '0.jpg').write_bytes(b'no image')
    with pytest.raises(ValueError, match=r'drive1/0.jpg cannot be decoded'):
        inferencer(photographs)
    told = []
    results = inferencer.stream(
        photographs, problem=lambda image, error: told.append((image.name, str(error)))
    )
    names = [result.name for result in results]
    assert names == ['drive1/1.png', 'drive2/0.jpg', 'last.bmp']
    ((name, words),) = told
    assert name == 'drive1/0.jpg'
    assert 'cannot be decoded' in words


def test_results_come_in_order_however_the_batches_fall(model, photographs):
    batched = PanopticInferencer(model, batch_size=3)
    names = [result.name for result in batched.stream(photographs)]
    assert names == ['drive1/0.jpg', 'drive1/1.png', 'drive2/0.jpg', 'last.bmp']


def test_only_a_few_images_are_read_ahead(inferencer):
    read = []

    def images():
        for number in range(50):
            read.append(number)
            yield random_image(32, 64, number)

    stream = inferencer.stream(images())
    next(stream)
    time.sleep(0.3)
    assert len(read) <= 8
    running = threading.active_count()
    stream.close()
    assert threading.active_count() < running


def test_an_error_of_the_users_generator_arrives(inferencer):
    def images():
        yield random_image()
        raise KeyError('mine')

    stream = inferencer.stream(images())
    assert next(stream).shape == (60, 130)
    with pytest.raises(KeyError, match='mine'):
        next(stream)


def test_without_memory_the_image_is_named_and_the_next_is_done(model, monkeypatch):
    inferencer = PanopticInferencer(model, batch_size=2)
    predict = inferencer.predictor.predict

    def short_of_memory(prepared, score_thr):
        if any(
            item['inputs'].shape[-1] > 200 or len(prepared) > 1 for item in prepared
        ):
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return predict(prepared, score_thr)

    monkeypatch.setattr(inferencer.predictor, 'predict', short_of_memory)
    monkeypatch.setattr(
        inferencer.predictor,
        'prepare',
        lambda image, prepare=inferencer.predictor.prepare: (
            prepare(image) | {'inputs': torch.zeros(3, 64, image.shape[1])}
        ),
    )
    told = []
    images = [
        InputImage('small', random_image(64, 128)),
        InputImage('large', random_image(64, 256)),
        InputImage('next', random_image(64, 128)),
        InputImage('last', random_image(64, 128)),
    ]
    results = inferencer.stream_images(images, lambda i, error: told.append(str(error)))
    assert [image.name for image, _ in results] == ['small', 'next', 'last']
    assert told == [
        'large (256x64 pixels) does not fit into memory: predict it in tiles, with a '
        'smaller batch, or make it smaller'
    ]


def test_without_memory_to_prepare_an_image_the_next_is_done(model, monkeypatch):
    inferencer = PanopticInferencer(model)
    prepare = inferencer.predictor.prepare

    def short_of_memory(image):
        if image.shape[1] > 200:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return prepare(image)

    monkeypatch.setattr(inferencer.predictor, 'prepare', short_of_memory)
    told = []
    results = inferencer.stream(
        [random_image(64, 256), random_image(64, 128)],
        lambda image, error: told.append(str(error)),
    )
    assert [result.shape for result in results] == [(64, 128)]
    assert len(told) == 1
    assert told[0].startswith('000000 (256x64 pixels) does not fit into memory')


def test_fusing_again_does_not_run_the_network(inferencer, monkeypatch):
    (inputs,) = inferencer.predict_fusion_inputs([random_image()])
    monkeypatch.setattr(inferencer.predictor.model, 'extract_feat', None)
    everything = inferencer.fuse(inputs, score_thr=0.05)
    nothing = inferencer.fuse(inputs, score_thr=1.0)
    assert any(s.score for s in everything.segments)
    assert not any(s.score for s in nothing.segments)


def test_mixed_precision_predicts_nearly_the_same(model, inferencer):
    (exact,) = inferencer(random_image())
    mixed = PanopticInferencer(
        model, precision='bf16', score_thr=0.05, min_stuff_area=1
    )
    (result,) = mixed(random_image())
    assert result.shape == exact.shape
    assert len(result.segments) > 3
    assert result.semantic is None


@pytest.mark.parametrize(
    ('arguments', 'error', 'words'),
    [
        ({'precision': 'int8'}, ValueError, "precision is 'int8', must be one of"),
        ({'batch_size': 0}, ValueError, 'batch_size is 0'),
        ({'score_thr': 50}, ValueError, 'score_thr is 50, must be from 0 to 1'),
        ({'overlap_thr': -0.1}, ValueError, 'overlap_thr is -0.1, must be'),
    ],
)
def test_wrong_arguments_are_named(model, arguments, error, words):
    with pytest.raises(error, match=words):
        PanopticInferencer(model, **arguments)


def test_a_config_without_weights_is_refused():
    with pytest.raises(ValueError, match='there are no weights: give the checkpoint'):
        PanopticInferencer('efficientps_lite0-small_1xb2-760_toy-city-256x512')


def test_another_network_is_refused_in_words():
    with pytest.raises(TypeError, match=r'is a Linear.*needs an EfficientPS'):
        PanopticInferencer(torch.nn.Linear(1, 1))


@pytest.mark.parametrize(
    ('given', 'error', 'words'),
    [
        ('/nowhere', FileNotFoundError, '/nowhere does not exist'),
        ('/nowhere/*.png', FileNotFoundError, 'there is no image in what'),
        (3.5, TypeError, 'float is nothing to predict'),
        (np.zeros((4, 4), np.uint16), ValueError, 'array is of type uint16'),
        (np.zeros((0, 4, 3), np.uint8), ValueError, 'has the shape'),
    ],
)
def test_wrong_inputs_are_named(inferencer, given, error, words):
    with pytest.raises(error, match=words):
        inferencer(given)


def same_logits(inferencer, other, image):
    """Compare what comes before choices, which hang on the last bit if untrained."""
    (inputs,), (others,) = (
        i.predict_fusion_inputs([image]) for i in (inferencer, other)
    )
    assert inputs.out_shape == others.out_shape
    assert inputs.valid_shape == others.valid_shape
    return torch.allclose(inputs.seg_logits, others.seg_logits, atol=1e-3)


def test_a_network_made_faster_predicts_the_same(model, inferencer):
    plain = PanopticInferencer(model, prepare=False, score_thr=0.05, min_stuff_area=1)
    assert same_logits(plain, inferencer, random_image())
    assert plain.fingerprint() != inferencer.fingerprint()


def test_images_larger_than_a_tile_are_predicted_in_tiles(model, inferencer):
    tiled = PanopticInferencer(
        model, tile=(128, 64), score_thr=0.05, min_stuff_area=1, batch_size=2
    )
    small = random_image(60, 120)
    large = random_image(100, 230)
    one, other, again = tiled([small, large, small])
    (expected,) = inferencer(small)
    assert same(one, expected)
    assert same(again, expected)
    assert other.shape == (100, 230)
    assert tiled.fingerprint() != inferencer.fingerprint()
    with pytest.raises(ValueError, match='at least 64 pixels'):
        PanopticInferencer(model, tile=(10, 10))


def test_views_of_an_image_are_merged(model, inferencer):
    tta = PanopticInferencer(model, tta=True, score_thr=0.05, min_stuff_area=1)
    views = tta.predictor.prepare(random_image())['inputs']
    assert len(views) == 12
    (result,) = tta(random_image())
    assert result.shape == (60, 130)
    assert result.segments
    assert tta.fingerprint() != inferencer.fingerprint()


def test_an_exported_network_predicts_the_same(tmp_path_factory, small_checkpoint):
    pytest.importorskip('onnxruntime', reason='pip install onnxruntime')
    pytest.importorskip('onnxscript', reason='pip install onnx onnxscript')
    from mmdet_efficientps.deployment.export import export_onnx

    model = init_model(small_checkpoint, device='cpu')
    path = tmp_path_factory.mktemp('exported') / 'model.onnx'
    export_onnx(model, path)
    settings = {'score_thr': 0.05, 'min_stuff_area': 1, 'instances': True}
    exported = PanopticInferencer(path, **settings)
    inferencer = PanopticInferencer(model, **settings)
    assert exported.classes == inferencer.classes
    for image in (random_image(), random_image(33, 71, 1)):
        assert same_logits(exported, inferencer, image)
        (one,), (other,) = exported(image), inferencer(image)
        assert one.shape == other.shape == image.shape[:2]
        assert any(segment.score for segment in one.segments)
        assert len(one.instances.masks) == len(one.instances.scores)
    with pytest.raises(ValueError, match='is an exported network'):
        PanopticInferencer(path, tta=True)


def test_a_file_that_is_no_exported_network_is_refused(tmp_path):
    pytest.importorskip('onnxruntime', reason='pip install onnxruntime')
    (tmp_path / 'x.onnx').write_bytes(b'no network')
    with pytest.raises(ValueError, match=r'x\.onnx cannot be loaded'):
        PanopticInferencer(tmp_path / 'x.onnx')


def test_only_detections_that_somebody_uses_cost_masks(model, monkeypatch):
    looked_at = []
    for kind in (False, True):
        inferencer = PanopticInferencer(model, score_thr=0.3, instances=kind)
        head = inferencer.predictor.model.roi_head.mask_head
        forward = head.forward
        monkeypatch.setattr(
            head, 'forward', lambda x, run=forward: looked_at.append(len(x)) or run(x)
        )
        (result,) = inferencer(random_image())
    assert looked_at[0] < looked_at[1] == len(result.instances.scores)


def test_masks_of_instances_begin_at_the_probability_of_the_config(small_checkpoint):
    model = init_model(small_checkpoint, device='cpu')
    areas = []
    for threshold in (0.5, 0.999):
        model.roi_head.test_cfg.mask_thr_binary = threshold
        (result,) = PanopticInferencer(model, instances=True)(random_image())
        areas.append(mask_api.area(result.instances.masks).sum())
    assert areas[1] < areas[0]
