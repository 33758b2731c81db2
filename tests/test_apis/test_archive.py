# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest

from mmdet_efficientps.apis import PanopticResult
from mmdet_efficientps.apis.archive import (
    Archive,
    TakenOverError,
    error_row,
    result_row,
    rows_to_table,
)
from mmdet_efficientps.apis.archive_coco import archive_to_coco
from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    PanopticClass,
    PanopticClasses,
    read_panoptic_png,
)
from mmdet_efficientps.utils import ProblemList

pq = pytest.importorskip(
    'pyarrow.parquet', reason="needs pyarrow: pip install 'ray[data]'"
)

CLASSES = PanopticClasses(
    (
        PanopticClass(26, 'car', True, (0, 0, 142)),
        PanopticClass(7, 'road', False, (128, 64, 128)),
    )
)
CODES = np.array([[2, 1000, 1000], [1, 1, 1]])


def row(path, codes=CODES, model='m'):
    result = PanopticResult.from_panoptic_seg(codes, CLASSES, scores=[0.75])
    return result_row(path, model, result)


def write(archive, *rows, run=None):
    run = run or archive.begin()
    return archive.write(rows_to_table(rows), CLASSES.categories(), run)


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / 'archive')


def test_what_was_written_is_done_for_its_network(archive):
    write(archive, row('/a.jpg'), error_row('/b.jpg', 'm', ValueError('bad')))
    write(archive, row('/c.jpg', model='other'))
    assert archive.done('m').to_pylist() == ['/a.jpg', '/b.jpg']
    assert archive.done('m', with_errors=False).to_pylist() == ['/a.jpg']
    assert archive.done('none').to_pylist() == []
    assert archive.models() == {'m': 2, 'other': 1}
    assert PanopticClasses.from_categories(archive.categories('other')) == CLASSES
    with pytest.raises(ValueError, match='no row of the network none'):
        archive.categories('none')


def test_a_row_has_the_prediction_or_the_error(archive):
    write(archive, row('/a.jpg'), error_row('/b.jpg', 'm', MemoryError()))
    (path,) = archive.files
    # As any reader of parquet sees them.
    good, bad = pq.read_table(path).to_pylist()
    assert (good['width'], good['height'], good['error']) == (3, 2, None)
    assert [s['category_id'] for s in json.loads(good['segments'])] == [7, 26]
    assert good['png'].startswith(b'\x89PNG')
    assert bad == dict.fromkeys(good) | {
        'path': '/b.jpg',
        'model': 'm',
        'error': 'MemoryError',
    }


def test_the_same_rows_written_twice_are_there_once(archive):
    run = archive.begin()
    write(archive, row('/a.jpg'), run=run)
    write(archive, row('/a.jpg'), run=run)
    assert archive.done('m').to_pylist() == ['/a.jpg']


def test_a_run_that_was_taken_over_writes_nothing(archive):
    old = archive.begin()
    new = archive.begin()
    with pytest.raises(TakenOverError, match='another command'):
        write(archive, row('/a.jpg'), run=old)
    assert [path.name for path in archive.folder.iterdir()] == ['run.json']
    write(archive, row('/a.jpg'), run=new)
    assert archive.done('m').to_pylist() == ['/a.jpg']


def test_rows_of_a_file_that_is_cut_off_are_missing(archive):
    path = write(archive, row('/a.jpg'))
    write(archive, row('/b.jpg'))
    path.write_bytes(path.read_bytes()[:-20])
    (damaged,) = archive.set_aside_damaged()
    assert damaged.name == f'{path.name}.damaged'
    assert archive.done('m').to_pylist() == ['/b.jpg']
    assert archive.set_aside_damaged() == []


def test_a_file_that_was_being_written_is_removed_by_the_next_run(archive):
    archive.begin()
    (archive.folder / '.part-1.77.tmp.parquet').write_bytes(b'PAR1')
    archive.begin()
    assert [path.name for path in archive.folder.iterdir()] == ['run.json']


def test_errors_are_dropped_and_the_rest_stays(archive):
    write(archive, row('/a.jpg'), error_row('/b.jpg', 'm', OSError('gone')))
    write(archive, error_row('/c.jpg', 'm', OSError('gone')))
    write(archive, error_row('/b.jpg', 'other', OSError('gone')))
    assert archive.drop_errors('m') == 2
    assert archive.done('m').to_pylist() == ['/a.jpg']
    assert archive.done('other').to_pylist() == ['/b.jpg']
    assert PanopticClasses.from_categories(archive.categories('m')) == CLASSES


def test_a_file_is_no_archive(tmp_path):
    (tmp_path / 'a').touch()
    with pytest.raises(NotADirectoryError, match='give another name'):
        Archive(tmp_path / 'a')


