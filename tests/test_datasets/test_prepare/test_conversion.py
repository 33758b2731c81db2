# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmdet_efficientps.datasets import prepare as preparation
from mmdet_efficientps.datasets.prepare import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    conversion,
)
from mmdet_efficientps.datasets.prepare.segments import collect_segments
from mmdet_efficientps.structures.panoptic import PanopticClasses, read_panoptic_png

ROAD = {'id': 3, 'name': 'road', 'isthing': 0}
CLASSES = PanopticClasses.from_categories([ROAD])


def draw(job):
    """One segment that covers the image; its id is the first byte of the image."""
    ids = np.full((4, 6), job.image_path.read_bytes()[0])
    return Panoptic(*collect_segments(ids, lambda i: (i, 3, 0)))


def convert(split, nproc=1):
    """Convert one split; gives its report."""
    (report,) = conversion.convert([split], nproc)
    return report


def draw_slowly(job):
    """Like draw, so slow that a run can be killed in between."""
    time.sleep(0.05)
    return draw(job)


@pytest.fixture
def split(tmp_path):
    """A split of six images that are no images: only draw reads them."""
    jobs = []
    for number in range(6):
        path = tmp_path / f'{number}.dat'
        path.write_bytes(bytes([number + 1]))
        image = {'id': number, 'file_name': path.name}
        jobs.append(Job(image, path, f'sub/{number}.png'))
    return Split(tmp_path / 'out' / 'panoptic_train.json', CLASSES, jobs, draw)


def pngs(split):
    """Modification time of every file in the folder of the PNGs."""
    folder = split.json_path.with_suffix('')
    return {p.name: p.stat().st_mtime_ns for p in folder.rglob('*') if p.is_file()}


def assert_complete(split):
    """Check that everything is there, whole and right."""
    content = json.loads(split.json_path.read_text())
    assert [image['id'] for image in content['images']] == list(range(6))
    for number, annotation in enumerate(content['annotations']):
        path = split.json_path.with_suffix('') / annotation['file_name']
        assert (read_panoptic_png(str(path)) == number + 1).all()
        (segment,) = annotation['segments_info']
        assert segment == {
            'id': number + 1,
            'category_id': 3,
            'iscrowd': 0,
            'area': 24,
            'bbox': [0, 0, 6, 4],
        }
    assert pngs(split).keys() == {f'{number}.png' for number in range(6)}


@pytest.mark.parametrize('nproc', [1, 2])
def test_everything_is_converted(split, nproc):
    report = convert(split, nproc)
    assert_complete(split)
    assert (report.num_images, report.num_kept) == (6, 0)
    assert report.sizes == {(6, 4): 6}
    assert report.void_share == 0


def test_run_that_was_stopped_leaves_no_json_of_the_run_before(split):
    convert(split)
    for number in (0, 5):
        split.jobs[number].image_path.write_bytes(bytes([number + 11]))

    def draw_one(job):
        if job is split.jobs[5]:
            raise KeyboardInterrupt
        return draw(job)

    with pytest.raises(KeyboardInterrupt):
        convert(replace(split, draw=draw_one))
    # The first PNG is new, and what is said of it would be old.
    assert not split.json_path.exists()
    assert convert(split).num_kept == 5
    assert len(json.loads(split.json_path.read_text())['annotations']) == 6


def test_json_stays_where_nothing_can_be_converted(split):
    convert(split)
    before = split.json_path.read_bytes()
    for job in split.jobs:
        job.image_path.unlink()
    assert convert(split).num_images == 0
    assert split.json_path.read_bytes() == before


@pytest.mark.parametrize('nproc', [1, 2])
def test_file_that_cannot_be_read_is_named_and_other_images_are_kept(split, nproc):
    path = split.jobs[2].image_path
    path.unlink()
    report = convert(split, nproc)
    assert report.problems.names == {
        'file cannot be read (No such file or directory)': [str(path)]
    }
    assert report.num_images == 5


def test_killed_run_is_continued_where_it_was(split):
    split.draw = draw_slowly
    process = multiprocessing.get_context('fork').Process(target=convert, args=(split,))
    process.start()
    while process.is_alive() and not len(written(split)) >= 2:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not split.json_path.exists()
    before = pngs(split)
    # All but the last one are surely in the journal.
    finished = sorted(before)[: len(before) - 1]
    assert finished

    report = convert(split)
    assert_complete(split)
    assert report.num_kept >= len(finished)
    after = pngs(split)
    assert all(after[name] == before[name] for name in finished)


