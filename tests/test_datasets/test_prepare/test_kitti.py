# Licensed under the Apache License, Version 2.0. See LICENSE.
import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb, read_panoptic_png


def prepared(tree, prepare):
    """Prepare; gives ids and segments of the image 'good'."""
    prepare('kitti', tree.root, '--nproc', '1')
    content = tree.read()
    (annotation,) = [a for a in content['annotations'] if a['image_id'] == 'good']
    ids = read_panoptic_png(
        str(tree.root / 'kitti_panoptic_training' / annotation['file_name'])
    )
    return ids, {s['id']: s for s in annotation['segments_info']}


def test_image_and_annotation_of_two_sizes_become_one(write_tree, prepare):
    tree = write_tree('kitti')
    good = tree.root / 'training/images/good.png'
    assert Image.open(good).size == (310, 94)
    ids, _ = prepared(tree, prepare)
    assert ids.shape == (384, 1280)
    (image,) = [i for i in tree.read()['images'] if i['id'] == 'good']
    assert (image['width'], image['height']) == (1280, 384)
    # The image itself is resized when it is loaded.
    assert Image.open(good).size == (310, 94)


def test_annotation_is_resized_without_new_ids(write_tree, prepare):
    tree = write_tree('kitti')
    ids, segments = prepared(tree, prepare)
    # The annotation is 320x96, so every pixel becomes four by four.
    expected = np.full((96, 320), 7)
    expected[:48, :80] = 26000
    expected[:48, 240:] = 26
    expected[72:] = 0
    np.testing.assert_array_equal(ids, expected.repeat(4, 0).repeat(4, 1))
    assert segments.keys() == {7, 26, 26000}


def test_group_is_a_crowd_and_class_is_thousands(write_tree, prepare):
    _, segments = prepared(write_tree('kitti'), prepare)
    found = {i: (s['category_id'], s['iscrowd']) for i, s in segments.items()}
    assert found == {7: (7, 0), 26: (26, 1), 26000: (26, 0)}


def test_third_byte_of_an_id_counts(write_tree, prepare, capsys):
    tree = write_tree('kitti')
    # 26000 read without its third byte would be the same id.
    Image.fromarray(id2rgb(np.full((96, 320), 26000 + 65536))).save(tree.label)
    with pytest.raises(SystemExit):
        prepare('kitti', tree.root, '--nproc', '1')
    assert 'unknown label ids' in capsys.readouterr().out
