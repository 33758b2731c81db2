# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import pickle
from copy import deepcopy

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from mmdet.registry import METRICS
from mmdet.structures.mask import encode_mask_results
from mmengine.evaluator import Evaluator
from mmengine.structures import PixelData
from pycocotools import mask as mask_api
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmdet_efficientps.structures.panoptic import read_panoptic_png

ALL = [
    dict(type='CityscapesInstanceAPMetric'),
    dict(type='CocoMaskAPMetric'),
    dict(type='SemanticIoUMetric'),
    dict(type='SemanticIoUMetric', source='pred_panoptic_seg', prefix='panoptic_iou'),
]


def evaluate(city, samples=None, metrics=ALL, size=None, meta=None, **kwargs):
    """Run metrics as the test loop does."""
    samples = city.samples if samples is None else samples
    evaluator = Evaluator([METRICS.build(metric | kwargs) for metric in metrics])
    evaluator.dataset_meta = meta or city.dataset.metainfo
    for sample in samples:
        evaluator.process([sample])
    return evaluator.evaluate(size or len(samples))


@pytest.fixture(scope='module')
def metrics(city):
    return evaluate(city)


def test_coco_ap_is_that_of_pycocotools_from_files(city, metrics, tmp_path):
    truth, found = [], []

    def entry(sample, label, rle, **more):
        rle = rle | {'counts': rle['counts'].decode()}
        return dict(
            image_id=sample.img_id,
            category_id=label,
            segmentation=rle,
            area=int(mask_api.area(rle)),
            **more,
        )

    for sample in city.samples:
        ids = read_panoptic_png(sample.seg_map_path)
        for segment in sample.segments_info:
            if segment['category'] < 8:
                (rle,) = encode_mask_results([ids == segment['id']])
                more = dict(id=len(truth) + 1, iscrowd=segment['iscrowd'])
                truth.append(entry(sample, segment['category'], rle, **more))
        instances = sample.pred_instances
        rles = encode_mask_results(instances.masks.numpy())
        for rle, label, score in zip(
            rles, instances.labels.tolist(), instances.scores.tolist(), strict=True
        ):
            found.append(entry(sample, label, rle, score=score))
    height, width = ids.shape
    images = [dict(id=s.img_id, height=height, width=width) for s in city.samples]
    categories = [dict(id=label, name=str(label)) for label in range(8)]
    content = dict(images=images, annotations=truth, categories=categories)
    (tmp_path / 'gt.json').write_text(json.dumps(content))
    (tmp_path / 'dt.json').write_text(json.dumps(found))
    coco = COCO(str(tmp_path / 'gt.json'))
    official = COCOeval(coco, coco.loadRes(str(tmp_path / 'dt.json')), 'segm')
    official.evaluate()
    official.accumulate()
    official.summarize()

    assert any(segment['iscrowd'] for segment in truth)
    names = ('AP', 'AP50', 'AP75', 'AP_s', 'AP_m', 'AP_l')
    for name, value in zip(names, official.stats, strict=False):
        expected = 100 * value if value >= 0 else np.nan
        ours = metrics.get(f'coco/{name}', np.nan)
        assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True), name
    assert 2 < metrics['coco/AP'] < 95


def test_masks_and_their_codes_score_the_same(city, metrics):
    encoded = deepcopy(city.samples)
    for sample in encoded:
        rles = encode_mask_results(sample.pred_instances.masks.numpy())
        del sample.pred_instances.masks
        sample.pred_instances.masks = rles
    assert evaluate(city, encoded) == metrics


def test_predictions_are_left_as_they_are(city):
    samples = deepcopy(city.samples)
    evaluate(city, samples)
    for before, after in zip(city.samples, samples, strict=True):
        for field in ('pred_panoptic_seg', 'pred_sem_seg'):
            assert torch.equal(before.get(field).sem_seg, after.get(field).sem_seg)
        assert torch.equal(before.pred_instances.masks, after.pred_instances.masks)
        assert before.segments_info == after.segments_info


def test_iou_of_the_panoptic_map_is_another(metrics):
    assert 20 < metrics['panoptic_iou/mIoU'] < 95
    assert metrics['panoptic_iou/mIoU'] != metrics['semantic/mIoU']


def test_order_of_the_images_does_not_matter(city, metrics):
    assert evaluate(city, city.samples[::-1]) == pytest.approx(metrics, abs=1e-12)


