# Licensed under the Apache License, Version 2.0. See LICENSE.
import copy
import json

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from PIL import Image

from mmdet_efficientps.evaluation import DumpPanopticResults
from mmdet_efficientps.evaluation.functional import (
    panoptic_quality_stats,
    report_quality,
)
from mmdet_efficientps.evaluation.panoptic_files import evaluate_panoptic_files
from mmdet_efficientps.structures.panoptic import (
    PanopticOutput,
    id2rgb,
    segments_info,
    write_panoptic_png,
)

# Category ids that are neither labels nor in their order.
CATEGORY_IDS = [24, 7, 33, 11, 8]
NAMES = ['rider', 'car', 'bus', 'road', 'sky']
CATEGORIES = [
    {'id': category_id, 'name': name, 'isthing': int(label < 3)}
    for label, (category_id, name) in enumerate(zip(CATEGORY_IDS, NAMES, strict=True))
]


def entry(image_id, ids, segments):
    info = segments_info(ids, segments, CATEGORY_IDS)
    for row, segment in zip(info, segments, strict=True):
        row['iscrowd'] = segment.get('iscrowd', 0)
    file_name = f'{image_id}.png'
    return {'image_id': image_id, 'file_name': file_name, 'segments_info': info}


@pytest.fixture
def files(tmp_path, panoptic_images):
    """Ground truth and predictions of three images, as files and as dicts."""

    class Files:
        folder = tmp_path
        images = [image for image in panoptic_images if len(image[3]) > 1][:3]

        def save(self):
            for kind in ('gt', 'pred'):
                path = tmp_path / f'{kind}.json'
                path.write_text(json.dumps(getattr(self, kind)))

        def evaluate(self, **kwargs):
            self.save()
            return evaluate_panoptic_files(
                tmp_path / 'gt.json', tmp_path / 'pred.json', **kwargs
            )

        def problems(self):
            with pytest.raises(ValueError, match=r'\d problems?:') as error:
                self.evaluate()
            return str(error.value)

    files = Files()
    files.gt = {'annotations': [], 'categories': copy.deepcopy(CATEGORIES)}
    files.pred = {'annotations': []}
    for number, (gt_ids, gt_segments, *prediction) in enumerate(files.images):
        for kind, ids, segments in (
            ('gt', gt_ids, gt_segments),
            ('pred', *prediction),
        ):
            write_panoptic_png(tmp_path / kind / f'{number}.png', ids)
            getattr(files, kind)['annotations'].append(entry(number, ids, segments))
    # in another order than the ground truth
    files.pred['annotations'].reverse()
    return files


@pytest.mark.parametrize('nproc', [1, 2])
def test_files_give_what_the_arrays_give(files, nproc):
    quality = files.evaluate(dilation_ratio=0.1, nproc=nproc)
    for ratio, stat in zip([None, 0.1], quality.stats, strict=True):
        expected = [panoptic_quality_stats(*i, 5, ratio) for i in files.images]
        for name in ('iou', 'tp', 'fp', 'fn'):
            total = sum(getattr(s, name) for s in expected)
            np.testing.assert_allclose(getattr(stat, name), total, atol=1e-12)
    assert quality.classes == NAMES
    assert quality.groups['Things'] == [0, 1, 2]


def test_folders_may_have_other_names(files):
    expected = files.evaluate().stats[0]
    for kind in ('gt', 'pred'):
        (files.folder / kind).rename(files.folder / f'{kind} pngs')
    (stat,) = files.evaluate(
        gt_folder=files.folder / 'gt pngs', pred_folder=files.folder / 'pred pngs'
    ).stats
    np.testing.assert_array_equal(stat.tp, expected.tp)


