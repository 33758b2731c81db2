# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import multiprocessing
import os
import signal
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import conversion, kitti
from mmdet_efficientps.datasets.prepare.conversion import (
    BadInputError,
    Job,
    Panoptic,
    Split,
    convert_split,
)
from mmdet_efficientps.structures.panoptic import read_panoptic_png

CATEGORIES = [{'id': 3, 'name': 'road', 'isthing': 0}]


def draw(job):
    """One segment that covers the image; its id is the first byte of the image."""
    ids = np.full((4, 6), job.image_path.read_bytes()[0])
    return Panoptic(*conversion.collect_segments(ids, lambda i: (i, 3, 0)))


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
    return Split(tmp_path / 'out' / 'panoptic_train.json', CATEGORIES, jobs, draw)


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
    report = convert_split(split, nproc)
    assert_complete(split)
    assert (report.num_images, report.num_kept) == (6, 0)
    assert report.sizes == {(6, 4): 6}
    assert report.void_share == 0


def test_killed_run_is_continued_where_it_was(split):
    split.draw = draw_slowly
    process = multiprocessing.get_context('fork').Process(
        target=convert_split, args=(split,)
    )
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

    report = convert_split(split)
    assert_complete(split)
    assert report.num_kept >= len(finished)
    after = pngs(split)
    assert all(after[name] == before[name] for name in finished)


def written(split):
    """The PNGs that are there, none before the folder is."""
    return list(split.json_path.with_suffix('').glob('sub/[0-9].png'))


def test_interrupted_run_leaves_no_half_written_file(split, monkeypatch):
    calls = []

    def save(self, path, *args, **kwargs):
        path.write_bytes(b'half')
        calls.append(path)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(self, path, *args, **kwargs)

    original = Image.Image.save
    monkeypatch.setattr(Image.Image, 'save', save)
    with pytest.raises(KeyboardInterrupt):
        convert_split(split)
    assert pngs(split).keys() == {'0.png'}
    monkeypatch.undo()
    assert convert_split(split).num_kept == 1
    assert_complete(split)


def test_leftovers_of_a_killed_run_are_removed(split):
    folder = split.json_path.with_suffix('') / 'sub'
    folder.mkdir(parents=True)
    (folder / '.3.4711.tmp.png').write_bytes(b'half')
    convert_split(split)
    assert_complete(split)


@pytest.mark.parametrize('lost', [1, 40])
def test_journal_that_was_cut_short_is_continued(split, lost):
    convert_split(split)
    journal = split.json_path.with_name('.panoptic_train.journal')
    journal.write_bytes(journal.read_bytes()[:-lost])
    report = convert_split(split)
    assert report.num_kept == (6 if lost == 1 else 5)
    assert convert_split(split).num_kept == 6
    assert_complete(split)


def test_what_changed_is_made_again(split):
    convert_split(split)
    split.jobs[0].image_path.write_bytes(bytes([200]))
    png = split.json_path.with_suffix('') / 'sub/1.png'
    png.write_bytes(b'damaged')
    png.with_name('2.png').unlink()
    assert convert_split(split).num_kept == 3
    split.jobs[0].image_path.write_bytes(bytes([1]))
    convert_split(split)
    assert_complete(split)


def test_other_categories_make_everything_again(split):
    convert_split(split)
    split.categories = [CATEGORIES[0] | {'name': 'street'}]
    assert convert_split(split).num_kept == 0


def test_two_images_for_one_png_are_refused(split):
    split.jobs.append(split.jobs[2])
    with pytest.raises(ValueError, match=r"labelled by \['sub/2\.png'\]"):
        convert_split(split)


def draw_most(job):
    """Like draw; two images are bad."""
    if job.image['id'] in (1, 4):
        raise BadInputError(('bad weather', job.image_path))
    return draw(job)


