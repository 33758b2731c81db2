# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Sums over processes, with samples dealt out as MMEngine's sampler does."""

import json
import os
from multiprocessing import get_context

import numpy as np
import pytest
import torch.distributed
from mmengine.dataset import DefaultSampler

from mmdet_efficientps.evaluation import DumpPanopticResults, PanopticQualityMetric
from mmdet_efficientps.evaluation.metrics import SumMetric
from mmdet_efficientps.structures.panoptic import write_panoptic_png

META = {
    'classes': ('person', 'car', 'road', 'sky'),
    'thing_classes': ('person', 'car'),
    'stuff_classes': ('road', 'sky'),
}


class Mean(SumMetric):
    """Mean of numbers and of their squares."""

    default_prefix = 'mean'

    def process(self, data_batch, data_samples):
        for value in data_samples:
            self.add(np.array([1, value]), value**2)

    def compute_from_sums(self, counts, squares):
        return {'plain': counts[1] / counts[0], 'squared': squares / counts[0]}


def evaluate(metric, samples, size):
    for sample in samples:
        metric.process({}, [sample])
    return metric.evaluate(size)


def in_processes(num_processes, make_metric, samples, folder):
    """Evaluate in gloo processes; gives the results of all and what they kept."""
    context = get_context('fork')
    queue = context.Queue()

    def work(rank):
        # where a metric would leave temporary files
        os.chdir(folder)
        torch.distributed.init_process_group(
            'gloo',
            init_method=f'file://{folder}/store',
            rank=rank,
            world_size=num_processes,
        )
        metric = make_metric()
        own = [samples[k] for k in DefaultSampler(samples, shuffle=False)]
        for sample in own:
            metric.process({}, [sample])
        kept = len(metric.results)
        queue.put((rank, len(own), kept, metric.evaluate(len(samples))))
        torch.distributed.destroy_process_group()

    workers = [context.Process(target=work, args=(r,)) for r in range(num_processes)]
    for worker in workers:
        worker.start()
    results = sorted(queue.get(timeout=60) for _ in workers)
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    return results


def test_values_come_from_the_sums():
    assert evaluate(Mean(), [1, 2, 6], 3) == {'mean/plain': 3, 'mean/squared': 41 / 3}


def test_a_metric_can_be_used_again():
    metric = Mean()
    evaluate(metric, [1, 2, 6], 3)
    assert evaluate(metric, [5], 1)['mean/plain'] == 5


def test_no_samples_give_no_values():
    assert Mean().evaluate(0) == {}


def test_more_than_one_surplus_sample_is_refused():
    with pytest.raises(ValueError, match='3 samples in process 0 of 1.* 1 images'):
        evaluate(Mean(), [1, 2, 3], 1)


@pytest.mark.parametrize('count', [1, 4, 5])
def test_two_processes_give_what_one_gives_without_the_repeated_sample(tmp_path, count):
    samples = [3, 1, 4, 1, 7][:count]
    results = in_processes(2, Mean, samples, tmp_path)
    assert sum(number for _, number, _, _ in results) == count + count % 2
    expected = evaluate(Mean(), samples, count)
    for _, _, _, metrics in results:
        assert metrics == pytest.approx(expected, abs=1e-12)


def make_samples(folder, count):
    """Data samples of random maps of 4 classes, with void."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(count):
        classes = np.kron(rng.integers(0, 5, (3, 4)), np.ones((4, 4), int))
        path = folder / f'{number}.png'
        write_panoptic_png(path, (classes + 1) % 5)
        segments = [
            {'id': (label + 1) % 5, 'category': label, 'iscrowd': 0}
            for label in range(4)
        ]
        wrong = rng.random(classes.shape) < 0.2
        prediction = np.where(wrong, rng.integers(0, 5), classes)
        sem_seg = torch.from_numpy(prediction)[None]
        samples.append(
            {
                'img_id': number,
                'seg_map_path': str(path),
                'segments_info': segments,
                'pred_panoptic_seg': {'sem_seg': sem_seg},
            }
        )
    return samples


def make_quality_metric():
    metric = PanopticQualityMetric(boundary=True)
    metric.dataset_meta = META
    return metric


def test_panoptic_quality_of_two_processes_is_that_of_one(tmp_path):
    samples = make_samples(tmp_path, 5)
    files = {path.name for path in tmp_path.iterdir()}
    results = in_processes(2, make_quality_metric, samples, tmp_path)
    expected = evaluate(make_quality_metric(), samples, 5)
    assert 0 < expected['panoptic/PQ'] < 100
    assert 0 < expected['panoptic/Boundary_PQ'] < expected['panoptic/PQ']
    for _, _, kept, metrics in results:
        assert metrics == pytest.approx(expected, abs=1e-9)
        # a sum and the latest image, however many there were
        assert kept == 2
    assert {path.name for path in tmp_path.iterdir()} <= files | {'store'}


def test_two_processes_write_what_one_writes(tmp_path):
    samples = make_samples(tmp_path, 5)
    categories = [
        {'id': 7 + label, 'name': name, 'isthing': int(label < 2)}
        for label, name in enumerate(META['classes'])
    ]

    def make_writer(folder):
        writer = DumpPanopticResults(str(folder))
        writer.dataset_meta = META | {'categories': categories}
        return writer

    one, two = tmp_path / 'one', tmp_path / 'two'
    evaluate(make_writer(one), samples, 5)
    in_processes(2, lambda: make_writer(two), samples, tmp_path)
    expected, found = (
        json.loads((f / 'panoptic.json').read_text()) for f in (one, two)
    )
    # each image once, the one that the sampler repeats, too
    assert (
        sorted(found['annotations'], key=lambda entry: entry['image_id'])
        == (expected['annotations'])
    )
    files = {p.relative_to(one) for p in one.rglob('*')}
    assert {p.relative_to(two) for p in two.rglob('*')} == files
    for name in files:
        if name.suffix == '.png':
            assert (two / name).read_bytes() == (one / name).read_bytes()
