# Licensed under the Apache License, Version 2.0. See LICENSE.
import os
import shutil

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from cityscapesscripts.helpers.labels import name2label
from PIL import Image

from mmdet_efficientps.testing.toy_city import render_scene, write_toy_city

EVALUATED = {
    label.name: label.id for label in cityscapes_labels if not label.ignoreInEval
}
WITH_INSTANCES = [label.id for label in cityscapes_labels if label.hasInstances]
SMALL = {'num_train': 3, 'num_val': 2, 'size': (48, 96)}


@pytest.fixture(scope='module')
def val_scenes():
    """Some scenes of the default validation split."""
    return [render_scene((0, 1, number)) for number in (*range(8), 10, 16, 30)]


@pytest.fixture(scope='module')
def written(tmp_path_factory):
    """A small toy_city on disk that no test changes."""
    root = tmp_path_factory.mktemp('toy') / 'city'
    write_toy_city(root, **SMALL)
    return root


@pytest.fixture
def city(written, tmp_path):
    """A copy of it that a test may change; the files keep their times."""
    return shutil.copytree(written, tmp_path / 'city')


def files(root):
    """Contents of all files by relative path."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob('*')
        if path.is_file()
    }


def times(root):
    """Modification times of all files by relative path."""
    return {
        str(path.relative_to(root)): path.stat().st_mtime_ns
        for path in root.rglob('*')
        if path.is_file()
    }


def heights(scene):
    """Heights in pixels of the visible things of a scene."""
    ids = scene.instance_ids
    rows = [np.flatnonzero((ids == i).any(axis=1)) for i in np.unique(ids[ids >= 1000])]
    return [int(r[-1] - r[0]) + 1 for r in rows]


def test_scene_depends_on_its_seed_alone():
    first = render_scene((0, 1, 5), (48, 96))
    other = render_scene((0, 1, 6), (48, 96))
    again = render_scene((0, 1, 5), (48, 96))
    np.testing.assert_array_equal(first.image, again.image)
    assert first.annotation == again.annotation
    assert (first.image != other.image).mean() > 0.5
    assert first.annotation != other.annotation


def test_every_class_is_seen_within_a_few_scenes(val_scenes):
    count = {
        name: sum((scene.label_ids == label).any() for scene in val_scenes)
        for name, label in EVALUATED.items()
    }
    assert len(count) == 19
    assert min(count.values()) >= 2, count


def test_things_span_from_a_few_pixels_to_half_the_image(val_scenes):
    seen = [height for scene in val_scenes for height in heights(scene)]
    assert min(seen) <= 6
    assert max(seen) >= 256 / 2


def test_group_regions_carry_the_bare_label_of_a_thing(val_scenes):
    groups = [
        label
        for scene in val_scenes
        for label in np.unique(scene.instance_ids[scene.instance_ids < 1000])
        if label in WITH_INSTANCES
    ]
    assert len(groups) >= 2


def test_some_areas_are_not_evaluated_and_most_are(val_scenes):
    share = [np.isin(s.label_ids, list(EVALUATED.values())).mean() for s in val_scenes]
    assert min(share) < 0.995
    assert np.mean(share) > 0.8


def test_instance_ids_agree_with_label_ids(val_scenes):
    for scene in val_scenes:
        ids, labels = scene.instance_ids, scene.label_ids
        single = ids >= 1000
        np.testing.assert_array_equal(ids[single] // 1000, labels[single])
        np.testing.assert_array_equal(ids[~single], labels[~single])
        assert np.isin(labels[single], WITH_INSTANCES).all()


def test_polygons_are_whole_pixels_of_the_image_with_labels_of_cityscapes(val_scenes):
    for scene in val_scenes:
        for obj in scene.annotation['objects']:
            label = obj['label']
            assert label in name2label or label.removesuffix('group') in name2label
            polygon = np.array(obj['polygon'])
            assert polygon.dtype.kind == 'i'
            assert polygon.ndim == 2
            assert len(polygon) >= 3
            assert (polygon >= 0).all()
            assert (polygon < (512, 256)).all()


def test_color_alone_does_not_tell_the_classes(val_scenes):
    pixels = np.concatenate([s.image[::4, ::4].reshape(-1, 3) for s in val_scenes])
    labels = np.concatenate([s.label_ids[::4, ::4].ravel() for s in val_scenes])
    names = list(EVALUATED.values())
    means = np.stack([pixels[labels == label].mean(axis=0) for label in names])
    distance = ((pixels[:, None].astype(float) - means) ** 2).sum(axis=-1)
    nearest = np.array(names)[distance.argmin(axis=1)]
    recall = [(nearest[labels == label] == label).mean() for label in names]
    assert np.mean(recall) < 0.4


@pytest.mark.parametrize('size', [(64, 128), (33, 65), (96, 96), (128, 48)])
def test_any_size_works(size):
    scene = render_scene(3, size)
    assert scene.image.shape == (*size, 3)
    assert scene.image.dtype == np.uint8
    assert scene.label_ids.shape == scene.instance_ids.shape == size
    assert (scene.annotation['imgHeight'], scene.annotation['imgWidth']) == size
    assert len(np.unique(scene.label_ids)) >= 5


def test_density_is_the_relative_number_of_things():
    few, many = (
        sum(len(heights(render_scene(k, (64, 128), density))) for k in range(4))
        for density in (0.3, 2.0)
    )
    assert many > 2 * few


@pytest.mark.parametrize(
    ('parameters', 'message'),
    [
        ({'size': (31, 96)}, 'at least 32 x 32'),
        ({'density': -1.0}, 'must not be negative'),
        ({'num_val': 0}, 'both splits need at least one'),
    ],
)
def test_bad_parameters_raise_before_anything_is_written(tmp_path, parameters, message):
    with pytest.raises(ValueError, match=message):
        write_toy_city(tmp_path / 'city', **SMALL | parameters)
    assert not (tmp_path / 'city').exists()


def test_scene_that_is_too_small_raises():
    with pytest.raises(ValueError, match='at least 32 x 32'):
        render_scene(0, (64, 31))


def test_files_lie_where_those_of_cityscapes_do(written):
    frames = {
        'train': ['spielburg_000000', 'spielburg_000001', 'klotzstadt_000000'],
        'val': ['modellhausen_000000', 'legofurt_000000'],
    }
    expected = {'toy_city.json'}
    for split, names in frames.items():
        for name in names:
            city = name.split('_')[0]
            expected.add(f'leftImg8bit/{split}/{city}/{name}_000019_leftImg8bit.png')
            for kind in (
                'color.png',
                'instanceIds.png',
                'labelIds.png',
                'polygons.json',
            ):
                expected.add(f'gtFine/{split}/{city}/{name}_000019_gtFine_{kind}')
    assert files(written).keys() == expected


def test_files_hold_the_scene(written):
    scene = render_scene((0, 1, 0), (48, 96))
    frame = 'val/modellhausen/modellhausen_000000_000019'

    def read(path):
        return np.array(Image.open(written / path))

    instance_ids = read(f'gtFine/{frame}_gtFine_instanceIds.png')
    label_ids = read(f'gtFine/{frame}_gtFine_labelIds.png')
    color = read(f'gtFine/{frame}_gtFine_color.png')
    assert instance_ids.dtype == np.uint16
    assert label_ids.dtype == np.uint8
    np.testing.assert_array_equal(instance_ids, scene.instance_ids)
    np.testing.assert_array_equal(label_ids, scene.label_ids)
    np.testing.assert_array_equal(
        read(f'leftImg8bit/{frame}_leftImg8bit.png'), scene.image
    )
    assert (label_ids == name2label['road'].id).any()
    assert (color[label_ids == name2label['road'].id] == (128, 64, 128, 255)).all()


def test_number_of_processes_and_scenes_does_not_change_a_byte(written, tmp_path):
    write_toy_city(tmp_path / 'parallel', **SMALL, nproc=2)
    assert files(tmp_path / 'parallel') == files(written)
    write_toy_city(tmp_path / 'fewer', **SMALL | {'num_train': 1})
    fewer = files(tmp_path / 'fewer')
    del fewer['toy_city.json']
    assert fewer.items() <= files(written).items()


def test_restart_makes_what_is_missing_and_nothing_else(city, written):
    before = times(city)
    frame = 'train/klotzstadt/klotzstadt_000000_000019'
    (city / f'gtFine/{frame}_gtFine_labelIds.png').unlink()
    write_toy_city(city, **SMALL)
    assert files(city) == files(written)
    after = times(city)
    redone = {path for path in after if after[path] != before[path]}
    assert len(redone) == 5
    assert all('klotzstadt_000000' in path for path in redone)


def test_other_parameters_are_refused(city):
    before = times(city)
    with pytest.raises(FileExistsError, match=r"'seed': \(0, 1\).*--overwrite"):
        write_toy_city(city, **SMALL, seed=1)
    assert times(city) == before


def test_overwrite_leaves_no_file_of_the_old_set(city):
    (city / 'gtFine' / 'cityscapes_panoptic_val.json').touch()
    small = {'num_train': 1, 'num_val': 1, 'size': (32, 64)}
    write_toy_city(city, **small, overwrite=True)
    write_toy_city(city.parent / 'fresh', **small)
    assert files(city) == files(city.parent / 'fresh')


@pytest.mark.parametrize('overwrite', [False, True])
def test_folder_of_somebody_else_is_refused(tmp_path, overwrite):
    (tmp_path / 'thesis.txt').write_text('years of work')
    with pytest.raises(FileExistsError, match='it is not a toy_city'):
        write_toy_city(tmp_path, **SMALL, overwrite=overwrite)
    assert os.listdir(tmp_path) == ['thesis.txt']
