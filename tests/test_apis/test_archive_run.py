# Licensed under the Apache License, Version 2.0. See LICENSE.
import errno
import io
import json
import os
import pickle
import signal
import tarfile
from contextlib import nullcontext

import cv2
import numpy as np
import pytest

from mmdet_efficientps.apis import PanopticInferencer, archive_run
from mmdet_efficientps.apis.archive import Archive, TakenOverError
from mmdet_efficientps.apis.archive_run import (
    WorkersFailedError,
    _read_tars,
    _share,
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


def write_tar(path, files):
    """Write a tar file of names and what is in them."""
    with tarfile.open(path, 'w') as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


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


def test_a_worker_that_cannot_write_says_so_instead_of_a_file(
    make_worker, photographs, monkeypatch
):
    worker = make_worker()
    batch = pa.table({'path': [str(photographs / NAMES[0])]})

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    with monkeypatch.context() as patch:
        patch.setattr(pq, 'write_table', full)
        (row,) = worker(batch).to_pylist()
    assert row['file'] is None
    stopped = pickle.loads(row['stopped'])
    assert isinstance(stopped, OSError)
    assert stopped.errno == errno.ENOSPC
    # Another command begins.
    Archive(worker.archive.folder).begin()
    (row,) = worker(batch).to_pylist()
    assert isinstance(pickle.loads(row['stopped']), TakenOverError)
    assert worker.archive.files == []


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
    for name, columns in {
        'other': {'url': ['a']},
        'null': {'path': ['a.jpg', None]},
        'number': {'path': [1]},
        'text_bytes': {'path': ['a.jpg'], 'bytes': ['a']},
        'mixed1': {'path': ['a.jpg'], 'bytes': [b'a']},
        'mixed2': {'path': ['b.jpg']},
    }.items():
        pq.write_table(pa.table(columns), tmp_path / f'{name}.parquet')
    write_tar(tmp_path / 'labels.tar', {'a.jpg.txt': b'', '._a.jpg': b''})
    (tmp_path / 'text.tar').write_text('no tar')
    for name in ('list.csv', 'images.tar.gz', 'x.mp4'):
        (tmp_path / name).touch()
    for name, error, match in (
        ('empty.txt', FileNotFoundError, 'lists no image'),
        ('text.parquet', ValueError, 'no parquet file'),
        ('other.parquet', ValueError, "no column 'path'.* url"),
        ('null.parquet', ValueError, 'null.parquet has a row without a path'),
        ('number.parquet', ValueError, "int64 in its column 'path', must be string"),
        ('text_bytes.parquet', ValueError, "string in its column 'bytes'"),
        ('mixed*.parquet', ValueError, 'mixed2.* cannot be read together'),
        ('none*.tar', FileNotFoundError, 'does not exist'),
        ('labels.tar', ValueError, 'no image in .*labels.tar'),
        ('text.tar', ValueError, 'text.tar is no tar file'),
        ('list.csv', ValueError, 'list.csv does not end as an image does'),
        ('images.tar.gz', ValueError, 'images.tar.gz does not end'),
        ('x.mp4', ValueError, 'x.mp4 does not end'),
    ):
        with pytest.raises(error, match=match):
            _Source(tmp_path / name, tmp_path)


@pytest.mark.parametrize('name', ['', '*.jpg', 'list.txt', 'a.parquet', '0.tar'])
def test_addresses_stand_in_lists(name, tmp_path):
    with pytest.raises(ValueError, match='is an address: give a list of addresses'):
        _Source(f's3://bucket/{name}', tmp_path)


# Names with more than one dot, of which the first is no end of a stem.
TAR_NAMES = [
    'berlin_000.leftImg8bit.png',
    '2024.05.01_a.jpg',
    '2024.05.01_b.jpg',
    'v1.2/a.jpg',
    'IMG.JPG',
]


def test_images_of_a_tar_are_named_as_they_are_there(tmp_path):
    file = tmp_path / '0.tar'
    others = ['berlin_000.gtFine.json', '2024.05.01_a.cls', '._IMG.JPG', 'jpg']
    write_tar(file, {name: name.encode() for name in (*TAR_NAMES, *others)})
    with tarfile.open(file, 'a') as tar:
        folder = tarfile.TarInfo('folder.png')
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert _Source(file, tmp_path).paths is None
    tables = list(_read_tars(pa.table({'tar': [str(file)]})))
    assert pa.concat_tables(tables).to_pylist() == [
        {'path': f'{file}/{name}', 'bytes': name.encode()} for name in TAR_NAMES
    ]


def test_a_tar_that_is_cut_off_is_named(tmp_path):
    file = tmp_path / '0.tar'
    write_tar(file, {name: bytes(5000) for name in TAR_NAMES})
    os.truncate(file, 8000)
    with pytest.raises(tarfile.ReadError, match='0.tar is cut off'):
        list(_read_tars(pa.table({'tar': [str(file)]})))


@pytest.mark.parametrize(
    ('asked', 'readers', 'computers', 'expected'),
    [
        # Workers, threads, GPUs; CPUs and GPUs of each computer.
        ((None, None, None), 0, [(8, 0)], (8, 1, 0)),
        ((None, None, None), 1, [(8, 0)], (7, 1, 0)),
        ((2, None, None), 0, [(8, 0)], (2, 4, 0)),
        ((None, None, None), 0, [(8, 2), (16, 0)], (2, 4, 1)),
        ((None, None, 0.5), 0, [(8, 2)], (4, 2, 0.5)),
        # A worker is on one computer.
        ((2, None, None), 0, [(8, 0), (4, 0)], (2, 4, 0)),
        ((3, 8, None), 0, [(16, 0), (8, 0), (4, 0)], (3, 8, 0)),
        # The reader takes what is left of the second.
        ((None, 4, None), 1, [(8, 0), (5, 0)], (3, 4, 0)),
    ],
)
def test_workers_share_what_each_computer_has(asked, readers, computers, expected):
    assert _share(*asked, readers, computers) == expected


@pytest.mark.parametrize(
    ('asked', 'readers', 'computers', 'room'),
    [
        ((9, 1, 0), 0, [(8, 0)], 8),
        ((1, 24, 0), 0, [(16, 0), (8, 0)], 0),
        ((3, 5, 0), 0, [(8, 0), (8, 0)], 2),
        ((2, 1, 1), 0, [(8, 1), (8, 0)], 1),
        ((1, 1, 1), 0, [(0, 1), (8, 0)], 0),
        # Three parts of 0.4 are more than a GPU.
        ((5, 1, 0.4), 0, [(8, 2)], 4),
        ((None, None, None), 1, [(1, 0)], 0),
    ],
)
def test_workers_that_fit_nowhere_are_refused(asked, readers, computers, room):
    with pytest.raises(ValueError, match=f'there is room for {room},'):
        _share(*asked, readers, computers)


def test_a_command_that_is_refused_ends_no_other(
    settings, photographs, tmp_path, monkeypatch
):
    pytest.importorskip('ray', reason="needs Ray: pip install 'ray[data]'")
    monkeypatch.setattr(archive_run, '_started', lambda *args: nullcontext())
    monkeypatch.setattr(archive_run, '_computers', lambda: [(2, 0)])
    archive = Archive(tmp_path / 'archive')
    archive.begin()
    before = (archive.folder / 'run.json').read_text()
    with pytest.raises(ValueError, match='room for 2'):
        predict_to_archive(photographs, archive.folder, settings, workers=3)
    assert (archive.folder / 'run.json').read_text() == before


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
    begun = (out / 'run.json').read_text()
    second = predict()
    assert (second.num_predicted, second.num_known, second.num_missing) == (0, 5, 0)
    assert {path: path.read_bytes() for path in Archive(out).files} == files
    # It had no reason to end another.
    assert (out / 'run.json').read_text() == begun
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
    in_tar = ['drive1/0.left.jpg', 'drive1/1.PNG', '2024.05.01.jpg', 'last.bmp']
    files = dict(zip(in_tar, content, strict=True))
    # What is beside an image is none.
    write_tar(tmp_path / 'images.tar', {**files, 'drive1/0.left.cls': b''})
    tar_paths = [f'{tmp_path}/images.tar/{name}' for name in in_tar]
    for kind, paths in (('parquet', NAMES), ('tar', tar_paths)):
        out = tmp_path / f'archive-{kind}'
        for expected in (4, 0):
            run = predict_to_archive(
                tmp_path / f'images.{kind}', out, settings, workers=1, threads=1
            )
            assert run.num_predicted == expected
        rows = rows_of(Archive(out))
        assert sorted(rows) == sorted(paths)
        there = {
            str(photographs / name): rows[path]
            for name, path in zip(NAMES, paths, strict=True)
        }
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


@pytest.mark.slow
def test_a_run_whose_workers_cannot_go_on_ends_at_once(
    ray, settings, photographs, tmp_path, monkeypatch
):
    # More batches than Ray lets fail.
    for number in range(20):
        cv2.imwrite(str(photographs / f'{number}.png'), np.zeros((8, 8, 3), np.uint8))
    begun = tmp_path / 'begun'

    class TakenOver(_Worker):
        def __call__(self, batch):
            with begun.open('a') as file:
                file.write('.')
            Archive(self.archive.folder).begin()
            return super().__call__(batch)

    class Broken(_Worker):
        def __call__(self, batch):
            raise RuntimeError('the driver is broken')

    class Unlike(_Worker):
        def __init__(self, *args):
            raise RuntimeError('another network')

    def predict(worker):
        monkeypatch.setattr(archive_run, '_Worker', worker)
        predict_to_archive(
            *(photographs, tmp_path / 'archive', settings),
            **{'workers': 1, 'threads': 1, 'rows_per_file': 1},
        )

    with pytest.raises(TakenOverError, match='another command has begun'):
        predict(TakenOver)
    assert len(begun.read_text()) < 20
    with pytest.raises(WorkersFailedError, match='the driver is broken'):
        predict(Broken)
    with pytest.raises(WorkersFailedError, match='another network'):
        predict(Unlike)
    assert Archive(tmp_path / 'archive').files == []