def test_an_archive_becomes_coco_panoptic(archive, tmp_path):
    write(archive, row('/data/x/a.jpg'), error_row('/data/x/c.jpg', 'm', OSError('no')))
    write(archive, row('/data/y/b.png', np.array([[1, 1001]])))
    problems = archive_to_coco(archive.folder, tmp_path / 'coco')
    assert problems.names == {'no': ['/data/x/c.jpg']}
    found = ProblemList()
    content = PanopticAnnotations.read(tmp_path / 'coco/panoptic.json', found)
    content.check_categories(found)
    assert not found
    sizes = {i['file_name']: (i['width'], i['height']) for i in content.images}
    assert sizes == {'x/a.jpg': (3, 2), 'y/b.png': (2, 1)}
    for name, codes in (('x/a.jpg', CODES), ('y/b.png', [[1, 1001]])):
        annotation = content.annotations[name]
        ids = read_panoptic_png(tmp_path / 'coco/panoptic' / annotation['file_name'])
        category = {s['id']: s['category_id'] for s in annotation['segments_info']}
        expected = {0: 26, 1: 7}
        for number, code in zip(ids.flat, np.ravel(codes), strict=True):
            assert category.get(number) == (
                None if code == len(CLASSES) else expected[code % 1000]
            )


def test_images_are_not_written_over(archive, tmp_path):
    photograph = tmp_path / 'data/panoptic/a.png'
    photograph.parent.mkdir(parents=True)
    photograph.write_bytes(b'photograph')
    write(archive, row(str(photograph)))
    with pytest.raises(ValueError, match='data/panoptic is a folder that holds inputs'):
        archive_to_coco(archive.folder, tmp_path / 'data')
    assert photograph.read_bytes() == b'photograph'
    assert [path.name for path in (tmp_path / 'data').iterdir()] == ['panoptic']


def test_the_network_must_be_named_if_there_are_several(archive, tmp_path):
    write(archive, row('/a.jpg', model='abc'))
    write(archive, row('/a.jpg', model='abd'))
    for model in (None, 'ab', 'x'):
        with pytest.raises(ValueError, match='--model'):
            archive_to_coco(archive.folder, tmp_path / 'coco', model)
    archive_to_coco(archive.folder, tmp_path / 'coco', 'abd')
    with pytest.raises(FileExistsError, match='another folder'):
        archive_to_coco(archive.folder, tmp_path / 'coco', 'abd')


@pytest.mark.parametrize(
    ('paths', 'root', 'names'),
    [
        (['/d/a/1.jpg', '/d/ab/1.jpg'], None, ['a/1.jpg', 'ab/1.jpg']),
        (['s3://d/a/1.jpg', 's3://d/b/1.jpg'], None, ['a/1.jpg', 'b/1.jpg']),
        (['/d/a/1.jpg'], None, ['1.jpg']),
        (['/d/a/1.jpg'], '/d/', ['a/1.jpg']),
        (['/tmp/a/1.jpg', '/mnt/1.jpg'], None, ['tmp/a/1.jpg', 'mnt/1.jpg']),
        (['s3://one/1.jpg', 's3://two/1.jpg'], None, ['one/1.jpg', 'two/1.jpg']),
        (['s3://one/1.jpg', 's3://two/1.jpg'], 's3://', ['one/1.jpg', 'two/1.jpg']),
        (['s3://one/1.jpg', 'gs://one/1.jpg'], None, ['s3/one/1.jpg', 'gs/one/1.jpg']),
        (['a/1.jpg', '/d/1.jpg'], None, ['a/1.jpg', 'd/1.jpg']),
    ],
)
def test_images_are_named_below_what_they_have_in_common(
    archive, tmp_path, paths, root, names
):
    write(archive, *map(row, paths))
    archive_to_coco(archive.folder, tmp_path / 'coco', root=root)
    content = json.loads((tmp_path / 'coco/panoptic.json').read_text())
    assert [image['id'] for image in content['images']] == names
    pngs = [entry['file_name'] for entry in content['annotations']]
    assert pngs == [f'{name}.png' for name in names]


def test_what_cannot_be_named_is_refused(archive, tmp_path):
    write(archive, row('/d/a.jpg'), row('/d/a.jpg.png'))
    with pytest.raises(ValueError, match='not below /e'):
        archive_to_coco(archive.folder, tmp_path / 'coco', root='/e')
    with pytest.raises(ValueError, match='both be written'):
        archive_to_coco(archive.folder, tmp_path / 'coco')
    assert not (tmp_path / 'coco/panoptic.json').exists()
    with pytest.raises(ValueError, match='holds inputs'):
        archive_to_coco(archive.folder, archive.folder)
    with pytest.raises(FileNotFoundError, match='no archive'):
        archive_to_coco(tmp_path, tmp_path / 'coco')
