# Licensed under the Apache License, Version 2.0. See LICENSE.
import io
import json
import os
import signal
import tarfile

import cv2
import numpy as np
import pytest

from mmdet_efficientps.apis import PanopticInferencer, archive_run
from mmdet_efficientps.apis.archive import Archive
from mmdet_efficientps.apis.archive_run import (
    _from_webdataset,
    _Source,
    _Worker,
    predict_to_archive,
)
from mmdet_efficientps.structures.panoptic import encode_panoptic_png

pa = pytest.importorskip('pyarrow', reason="needs Ray: pip install 'ray[data]'")
pq = pytest.importorskip('pyarrow.parquet')

NAMES = ['drive1/0.jpg', 'drive1/1.png', 'drive2/0.jpg', 'last.bmp']


@pytest.fixture
def settings(small_checkpoint):
    return {'model': str(small_checkpoint), 'score_thr': 0.05, 'min_stuff_area': 1}


@pytest.fixture(scope='session')
def ray():
    """Ray with two CPUs, for all tests that predict with it."""
    ray = pytest.importorskip('ray', reason="needs Ray: pip install 'ray[data]'")
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    ray.init('local', num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture
def make_worker(settings, tmp_path):
    """A worker in this process, as Ray would have it in its own."""

    def make(model=None):
        archive = Archive(tmp_path / 'archive')
        model = model or PanopticInferencer(**settings, device='cpu').fingerprint()
        run = archive.begin()
        return _Worker(settings, 1, False, model, archive.folder, run)

    return make


def rows_of(archive):
    (model,) = archive.models()
    columns = ['path', 'width', 'height', 'segments', 'png', 'model', 'error']
    return {row['path']: row for row in archive.rows(model, columns)}


def assert_like_inferencer(rows, settings, photographs, names=NAMES):
    """The rows of these images have what the inferencer predicts."""
    paths = [photographs / name for name in names]
    results = PanopticInferencer(**settings, device='cpu')(paths)
    for path, result in zip(paths, results, strict=True):
        row = rows[str(path)]
        assert (row['height'], row['width']) == result.shape
        assert json.loads(row['segments']) == result.to_coco()
        assert row['png'] == encode_panoptic_png(result.ids)
        assert row['error'] is None


def test_a_worker_writes_what_the_inferencer_predicts(
    make_worker, settings, photographs, tmp_path
):
    paths = [str(photographs / name) for name in NAMES]
    (photographs.parent / 'bad.jpg').write_bytes(b'no image')
    broken = [str(photographs.parent / name) for name in ('bad.jpg', 'none.png')]
    worker = make_worker()
    told = worker(pa.table({'path': [broken[0], *paths, broken[1], paths[0]]}))
    (row,) = told.to_pylist()
    assert row['rows'] == len(NAMES) + 2
    assert row['failed'] == broken
    rows = rows_of(worker.archive)
    # A path that comes twice is one row.
    assert list(rows) == [broken[0], *paths, broken[1]]
    assert_like_inferencer(rows, settings, photographs)
    assert 'cannot be decoded' in rows[broken[0]]['error']
    assert 'No such file' in rows[broken[1]]['error']
    assert rows[broken[0]]['png'] is None


def test_content_is_decoded_as_the_file_is(make_worker, settings, photographs):
    paths = [str(photographs / name) for name in NAMES]
    content = [(photographs / name).read_bytes() for name in NAMES]
    worker = make_worker()
    names = [path.replace(str(photographs), '/elsewhere') for path in paths]
    worker(pa.table({'path': names, 'bytes': content}))
    rows = rows_of(worker.archive)
    there = {path: rows[name] for path, name in zip(paths, names, strict=True)}
    assert_like_inferencer(there, settings, photographs)


def test_a_worker_with_another_network_is_refused(make_worker):
    with pytest.raises(RuntimeError, match='another network'):
        make_worker('0' * 64)


def test_a_folder_is_all_images_but_those_of_the_archive(photographs):
    out = photographs / 'archive'
    out.mkdir()
    cv2.imwrite(str(out / 'picture.png'), np.zeros((4, 4, 3), np.uint8))
    source = _Source(photographs, out)
    assert source.paths.to_pylist() == [str(photographs / name) for name in NAMES]
    source.leave_out(pa.array([str(photographs / NAMES[1]), '/other']))
    assert source.paths.to_pylist() == [
        str(photographs / name) for name in NAMES if name != NAMES[1]
    ]


def test_paths_of_lists_are_beside_the_list_each_once(tmp_path):
    names = ['a/1.jpg', '/data/2.jpg', 's3://bucket/3.jpg', 'a/1.jpg']
    expected = [str(tmp_path / 'a/1.jpg'), *names[1:3]]
    (tmp_path / 'list.txt').write_text('\ufeff' + '\n\n'.join(names) + '\n')
    pq.write_table(pa.table({'path': names}), tmp_path / 'list.parquet')
    for name in ('list.txt', 'list.parquet'):
        assert _Source(tmp_path / name, tmp_path).paths.to_pylist() == expected


def test_lists_that_are_none_are_refused(tmp_path):
    (tmp_path / 'empty.txt').touch()
    (tmp_path / 'text.parquet').write_text('no parquet')
    pq.write_table(pa.table({'url': ['a']}), tmp_path / 'other.parquet')
    for name, error, match in (
        ('empty.txt', FileNotFoundError, 'lists no image'),
        ('text.parquet', ValueError, 'no parquet file'),
        ('other.parquet', ValueError, "no column 'path'.* url"),
        ('*.tar', FileNotFoundError, 'does not exist'),
    ):
        with pytest.raises(error, match=match):
            _Source(tmp_path / name, tmp_path)


def test_samples_of_a_webdataset_are_named_by_shard_and_key():
    table = pa.table(
        {
            'path': ['/d/0.tar', '/d/0.tar'],
            '__key__': ['x/a', 'b'],
            'jpg': [b'1', None],
            'png': [None, b'2'],
        }
    )
    assert _from_webdataset(table).to_pylist() == [
        {'path': '/d/0.tar/x/a.jpg', 'bytes': b'1'},
        {'path': '/d/0.tar/b.png', 'bytes': b'2'},
    ]


@pytest.mark.parametrize(
    ('arguments', 'match'),
    [
        ({'workers': 0}, 'workers is 0'),
        ({'threads': 0}, 'threads is 0'),
        ({'rows_per_file': 0}, 'rows_per_file is 0'),
    ],
)
def test_arguments_out_of_range_are_refused(photographs, tmp_path, arguments, match):
    pytest.importorskip('ray', reason="needs Ray: pip install 'ray[data]'")
    with pytest.raises(ValueError, match=match):
        predict_to_archive(photographs, tmp_path / 'out', {}, **arguments)
    assert not (tmp_path / 'out').exists()


@pytest.mark.slow
def test_a_run_does_what_is_missing_and_no_more(ray, settings, photographs, tmp_path):
    out = tmp_path / 'archive'
    (photographs / 'bad.jpg').write_bytes(b'no image')

    def predict(**kwargs):
        return predict_to_archive(
            photographs, out, settings, workers=1, threads=1, rows_per_file=2, **kwargs
        )

    first = predict()
    assert (first.num_predicted, first.num_known, first.num_missing) == (5, 0, 0)
    ((kind, names),) = first.problems.names.items()
    assert names == [str(photographs / 'bad.jpg')]
    assert kind.startswith('cannot be decoded')
    assert_like_inferencer(rows_of(Archive(out)), settings, photographs)
    files = {path: path.read_bytes() for path in Archive(out).files}
    assert len(files) == 3
    second = predict()
    assert (second.num_predicted, second.num_known, second.num_missing) == (0, 5, 0)
    assert {path: path.read_bytes() for path in Archive(out).files} == files
    # One file is lost, one cut off, and the bad image was mended.
    lost, cut, _ = files
    lost.unlink()
    cut.write_bytes(files[cut][:-9])
    cv2.imwrite(str(photographs / 'bad.jpg'), np.zeros((8, 8, 3), np.uint8))
    third = predict(retry_errors=True)
    assert [path.name for path in third.damaged] == [f'{cut.name}.damaged']
    assert third.num_missing == 0
    assert not third.problems
    names = [*NAMES, 'bad.jpg']
    assert_like_inferencer(rows_of(Archive(out)), settings, photographs, names)


@pytest.mark.slow
def test_shards_and_parquet_with_content(ray, settings, photographs, tmp_path):
    content = [(photographs / name).read_bytes() for name in NAMES]
    table = pa.table({'path': NAMES, 'bytes': content})
    pq.write_table(table, tmp_path / 'images.parquet')
    with tarfile.open(tmp_path / 'images.tar', 'w') as tar:
        for name, data in zip(NAMES, content, strict=True):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
            # What is beside an image is none.
            if name == NAMES[0]:
                label = tarfile.TarInfo(f'{name.removesuffix(".jpg")}.cls')
                tar.addfile(label, io.BytesIO())
    for kind, prefix in (('parquet', ''), ('tar', f'{tmp_path}/images.tar/')):
        out = tmp_path / f'archive-{kind}'
        for expected in (4, 0):
            run = predict_to_archive(
                tmp_path / f'images.{kind}', out, settings, workers=1, threads=1
            )
            assert run.num_predicted == expected
        rows = rows_of(Archive(out))
        there = {str(photographs / name): rows[prefix + name] for name in NAMES}
        assert_like_inferencer(there, settings, photographs)


@pytest.mark.slow
def test_a_worker_that_is_killed_loses_nothing(
    ray, settings, photographs, tmp_path, monkeypatch
):
    marker = tmp_path / 'killed'

    # The worker that has written the first file dies before it can tell.
    class Mortal(_Worker):
        def __call__(self, batch):
            told = super().__call__(batch)
            if not marker.exists():
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return told

    monkeypatch.setattr(archive_run, '_Worker', Mortal)
    out = tmp_path / 'archive'
    run = predict_to_archive(
        photographs, out, settings, workers=1, threads=1, rows_per_file=2
    )
    assert marker.exists()
    assert run.num_missing == 0
    paths = [row for path in Archive(out).files for row in pq.read_table(path)['path']]
    assert len(paths) == len(NAMES)
    assert_like_inferencer(rows_of(Archive(out)), settings, photographs)
