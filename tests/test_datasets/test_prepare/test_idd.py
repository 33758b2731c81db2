# Licensed under the Apache License, Version 2.0. See LICENSE.
import json
import math

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import idd
from mmdet_efficientps.structures.panoptic import read_panoptic_png
from mmdet_efficientps.testing.data_set_trees import polygon as rectangle
from mmdet_efficientps.utils import ProblemList

WIDTH, HEIGHT = 64, 36


def draw(*objects):
    """Give (name, iscrowd) per pixel, and per region."""
    problems = ProblemList()
    numbers, regions, dropped = idd.draw_polygons(
        objects, WIDTH, HEIGHT, 'x.json', problems
    )
    assert not problems
    names = {label['id']: label['name'] for label in idd.TABLE['classes']}
    meaning = {k: (names[c], crowd) for k, (c, crowd) in regions.items()}
    return numbers, meaning, dropped


def prepared(tree, prepare, *arguments):
    """Prepare; gives ids and segments of the image 'good'."""
    prepare('idd', tree.root, '--nproc', '1', *arguments)
    content = tree.read()
    (annotation,) = [a for a in content['annotations'] if 'good' in a['image_id']]
    path = tree.root / 'gtFine/idd_panoptic_train' / annotation['file_name']
    return read_panoptic_png(str(path)), annotation['segments_info']


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ([], 'must be an object with fields'),
        ({'imgWidth': 0}, "'imgWidth' of the polygons of an image"),
        ({'imgWidth': -64}, "'imgWidth' of the polygons of an image"),
        ({'imgHeight': None}, "'imgHeight' of the polygons of an image"),
        ({'imgHeight': 'tall'}, "'imgHeight' of the polygons of an image"),
        ({'imgHeight': 640}, 'differ in size'),
        ({'imgWidth': 64 * 10**6, 'imgHeight': 36 * 10**6}, 'are larger than'),
        ({'objects': None}, "'objects' of the polygons of an image"),
    ],
)
def test_polygons_of_another_form_are_a_problem(
    write_tree, prepare, capsys, change, message
):
    tree = write_tree('idd')
    content = json.loads(tree.label.read_text()) | change if change else change
    tree.label.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as error:
        prepare('idd', tree.root, '--nproc', '1')
    assert error.value.code == 1
    assert message in capsys.readouterr().out.partition('1 problem:')[2]
    assert len(tree.read()['images']) == 1


@pytest.mark.parametrize(
    'entry',
    [
        rectangle('bus', 0, 0, math.nan, 5),
        rectangle('bus', 0, 0, 5, math.inf),
        rectangle('bus', 0, 0, 1e12, 5),
        rectangle('bus', 0, -1e9, 5, 5),
        rectangle('bus', 0, 0, '5', 5),
        rectangle('bus', 0, 0, None, 5),
        {'label': 'bus', 'polygon': [[0, 0], [5], [5, 5]]},
        {'label': 'bus', 'polygon': [0, 0, 5, 5, 0, 5]},
        {'label': 'bus', 'polygon': None},
        {'label': 'bus'},
        {'label': None, 'polygon': [[0, 0], [5, 0], [5, 5]]},
        {'polygon': [[0, 0], [5, 0], [5, 5]]},
        'bus',
    ],
)
def test_object_that_cannot_be_drawn_is_left_out_and_named(entry):
    objects = [rectangle('car', 0, 0, 3, 3), entry, rectangle('car', 8, 0, 11, 3)]
    problems = ProblemList()
    numbers, regions, _ = idd.draw_polygons(objects, WIDTH, HEIGHT, 'x.json', problems)
    ((kind, names),) = problems.names.items()
    assert kind.startswith('object left out: ')
    assert names[0].startswith('x.json: objects[1]')
    assert len(regions) == 2
    assert (numbers > 0).sum() == 2 * 16


def test_what_was_left_out_is_a_problem_of_the_command(write_tree, prepare, capsys):
    tree = write_tree('idd')
    content = json.loads(tree.label.read_text())
    content['objects'].append(rectangle('bus', 0, 0, 1e12, 5))
    tree.label.write_text(json.dumps(content))
    with pytest.raises(SystemExit) as error:
        prepare('idd', tree.root, '--nproc', '1')
    assert error.value.code == 1
    assert f'{tree.label}: objects[4]' in capsys.readouterr().out
    assert len(tree.read()['images']) == 2


def test_polygon_that_sticks_out_is_clipped():
    numbers, _, _ = draw(rectangle('car', -20, -3, 3, HEIGHT + 5))
    expected = np.zeros((HEIGHT, WIDTH), int)
    expected[:, :4] = 1
    np.testing.assert_array_equal(numbers, expected)


def test_byte_order_mark_and_numbers_in_quotes_are_read(write_tree, prepare):
    tree = write_tree('idd')
    content = json.loads(tree.label.read_text())
    content |= {'imgWidth': '64', 'imgHeight': 36.0}
    content['objects'][1]['deleted'] = None
    tree.label.write_text(json.dumps(content), encoding='utf-8-sig')
    prepare('idd', tree.root, '--nproc', '1')
    assert [len(a['segments_info']) for a in tree.read()['annotations']] == [3, 3]


