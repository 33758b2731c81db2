# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest

from mmdet_efficientps.structures.panoptic import (
    Journal,
    PanopticOutput,
    check_output,
    path_inside,
    read_panoptic_png,
)
from mmdet_efficientps.utils import check_output_file, output_paths

IDS = np.ones((2, 3), np.int32)
SEGMENTS = [{'id': 1, 'category': 0}]


@pytest.mark.parametrize('name', ['a.png', 'city/a.png', 'a/../b.png', './a.png'])
def test_names_inside_the_folder_are_taken(tmp_path, name):
    assert tmp_path in path_inside(tmp_path, name).parents


@pytest.mark.parametrize(
    'name', ['/a.png', '../a.png', 'a/../../b.png', '', '.', 'a/..', 'a\0.png']
)
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match='no file name inside'):
        path_inside(tmp_path / 'out', name)


def test_a_link_that_leads_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / 'photographs').mkdir()
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/city').symlink_to(tmp_path / 'photographs')
    with pytest.raises(ValueError, match='links'):
        path_inside(tmp_path / 'out', 'city/a.png')


def test_the_folder_itself_may_be_a_link(tmp_path):
    (tmp_path / 'disk').mkdir()
    (tmp_path / 'out').symlink_to(tmp_path / 'disk')
    assert path_inside(tmp_path / 'out', 'a.png') == tmp_path / 'out/a.png'


@pytest.fixture
def photograph(tmp_path):
    """A file that must not be lost."""
    path = tmp_path / 'data/train/a.png'
    path.parent.mkdir(parents=True)
    path.write_bytes(b'photograph')
    return path


@pytest.mark.parametrize('out', ['data/train', 'data', '.', 'data/train/a.png'])
def test_an_output_that_is_or_holds_an_input_is_refused(tmp_path, photograph, out):
    with pytest.raises(ValueError, match=rf'--out {tmp_path / out} is .*') as error:
        check_output(tmp_path / out, [None, 's3://a/b.png', photograph], '--out')
    assert 'give another' in str(error.value)


@pytest.mark.parametrize('out', ['results', 'data/results', 'data/train/results'])
def test_other_outputs_are_taken(tmp_path, photograph, out):
    check_output(tmp_path / out, [photograph], '--out')


def test_a_file_is_not_written_over_an_input_or_a_folder(tmp_path, photograph):
    check_output_file(photograph.with_name('table.json'), [photograph], '--out')
    with pytest.raises(ValueError, match=r'--out .*a\.png is an input'):
        check_output_file(photograph, [photograph], '--out')
    (tmp_path / 'tables').mkdir()
    with pytest.raises(ValueError, match='--out .*tables is a folder: give a file'):
        check_output_file(tmp_path / 'tables', [photograph], '--out')


def test_links_do_not_hide_an_input(tmp_path, photograph):
    (tmp_path / 'link').symlink_to(photograph.parent)
    linked_file = tmp_path / 'elsewhere.png'
    linked_file.symlink_to(photograph)
    for out, source in (
        (tmp_path / 'link', photograph),
        (photograph.parent, tmp_path / 'link/a.png'),
        (photograph.parent, linked_file),
    ):
        with pytest.raises(ValueError, match='folder that holds inputs'):
            check_output(out, [source])


def test_other_names_do_not_hide_an_input(tmp_path, photograph, monkeypatch):
    (tmp_path / 'hard.png').hardlink_to(photograph)
    with pytest.raises(ValueError, match='is an input'):
        check_output(tmp_path / 'hard.png', [photograph])
    # A disk that takes no notice of capitals.
    monkeypatch.setattr(output_paths, '_identity', lambda path: str(path).casefold())
    output_paths._identities.cache_clear()
    for out, message in (
        (photograph.with_name('A.PNG'), 'is an input'),
        (photograph.parent.with_name('TRAIN'), 'folder that holds inputs'),
    ):
        with pytest.raises(ValueError, match=message):
            check_output(out, [photograph])
    check_output(photograph.parent / 'NEW', [photograph])
    output_paths._identities.cache_clear()


def test_a_line_that_was_cut_short_counts_as_not_written(tmp_path):
    journal = Journal(tmp_path / 'sub/journal')
    assert list(journal.entries()) == []
    journal.append({'a': 1})
    with journal.path.open('a') as stream:
        stream.write('\n{"a": 2, "b')
    journal.append({'a': 3})
    assert list(journal.entries()) == [{'a': 1}, {'a': 3}]


@pytest.mark.parametrize('up', ['', '../../'])
def test_an_image_id_that_is_a_path_stays_inside(tmp_path, photograph, up):
    image_id = f'{up}{photograph}'
    output = PanopticOutput(tmp_path / 'out', 'run')
    output.add(image_id, IDS, SEGMENTS, [7])
    output.finish([])
    assert photograph.read_bytes() == b'photograph'
    (entry,) = json.loads(output.json_file.read_text())['annotations']
    assert entry['image_id'] == image_id
    assert (tmp_path / 'out/panoptic') in path_inside(
        tmp_path / 'out/panoptic', entry['file_name']
    ).parents
    ids = read_panoptic_png(str(tmp_path / 'out/panoptic' / entry['file_name']))
    np.testing.assert_array_equal(ids, IDS)


def test_ids_that_differ_in_nothing_but_the_way_up_have_two_files():
    stems = {PanopticOutput.stem(i) for i in ('a/b', '/a/b', '../a/b', '../../a/b')}
    assert len(stems) == 4


def test_two_images_of_one_file_name_are_refused(tmp_path):
    output = PanopticOutput(tmp_path, 'run')
    output.add('a', IDS, SEGMENTS, [7])
    for image_id in ('a.png', 'a'):
        if image_id == 'a':
            output.add(image_id, IDS, SEGMENTS, [7])
        else:
            with pytest.raises(ValueError, match=r"'a' and 'a\.png'"):
                output.add(image_id, IDS, SEGMENTS, [7])


def test_a_png_replaces_a_link_and_not_what_it_leads_to(tmp_path, photograph):
    (tmp_path / 'out/panoptic').mkdir(parents=True)
    (tmp_path / 'out/panoptic/a.png').symlink_to(photograph)
    PanopticOutput(tmp_path / 'out', 'run').add('a', IDS, SEGMENTS, [7])
    assert photograph.read_bytes() == b'photograph'