def written(split):
    """The PNGs that are there, none before the folder is."""
    return list(split.json_path.with_suffix('').glob('sub/[0-9].png'))


def test_interrupted_run_leaves_no_half_written_file(split, monkeypatch):
    calls = []

    def write_bytes(self, content):
        calls.append(self)
        if len(calls) == 2:
            original(self, content[:20])
            raise KeyboardInterrupt
        return original(self, content)

    original = Path.write_bytes
    monkeypatch.setattr(Path, 'write_bytes', write_bytes)
    with pytest.raises(KeyboardInterrupt):
        convert(split)
    assert len(calls) == 2
    assert pngs(split).keys() == {'0.png'}
    monkeypatch.undo()
    assert convert(split).num_kept == 1
    assert_complete(split)


def test_leftovers_of_a_killed_run_are_removed(split):
    folder = split.json_path.with_suffix('') / 'sub'
    folder.mkdir(parents=True)
    split.journal_path.touch()
    (folder / '.3.4711.tmp.png').write_bytes(b'half')
    convert(split)
    assert_complete(split)


@pytest.mark.parametrize('lost', [1, 40])
def test_journal_that_was_cut_short_is_continued(split, lost):
    convert(split)
    journal = split.json_path.with_name('.panoptic_train.journal')
    journal.write_bytes(journal.read_bytes()[:-lost])
    assert convert(split).num_kept == 5
    assert convert(split).num_kept == 6
    assert_complete(split)


def test_what_changed_is_made_again(split):
    convert(split)
    split.jobs[0].image_path.write_bytes(bytes([200]))
    png = split.json_path.with_suffix('') / 'sub/1.png'
    png.write_bytes(b'damaged')
    png.with_name('2.png').unlink()
    assert convert(split).num_kept == 3
    split.jobs[0].image_path.write_bytes(bytes([1]))
    convert(split)
    assert_complete(split)


def test_other_categories_make_everything_again(split):
    convert(split)
    split.classes = PanopticClasses.from_categories([ROAD | {'name': 'street'}])
    assert convert(split).num_kept == 0


def test_two_images_for_one_png_are_refused(split):
    split.jobs.append(split.jobs[2])
    with pytest.raises(ValueError, match=r"labelled by \['sub/2\.png'\]"):
        convert(split)


def draw_most(job):
    """Like draw; two images are bad."""
    if job.image['id'] in (1, 4):
        raise BadInputError('bad weather', job.image_path)
    return draw(job)


@pytest.mark.parametrize('nproc', [1, 2])
def test_images_with_problems_are_left_out_and_named(split, nproc):
    split.draw = draw_most
    report = convert(split, nproc)
    paths = [str(split.jobs[k].image_path) for k in (1, 4)]
    assert list(report.problems.names) == ['bad weather']
    assert sorted(report.problems.names['bad weather']) == paths
    assert pngs(split).keys() == {'0.png', '2.png', '3.png', '5.png'}


def draw_in_part(job):
    """Like draw; something of one image is left out."""
    panoptic = draw(job)
    if job.image['id'] == 2:
        panoptic.problems.add('car left out', job.image_path)
    return panoptic


def test_what_was_left_out_is_named_again_when_nothing_is_to_be_done(split):
    split.draw = draw_in_part
    expected = {'car left out': [str(split.jobs[2].image_path)]}
    assert convert(split).problems.names == expected
    again = convert(split)
    assert (again.num_images, again.num_kept) == (6, 6)
    assert again.problems.names == expected


def draw_by_table(job):
    """Like draw; the labels of two images have another form than it expects."""
    if job.image['id'] == 1:
        return {}['label']
    if job.image['id'] == 4:
        return list(4)
    return draw(job)


@pytest.mark.parametrize('nproc', [1, 2])
def test_labels_of_another_form_are_a_problem_of_their_image(split, nproc):
    split.draw = draw_by_table
    report = convert(split, nproc)
    assert report.num_images == 4
    assert report.problems.names == {
        "labels have another form (KeyError: 'label')": [str(split.jobs[1].image_path)],
        "labels have another form (TypeError: 'int' object is not iterable)": [
            str(split.jobs[4].image_path)
        ],
    }


def die(job):
    """End the process, as the system does when memory is short."""
    os._exit(1)