def _evaluate_rank(rank, city, folder):
    """One of two processes: the samples the sampler gives it, one repeated."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/store', rank=rank, world_size=2
    )
    samples = city.samples
    own = [samples[k % len(samples)] for k in range(rank, len(samples) + 1, 2)]
    metrics = evaluate(city, own, size=len(samples))
    (folder / f'{rank}.json').write_text(json.dumps(metrics))
    dist.destroy_process_group()


def test_two_processes_give_the_same_without_the_repeated_image(
    city, metrics, tmp_path
):
    assert len(city.samples) % 2 == 1
    mp.start_processes(_evaluate_rank, (city, tmp_path), nprocs=2, start_method='fork')
    for rank in range(2):
        found = json.loads((tmp_path / f'{rank}.json').read_text())
        assert found == pytest.approx(metrics, abs=1e-12)


def test_kilobytes_are_kept_for_an_image(city):
    for metric in ALL:
        metric = METRICS.build(metric)
        metric.dataset_meta = city.dataset.metainfo
        metric.process({}, [city.samples[0].to_dict()])
        assert len(pickle.dumps(metric.results)) < 50_000


def test_classes_without_an_object_are_left_out(city):
    samples = deepcopy(city.samples[:1])
    metrics = evaluate(city, samples)
    shown = {s['category'] for s in samples[0].segments_info if not s['iscrowd']}
    for label, name in enumerate(city.dataset.metainfo['thing_classes']):
        assert (f'coco/{name}_AP' in metrics) == (label in shown)
    assert not any(np.isnan(value) for value in metrics.values())


def test_set_without_things_has_no_ap_and_does_not_fail(city):
    samples = deepcopy(city.samples)
    for sample in samples:
        stuff = [s | {'category': 8} for s in sample.segments_info]
        sample.set_metainfo(dict(segments_info=stuff))
    assert evaluate(city, samples, ALL[:2]) == {}


@pytest.mark.parametrize(
    ('field', 'switch'),
    [('pred_instances', 'with_instances'), ('pred_sem_seg', 'with_semantic')],
)
def test_missing_prediction_names_the_switch(city, field, switch):
    sample = deepcopy(city.samples[0])
    delattr(sample, field)
    with pytest.raises(KeyError, match=rf'test_cfg\.panoptic\.{switch}=True'):
        evaluate(city, [sample])


def test_missing_ground_truth_says_where_to_add_it(city):
    sample = deepcopy(city.samples[0])
    sample.set_metainfo(dict(segments_info=None))
    for metric in ALL:
        with pytest.raises(KeyError, match='segments_info.*meta_keys'):
            evaluate(city, [sample], [metric])


def test_prediction_of_another_size_is_named_with_the_file(city):
    sample = deepcopy(city.samples[0])
    masks = sample.pred_instances.masks
    del sample.pred_instances.masks
    sample.pred_instances.masks = masks[:, 1:]
    sample.pred_sem_seg = PixelData(sem_seg=sample.pred_sem_seg.sem_seg[:, 1:])
    for metric in ALL[:3]:
        with pytest.raises(ValueError, match=r'_panoptic\.png.*size'):
            evaluate(city, [sample], [metric])


def test_labels_beyond_the_classes_are_named_with_the_file(city):
    sample = deepcopy(city.samples[0])
    sample.pred_instances.labels[0] = 8
    sample.pred_sem_seg.sem_seg[0, 0, 0] = 20
    with pytest.raises(ValueError, match=r'_panoptic\.png.*labels \[8\].*8 thing'):
        evaluate(city, [sample], ALL[:1])
    with pytest.raises(ValueError, match=r'_panoptic\.png.*0\.\.20.*19 classes'):
        evaluate(city, [sample], ALL[2:3])


def test_missing_instance_ids_say_what_to_do(city, tmp_path):
    sample = deepcopy(city.samples[0])
    path = tmp_path / 'cityscapes_panoptic_val' / sample.seg_map_path.split('/')[-1]
    path.parent.mkdir()
    path.symlink_to(sample.seg_map_path)
    sample.set_metainfo(dict(seg_map_path=str(path)))
    with pytest.raises(FileNotFoundError, match='void_from_instance_ids=False'):
        evaluate(city, [sample], ALL[:1])


def test_unknown_source_is_refused():
    with pytest.raises(ValueError, match="got 'semantic'"):
        METRICS.build(dict(type='SemanticIoUMetric', source='semantic'))


def test_values_of_classes_can_be_left_out(city):
    found = evaluate(city, classwise=False)
    assert set(found) == {
        'instance/AP',
        'instance/AP50',
        *(f'coco/AP{part}' for part in ('', '50', '75', '_s', '_m')),
        'semantic/mIoU',
        'panoptic_iou/mIoU',
    } | ({'coco/AP_l'} & set(found))