def test_all_problems_of_all_images_are_listed_at_once(files):
    gt_annotations, pred_annotations = (
        files.gt['annotations'],
        files.pred['annotations'],
    )
    second, first, zeroth = pred_annotations
    second['image_id'] = 'another'
    gt_annotations[0]['segments_info'][0]['area'] += 1
    zeroth['segments_info'].append({'id': 5, 'category_id': 99})
    (files.folder / 'pred' / '1.png').write_bytes(b'')
    assert first['image_id'] == 1
    text = files.problems()
    assert text.startswith('6 problems:')
    for kind, name in (
        ('images without a prediction', '2'),
        ('predictions of images without ground truth', 'another'),
        ('ground truth: ids whose area in the json is not that in the PNG', '0: '),
        ('prediction: category_id that the ground truth does not have', '0: 99'),
        ('prediction: ids in the json without pixels in the PNG', '0: 5'),
        ('prediction: PNG is damaged or not 8-bit RGB', '1.png'),
    ):
        assert f'1 x {kind}\n' in text
        assert name in text


def test_ids_without_entry_are_listed(files):
    kept = files.pred['annotations'][0]['segments_info']
    lost = kept.pop()['id']
    text = files.problems()
    assert 'prediction: ids in the PNG without an entry in the json' in text
    assert f'2: {lost}' in text


def test_ids_that_are_listed_twice_are_named(files):
    kept = files.pred['annotations'][0]['segments_info']
    kept.append(dict(kept[0]))
    text = files.problems()
    assert 'prediction: segment id that occurs twice in an image' in text
    assert f'image 2, segment {kept[0]["id"]}\n' in text


def test_maps_of_other_size_are_listed(files):
    image = Image.open(files.folder / 'pred' / '0.png')
    size = image.size
    image.resize((2 * size[0], size[1]), Image.NEAREST).save(
        files.folder / 'pred' / '0.png'
    )
    text = files.problems()
    height, width = size[::-1]
    assert f'0: ({height}, {width}), ({height}, {2 * width})' in text


def test_missing_and_foreign_pngs_are_listed(files):
    (files.folder / 'gt' / '0.png').unlink()
    Image.new('L', (9, 9)).save(files.folder / 'pred' / '1.png')
    text = files.problems()
    assert 'ground truth: PNG does not exist' in text
    assert 'prediction: PNG is damaged or not 8-bit RGB' in text


@pytest.mark.parametrize(
    'content', ['', '{"annotations": [', '{}', '[]', '{"annotations": {"a": 1}}']
)
def test_json_without_predictions_is_an_error(files, content):
    files.save()
    path = files.folder / 'pred.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=r'1 problem[\s\S]*prediction: .*[\s\S]*pred'):
        evaluate_panoptic_files(files.folder / 'gt.json', path)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(ValueError, match='4 problems') as error:
        evaluate_panoptic_files(tmp_path / 'a.json', tmp_path / 'b.json')
    assert 'ground truth: json does not exist' in str(error.value)
    assert 'prediction: folder of PNGs does not exist' in str(error.value)


def test_every_problem_is_named_however_many_there_are(files):
    files.pred['annotations'] += [
        {'image_id': f'extra {k}', 'file_name': f'{k}.png', 'segments_info': []}
        for k in range(30)
    ]
    text = files.problems()
    assert '30 x predictions of images without ground truth' in text
    for k in range(30):
        assert f'extra {k}\n' in f'{text}\n'


@pytest.mark.parametrize(
    ('annotation', 'named'),
    [
        ('a string', "annotations[0]: 'a string'"),
        (None, 'annotations[0]: None'),
        ({'segments_info': None}, 'image 2: it is missing'),
        ({'segments_info': ['a']}, "image 2, segment number 0: 'a'"),
        ({'segments_info': [{'id': 7, 'category_id': [7]}]}, 'image 2, segment 7: [7]'),
        ({'segments_info': [{'id': 0, 'category_id': 7}]}, 'image 2, segment 0: 0'),
        ({'file_name': None}, 'image 2: it is missing'),
        ({'image_id': [1]}, 'image [1]: [1]'),
    ],
)
def test_entries_of_another_type_are_listed(files, annotation, named):
    if isinstance(annotation, dict):
        annotation = files.pred['annotations'][0] | annotation
    files.pred['annotations'][0] = annotation
    assert f'    {named}\n' in f'{files.problems()}\n'