def test_killed_process_is_explained(split, prepare, monkeypatch, tmp_path):
    split.draw = die
    monkeypatch.setattr(
        preparation, 'prepare_kitti', lambda src, out, nproc: convert(split, nproc)
    )
    with pytest.raises(SystemExit, match='^error: .*smaller --nproc'):
        prepare('kitti', tmp_path, '--nproc', '2')
    assert pngs(split) == {}


def everything(folder):
    """Content of every file below a folder."""
    return {path: path.read_bytes() for path in folder.rglob('*') if path.is_file()}


@pytest.fixture
def photos(split, tmp_path):
    """A folder of photographs that are the images of the split."""
    folder = tmp_path / 'photos' / 'sub'
    folder.mkdir(parents=True)
    for number, job in enumerate(split.jobs):
        path = folder / f'{number}.png'
        path.write_bytes(bytes([number + 1]))
        split.jobs[number] = replace(job, image_path=path)
    return folder.parent


def link_folder(split, photos):
    split.json_path.parent.mkdir()
    split.png_dir.symlink_to(photos)


def link_subfolder(split, photos):
    split.png_dir.mkdir(parents=True)
    split.journal_path.touch()
    (split.png_dir / 'sub').symlink_to(photos / 'sub')


def name_like_photos(split, photos):
    split.json_path = photos.with_suffix('.json')


def name_absolutely(split, photos):
    path = str(photos / 'sub' / '3.png')
    split.jobs[3] = replace(split.jobs[3], png_name=path)


def name_upwards(split, photos):
    path = '../../photos/sub/3.png'
    split.jobs[3] = replace(split.jobs[3], png_name=path)


def list_json_as_source(split, photos):
    split.json_path = photos / 'labels.json'
    split.json_path.write_text('{"annotations": []}')
    split.sources.append(split.json_path)


def put_into_photos_of_another_split(split, photos):
    split.json_path = photos / 'sub.json'


def put_over_photos_that_are_no_input(split, photos):
    split.json_path = photos.parent / 'other.json'
    (split.png_dir / 'sub').mkdir(parents=True)
    (split.png_dir / 'sub' / '3.png').write_bytes(b'a photograph')


def put_over_a_file(split, photos):
    split.json_path = photos.parent / 'other.json'
    split.png_dir.write_bytes(b'a photograph')


def put_over_labels_that_are_no_input(split, photos):
    put_over_photos_that_are_no_input(split, photos)
    split.json_path.write_text('{"images": [], "annotations": []}')


@pytest.mark.parametrize(
    'place',
    [
        link_folder,
        link_subfolder,
        name_like_photos,
        name_absolutely,
        name_upwards,
        list_json_as_source,
        put_into_photos_of_another_split,
        put_over_photos_that_are_no_input,
        put_over_labels_that_are_no_input,
        put_over_a_file,
    ],
)
def test_output_over_files_that_are_there_is_refused_before_it_is_written(
    split, photos, tmp_path, place
):
    other = replace(split, json_path=tmp_path / 'first.json')
    place(split, photos)
    before = everything(tmp_path)
    with pytest.raises((ValueError, FileExistsError)):
        conversion.convert([other, split])
    assert everything(tmp_path) == before


@pytest.mark.parametrize('link', [Path.symlink_to, Path.hardlink_to])
def test_png_that_is_a_link_to_a_photograph_is_replaced(split, photos, link):
    (split.png_dir / 'sub').mkdir(parents=True)
    split.journal_path.touch()
    for number in range(6):
        link(split.png_dir / 'sub' / f'{number}.png', photos / 'sub' / f'{number}.png')
    before = everything(photos)
    convert(split)
    assert_complete(split)
    assert everything(photos) == before


def test_output_of_another_tool_in_this_format_may_be_made_again(split):
    convert(split)
    split.journal_path.unlink()
    assert convert(split).num_kept == 0
    assert_complete(split)


def test_names_that_are_no_text_are_kept(split, tmp_path):
    # A file name of Latin-1 bytes, as Python gives it.
    name = os.fsdecode('5 Caf\xe9s.dat'.encode('latin-1'))
    path = split.jobs[5].image_path.rename(tmp_path / name)
    split.jobs[5] = Job({'id': 5, 'file_name': name}, path, 'sub/5.png')
    convert(split)
    assert_complete(split)
    content = json.loads(split.json_path.read_text())
    assert (tmp_path / content['images'][5]['file_name']).is_file()