@pytest.mark.parametrize('nproc', [1, 2])
def test_problems_are_counted_and_named(split, nproc, capsys):
    split.draw = draw_most
    with pytest.raises(SystemExit) as error:
        conversion.convert([split], nproc)
    assert error.value.code == 1
    printed = capsys.readouterr().out
    assert '2 problems:\n2 x bad weather\n' in printed
    assert str(split.jobs[1].image_path) in printed
    assert pngs(split).keys() == {'0.png', '2.png', '3.png', '5.png'}


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
    report = convert_split(split, nproc)
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
    monkeypatch.setattr(kitti, 'main', lambda args: convert_split(split, args.nproc))
    with pytest.raises(SystemExit, match='^error: .*smaller --nproc'):
        prepare('kitti', tmp_path, '--nproc', '2')
    assert pngs(split) == {}


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('', 'is damaged or no json'),
        ('{"a": [', 'is damaged or no json'),
        ('[]', r"lacks the lists \['a'\]"),
        ('{"a": {}}', r"lacks the lists \['a'\]"),
        ('{"a": [{"id": 1}, {"id": 2, "name": 3}, 4]}', '2 entries of a lack'),
    ],
)
def test_json_of_another_form_is_named(tmp_path, content, message):
    path = tmp_path / 'labels.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=rf'labels\.json:? {message}.*: get it there'):
        conversion.read_json(path, {'a': ('id', 'name')}, 'get it there')


def test_16_bit_rgb_is_not_cut_to_8_bits(tmp_path):
    path = tmp_path / 'label.png'
    cv2.imwrite(str(path), np.full((4, 4, 3), 300, np.uint16))
    with pytest.raises(BadInputError, match='label PNG is not 8-bit RGB'):
        conversion.read_label_png(path, '8-bit RGB')


def test_jpeg_is_no_label(tmp_path):
    path = tmp_path / 'label.png'
    Image.new('RGB', (4, 4)).save(path, 'JPEG')
    with pytest.raises(BadInputError, match='label PNG cannot be decoded'):
        conversion.read_label_png(path, '8-bit RGB')


@pytest.mark.parametrize(
    ('label', 'fits'),
    [((124, 37), True), ((1280, 384), True), ((640, 384), False), ((0, 0), False)],
)
def test_aspect_ratios_fit_within_two_per_cent(label, fits):
    if fits:
        conversion.check_same_view((1242, 375), label, 'image')
        return
    with pytest.raises(BadInputError, match='differ in size'):
        conversion.check_same_view((1242, 375), label, 'image')


def test_image_turned_by_exif_has_the_size_it_is_shown_at(tmp_path):
    path = tmp_path / 'turned.jpg'
    exif = Image.Exif()
    exif[274] = 6
    Image.new('RGB', (30, 20)).save(path, exif=exif)
    assert conversion.read_image_size(path) == (20, 30)
    Image.new('RGB', (30, 20)).save(path)
    assert conversion.read_image_size(path) == (30, 20)


@pytest.mark.parametrize('suffix', ['png', 'jpg'])
@pytest.mark.parametrize('kept', [0, 0.1, 0.5, 0.95])
def test_damage_anywhere_in_an_image_is_found(tmp_path, suffix, kept):
    path = tmp_path / f'noise.{suffix}'
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    assert conversion.read_image_size(path) == (64, 64)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(BadInputError) as error:
        conversion.read_image_size(path)
    ((kind, name),) = error.value.problems
    assert 'image cannot be read' in kind
    assert name == str(path)


def test_segments_have_tight_boxes_and_areas():
    values = np.zeros((5, 8), np.uint16)
    values[1:3, 2:6] = 26001
    values[2, 7] = 26001
    values[4] = 65535
    ids, segments = conversion.collect_segments(
        values, lambda value: (value * 2, 9, 1) if value else None
    )
    np.testing.assert_array_equal(ids, values.astype(int) * 2)
    assert segments == [
        {'id': 52002, 'category_id': 9, 'iscrowd': 1, 'area': 9, 'bbox': [2, 1, 6, 2]},
        {'id': 131070, 'category_id': 9, 'iscrowd': 1, 'area': 8, 'bbox': [0, 4, 8, 1]},
    ]


@pytest.mark.parametrize('size', [(3, 2), (7, 9), (40, 30)])
def test_resized_ids_are_ids_that_were_there(size):
    values = np.random.default_rng(0).choice([0, 9003, 70000], (12, 17))
    resized = conversion.resize_values(values, size)
    assert resized.shape == size[::-1]
    assert set(np.unique(resized)) <= {0, 9003, 70000}