@pytest.mark.parametrize('categories', [None, {}, 'car'])
def test_categories_of_another_type_are_an_error(files, categories):
    files.gt['categories'] = categories
    assert "ground truth: the json has no list 'categories'" in files.problems()


def test_numbers_in_quotes_and_a_byte_order_mark_change_no_result(files):
    expected = files.evaluate().stats[0]
    for annotation in files.pred['annotations']:
        annotation['image_id'] = str(annotation['image_id'])
        for segment in annotation['segments_info']:
            segment.update(id=str(segment['id']), bbox=None)
    files.save()
    path = files.folder / 'pred.json'
    path.write_bytes(b'\xef\xbb\xbf' + path.read_bytes())
    (stat,) = evaluate_panoptic_files(files.folder / 'gt.json', path).stats
    np.testing.assert_array_equal(stat.tp, expected.tp)
    np.testing.assert_array_equal(stat.iou, expected.iou)


def test_incomplete_entries_are_listed(files):
    del files.pred['annotations'][0]['file_name']
    del files.pred['annotations'][1]['segments_info'][0]['category_id']
    files.pred['annotations'].append(files.pred['annotations'][2])
    del files.gt['categories'][4]['isthing']
    text = files.problems()
    assert "prediction: 'file_name' of an annotation must be a text" in text
    assert "prediction: 'category_id' of a segment must be a whole number" in text
    assert 'prediction: two annotations for one image' in text
    assert "ground truth: 'isthing' of a category must be 1 for a thing" in text


def test_group_that_the_set_lacks_is_left_out(tmp_path):
    ids = np.array([[3, 3], [0, 3]])
    segments = [{'id': 3, 'category': 3, 'iscrowd': 0}]
    for kind in ('gt', 'pred'):
        write_panoptic_png(tmp_path / kind / '1.png', ids)
        content = {'annotations': [entry(1, ids, segments)], 'categories': CATEGORIES}
        (tmp_path / f'{kind}.json').write_text(json.dumps(content))
    quality = evaluate_panoptic_files(tmp_path / 'gt.json', tmp_path / 'pred.json')
    values, text = report_quality(quality.stats, quality.classes, quality.groups)
    assert values['PQ'] == values['PQ_st'] == values['road_PQ'] == 100
    assert 'PQ_th' not in values
    assert 'car_PQ' not in values
    assert '| Things (0 classes) |      - |' in text


def test_pngs_hold_24_bit_ids(tmp_path):
    ids = np.array([[0, 255, 256], [65536, 2**24 - 1, 70000]])
    write_panoptic_png(tmp_path / 'a' / 'b.png', ids)
    np.testing.assert_array_equal(Image.open(tmp_path / 'a' / 'b.png'), id2rgb(ids))
    with pytest.raises(ValueError, match=r'b\.png.*16777216'):
        write_panoptic_png(tmp_path / 'b.png', ids + 1)


def sample(image_id, codes):
    sem_seg = torch.tensor(codes)[None]
    return {'img_id': image_id, 'pred_panoptic_seg': {'sem_seg': sem_seg}}


def dump(folder, samples, run='a', finish=True):
    """Run the writing metric as a test loop does."""
    evaluator = Evaluator(DumpPanopticResults(str(folder), run))
    evaluator.dataset_meta = {'classes': NAMES, 'categories': CATEGORIES}
    for data_sample in samples:
        evaluator.process([data_sample])
    if finish:
        evaluator.evaluate(len(samples))


FIRST = sample('a', [[1001, 1001, 5], [3, 2001, 5]])
SECOND = sample(12, [[4, 4], [5, 4]])