def test_file_between_the_folders_of_drives_is_passed_over(write_tree, prepare):
    tree = write_tree('idd')
    for kind in ('leftImg8bit', 'gtFine'):
        (tree.root / kind / 'train' / 'LICENSE').write_text('of the download')
    prepare('idd', tree.root, '--nproc', '1')
    assert len(tree.read()['images']) == 2


def test_suffix_in_capitals_is_one(write_tree, prepare):
    tree = write_tree('idd')
    tree.image.rename(tree.image.with_suffix('.JPG'))
    prepare('idd', tree.root, '--nproc', '1')
    names = [image['file_name'] for image in tree.read()['images']]
    assert names == ['bad/frame0340_leftImg8bit.JPG', 'good/frame0340_leftImg8bit.png']


def test_road_is_class_zero_and_not_void(write_tree, prepare):
    ids, segments = prepared(write_tree('idd'), prepare)
    (road,) = [s for s in segments if s['category_id'] == 0]
    assert road['id'] > 0
    # Rows 18 to 26 of 36 are road from edge to edge, rows 27 to 35 void.
    assert (ids[360:540] == road['id']).all()
    assert not ids[540:].any()


def test_ground_truth_is_resized_to_the_nearest_id(write_tree, prepare):
    tree = write_tree('idd')
    ids, segments = prepared(tree, prepare)
    assert ids.shape == (720, 1280)
    assert set(np.unique(ids)) == {0, *(s['id'] for s in segments)}
    small, _ = prepared(tree, prepare, '--size', WIDTH, HEIGHT)
    np.testing.assert_array_equal(ids, small.repeat(20, 0).repeat(20, 1))


def test_smaller_ground_truth_has_no_ids_in_between(write_tree, prepare):
    ids, segments = prepared(write_tree('idd'), prepare, '--size', 31, 17)
    assert ids.shape == (17, 31)
    assert set(np.unique(ids)) <= {0, *(s['id'] for s in segments)}


def test_frames_of_one_name_in_two_drives_are_two_images(write_tree, prepare):
    tree = write_tree('idd')
    prepared(tree, prepare)
    images = tree.read()['images']
    assert sorted(image['id'] for image in images) == [
        'bad_frame0340',
        'good_frame0340',
    ]
    assert sorted(image['file_name'] for image in images) == [
        'bad/frame0340_leftImg8bit.jpg',
        'good/frame0340_leftImg8bit.png',
    ]


def test_frame_as_png_and_jpeg_is_a_problem(write_tree, prepare, capsys):
    tree = write_tree('idd')
    Image.open(tree.image).save(tree.image.with_suffix('.png'))
    with pytest.raises(SystemExit):
        prepare('idd', tree.root, '--nproc', '1')
    assert 'with two suffixes' in capsys.readouterr().out


def test_polygons_of_a_group_are_one_crowd_and_things_are_single():
    numbers, meaning, _ = draw(
        rectangle('person', 0, 0, 3, 3),
        rectangle('person', 8, 0, 11, 3),
        rectangle('persongroup', 0, 8, 3, 11),
        rectangle('persongroup', 8, 8, 11, 11),
    )
    assert sorted(meaning.values()) == [('person', 0), ('person', 0), ('person', 1)]
    assert numbers[0, 0] != numbers[0, 8]
    assert numbers[8, 0] == numbers[8, 8]
    assert (numbers > 0).sum() == 64


def test_merged_labels_share_a_class_and_stuff_is_one_region():
    numbers, meaning, _ = draw(
        rectangle('pole', 0, 0, 3, 3),
        rectangle('polegroup', 8, 0, 11, 3),
        rectangle('animal', 0, 8, 3, 11),
        rectangle('trailer', 8, 8, 11, 11),
        rectangle('fallback background', 16, 8, 19, 11),
    )
    assert meaning[numbers[0, 0]] == ('pole', 0)
    assert numbers[0, 8] == numbers[0, 0]
    assert meaning[numbers[8, 0]] == ('person', 0)
    assert meaning[numbers[8, 8]] == ('vehicle fallback', 0)
    assert meaning[numbers[8, 16]] == ('sky', 0)


def test_later_polygons_hide_earlier_and_deleted_are_not_drawn():
    numbers, meaning, dropped = draw(
        rectangle('road', 0, 0, 63, 35),
        rectangle('car', 0, 0, 9, 9),
        rectangle('license plate', 2, 2, 5, 5),
        rectangle('bus', 20, 0, 29, 9, deleted=1),
        {'label': 'truck', 'polygon': [[0, 0], [5, 5]]},
    )
    assert meaning[numbers[0, 0]] == ('car', 0)
    assert not numbers[2:6, 2:6].any()
    assert meaning[numbers[0, 25]] == ('road', 0)
    assert dropped == 1


def test_hidden_thing_is_dropped_and_counted(write_tree, prepare, capsys):
    tree = write_tree('idd')
    content = json.loads(tree.label.read_text())
    content['objects'].insert(0, rectangle('bus', 5, 5, 9, 9))
    tree.label.write_text(json.dumps(content))
    prepare('idd', tree.root, '--nproc', '1')
    assert 'dropped: 1' in capsys.readouterr().out


def test_more_than_a_thousand_things_stay_apart():
    boxes = [(x, y) for y in range(30) for x in range(60)]
    numbers, meaning, _ = draw(*(rectangle('car', x, y, x, y) for x, y in boxes))
    assert len(np.unique(numbers[numbers > 0])) == len(boxes) == 1800
    assert set(meaning.values()) == {('car', 0)}