def test_predictions_are_written_with_the_category_ids_of_the_data_set(tmp_path):
    dump(tmp_path, [FIRST, SECOND])
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    # by file name, 12.png and a.png
    second, first = content['annotations']
    assert first['image_id'] == 'a'
    assert second['image_id'] == 12
    ids = np.asarray(Image.open(tmp_path / 'panoptic' / first['file_name'])) @ (
        np.array([1, 256, 65536])
    )
    found = {}
    for segment in first['segments_info']:
        mask = ids == segment['id']
        assert mask.sum() == segment['area']
        found[segment['id']] = segment['category_id'], mask.astype(int).tolist()
    assert sorted(found.values()) == [
        (7, [[0, 0, 0], [0, 1, 0]]),
        (7, [[1, 1, 0], [0, 0, 0]]),
        (11, [[0, 0, 0], [1, 0, 0]]),
    ]
    assert (ids[:, 2] == 0).all()
    assert content['categories'] == CATEGORIES
    assert {path.name for path in tmp_path.iterdir()} == {'panoptic', 'panoptic.json'}


def test_stopped_run_is_continued(tmp_path):
    dump(tmp_path, [FIRST], finish=False)
    # killed while the next line was written
    with (tmp_path / 'progress' / 'rank0.jsonl').open('a') as file:
        file.write('\n{"image_id": 12, "file_na')
    assert not (tmp_path / 'panoptic.json').exists()
    assert list(PanopticOutput(tmp_path, 'a').annotations()) == ['a']

    dump(tmp_path, [SECOND])
    content = json.loads((tmp_path / 'panoptic.json').read_text())
    assert [a['image_id'] for a in content['annotations']] == [12, 'a']


def test_the_json_is_in_order_whichever_process_made_which(tmp_path):
    output = PanopticOutput(tmp_path, 'a')
    for rank, image_id in ((0, 'c'), (1, 'b'), (0, 'a')):
        output.add(image_id, np.zeros((2, 3), np.int32), [], [], rank)
    output.finish([])
    annotations = json.loads((tmp_path / 'panoptic.json').read_text())['annotations']
    assert [entry['image_id'] for entry in annotations] == ['a', 'b', 'c']


def test_predictions_of_two_runs_are_not_mixed(tmp_path):
    dump(tmp_path, [FIRST], finish=False)
    with pytest.raises(FileExistsError, match='another checkpoint or config'):
        PanopticOutput(tmp_path, 'b')
    dump(tmp_path, [SECOND])
    with pytest.raises(FileExistsError, match='complete'):
        PanopticOutput(tmp_path, 'a')


def test_a_run_that_failed_before_its_first_image_does_not_block_the_folder(tmp_path):
    PanopticOutput(tmp_path, 'wrong path')
    dump(tmp_path, [FIRST], run='b')
    assert (tmp_path / 'panoptic.json').exists()


def test_two_images_of_one_id_are_refused(tmp_path):
    samples = [FIRST | {'img_path': path} for path in ('drive0/a.png', 'drive1/a.png')]
    with pytest.raises(ValueError, match=r'drive0/a\.png and drive1/a\.png have one'):
        dump(tmp_path, samples)


def test_a_folder_that_holds_the_images_is_refused(tmp_path):
    for key in ('img_path', 'seg_map_path'):
        with pytest.raises(ValueError, match='folder for predictions'):
            dump(tmp_path / key, [FIRST | {key: str(tmp_path / key / 'sub/a.png')}])
        assert not (tmp_path / key / 'panoptic').exists()


def test_missing_prediction_names_the_switch(tmp_path):
    with pytest.raises(KeyError, match=r'test_cfg\.panoptic\.with_panoptic=True'):
        dump(tmp_path, [{'img_id': 'a', 'img_path': 'a.png'}])


def test_data_set_without_categories_is_refused(tmp_path):
    metric = DumpPanopticResults(str(tmp_path))
    metric.dataset_meta = {'classes': NAMES}
    with pytest.raises(KeyError, match='PanopticDataset'):
        metric.process({}, [FIRST])
