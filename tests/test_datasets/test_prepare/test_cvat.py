# Licensed under the Apache License, Version 2.0. See LICENSE.
import json

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.datasets.prepare import (
    prepare_cvat_cityscapes,
    prepare_cvat_masks,
)
from mmdet_efficientps.structures.panoptic.colors import voc_color

CLASSES = {'things': ['person'], 'stuff': ['road', 'sky']}
# In the order of CVAT: the background, then by name.
LABELS = {
    'background': (0, 0, 0),
    'person': (10, 20, 30),
    'road': (40, 50, 60),
    'sky': (70, 80, 90),
}
NUMBERS = dict(zip(LABELS, range(4), strict=True))


def save(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path)


def per_object(scene, table):
    """A value for each object by the name of its class."""
    return scene.look_up(
        [table['background']] + [table[scene.names[k]] for k in range(1, 5)]
    )


def write_masks(root, scene, name='drive/a b', labels=LABELS):
    """The archive of "Segmentation mask", with an image."""
    lines = ['# label:color_rgb:parts:actions']
    for label, color in labels.items():
        lines.append(f'{label}:{",".join(map(str, color or ()))}::')
    root.mkdir(exist_ok=True)
    (root / 'labelmap.txt').write_text('\n'.join(lines))
    colors = {
        label: color or voc_color(place)
        for place, (label, color) in enumerate(labels.items())
    }
    save(
        root / f'SegmentationClass/{name}.png',
        per_object(scene, colors).astype(np.uint8),
    )
    objects = scene.look_up([voc_color(k) for k in range(5)]).astype(np.uint8)
    save(root / f'SegmentationObject/{name}.png', objects)
    scene.write_image(root / f'JPEGImages/{name}.jpg')


def write_cityscapes(root, scene, name='drive/a', images='imgsFine/leftImg8bit'):
    """The archive of "Cityscapes", with an image."""
    root.mkdir(exist_ok=True)
    lines = (f'{r} {g} {b} {label}' for label, (r, g, b) in LABELS.items())
    (root / 'label_colors.txt').write_text('\n'.join(lines))
    numbers = per_object(scene, NUMBERS)
    objects = np.where(scene.objects, numbers * 1000 + scene.objects, 0)
    stem = root / f'gtFine/default/{name}_gtFine'
    save(stem.with_name(f'{stem.name}_labelIds.png'), numbers.astype(np.uint8))
    save(stem.with_name(f'{stem.name}_instanceIds.png'), objects.astype(np.uint16))
    scene.write_image(root / f'{images}/default/{name}_leftImg8bit.png')


def test_masks_become_segments(tmp_path, scene):
    write_masks(tmp_path / 'task', scene)
    out = tmp_path / 'labels.json'
    (report,) = prepare_cvat_masks(tmp_path / 'task', out, **CLASSES)
    assert not report.problems
    content = scene.check(out)
    assert content['images'][0]['file_name'] == 'drive/a b.jpg'
    assert [tuple(c['color']) for c in content['categories']] == [
        LABELS[name] for name in ('person', 'road', 'sky')
    ]


def test_label_map_without_colors_means_those_of_voc(tmp_path, scene):
    write_masks(tmp_path / 'task', scene, labels=dict.fromkeys(LABELS))
    out = tmp_path / 'labels.json'
    prepare_cvat_masks(tmp_path / 'task', out, **CLASSES)
    scene.check(out)


def test_images_of_another_folder_and_unlabelled_ones(tmp_path, scene):
    write_masks(tmp_path / 'task', scene)
    photos = (tmp_path / 'task/JPEGImages').rename(tmp_path / 'photos')
    scene.write_image(photos / 'later.jpg')
    out = tmp_path / 'labels.json'
    with pytest.raises(FileNotFoundError, match='JPEGImages does not exist'):
        prepare_cvat_masks(tmp_path / 'task', out, **CLASSES)
    (report,) = prepare_cvat_masks(tmp_path / 'task', out, photos, **CLASSES)
    assert not report.problems
    assert 'not labelled: 1 images' in report.summary()
    assert len(scene.check(out)['images']) == 1


def test_masks_of_cityscapes_become_segments(tmp_path, scene):
    write_cityscapes(tmp_path / 'task', scene)
    out = tmp_path / 'labels.json'
    (report,) = prepare_cvat_cityscapes(tmp_path / 'task', out, **CLASSES)
    assert not report.problems
    content = scene.check(out)
    assert content['images'][0]['file_name'] == 'drive/a_leftImg8bit.png'


def test_images_may_lie_elsewhere_under_their_own_names(tmp_path, scene):
    write_cityscapes(tmp_path / 'task', scene, images='leftImg8bit')
    out = tmp_path / 'labels.json'
    prepare_cvat_cityscapes(tmp_path / 'task', out, **CLASSES)
    scene.check(out)
    scene.write_image(tmp_path / 'photos/drive/a.jpg')
    out = tmp_path / 'again.json'
    prepare_cvat_cityscapes(tmp_path / 'task', out, tmp_path / 'photos', **CLASSES)
    assert scene.check(out)['images'][0]['file_name'] == 'drive/a.jpg'


def test_numbers_of_objects_beyond_999_do_not_change_the_class(tmp_path, scene):
    write_cityscapes(tmp_path / 'task', scene)
    (path,) = (tmp_path / 'task/gtFine').rglob('*_instanceIds.png')
    objects = np.array(Image.open(path)).astype(np.int32)
    objects[scene.objects == 4] += 2000
    save(path, objects.astype(np.uint16))
    out = tmp_path / 'labels.json'
    prepare_cvat_cityscapes(tmp_path / 'task', out, **CLASSES)
    scene.check(out)


def test_what_cvat_marks_as_a_crowd_is_one(tmp_path, scene):
    write_cityscapes(tmp_path / 'task', scene)
    (path,) = (tmp_path / 'task/gtFine').rglob('*_instanceIds.png')
    save(path, per_object(scene, NUMBERS).astype(np.uint16))
    (report,) = prepare_cvat_cityscapes(
        tmp_path / 'task', tmp_path / 'labels.json', **CLASSES
    )
    assert report.crowds['person'] == 1


def test_one_of_several_subsets_is_chosen(tmp_path, scene):
    task = tmp_path / 'task'
    write_cityscapes(task, scene)
    for folder in ('gtFine', 'imgsFine/leftImg8bit'):
        (task / folder / 'train').mkdir()
    out = tmp_path / 'labels.json'
    with pytest.raises(ValueError, match=r"\['default', 'train'\]: name one with"):
        prepare_cvat_cityscapes(task, out, **CLASSES)
    prepare_cvat_cityscapes(task, out, subset='default', **CLASSES)
    scene.check(out)
    with pytest.raises(FileNotFoundError, match='gtFine/val does not exist'):
        prepare_cvat_cityscapes(task, out, subset='val', **CLASSES)


@pytest.mark.parametrize('prepare', [prepare_cvat_masks, prepare_cvat_cityscapes])
def test_archive_that_is_not_unpacked_is_said(tmp_path, prepare):
    (tmp_path / 'task.zip').write_bytes(b'PK')
    with pytest.raises(ValueError, match='unpack archives'):
        prepare(tmp_path / 'task.zip', tmp_path / 'labels.json', **CLASSES)


@pytest.mark.parametrize('kind', ['cvat-masks', 'cvat-cityscapes'])
def test_the_command_converts(tmp_path, scene, prepare, kind):
    write = write_masks if kind == 'cvat-masks' else write_cityscapes
    write(tmp_path / 'task', scene)
    out = tmp_path / 'labels.json'
    prepare(
        kind, tmp_path / 'task', '--out', out, '--nproc', '1',
        '--things', 'person', '--stuff', 'road', 'sky',
    )  # fmt: skip
    scene.check(out)
    assert json.loads(out.read_text())['images'][0]['width'] == scene.shape[1]


@pytest.mark.parametrize('form', ['voc_segmentation', 'cityscapes', 'coco_panoptic'])
def test_what_datumaro_writes_is_read(tmp_path, scene, prepare, form):
    """CVAT writes with it; the present one has no instanceIds in "Cityscapes"."""
    pytest.importorskip('datumaro', reason='needs datumaro: pip install datumaro')
    from datumaro.components.annotation import Mask
    from datumaro.components.dataset import Dataset
    from datumaro.components.dataset_base import DatasetItem
    from datumaro.components.media import Image as Media

    names = list(LABELS)[1:]
    masks = [
        Mask(scene.objects == k, label=names.index(name), id=k, group=k)
        for k, name in scene.names.items()
    ]
    media = Media.from_numpy(data=np.full((*scene.shape, 3), 90, np.uint8))
    item = DatasetItem('drive/a b', subset='default', media=media, annotations=masks)
    data = Dataset.from_iterable([item], categories=names, media_type=Media)
    task, out = tmp_path / 'task', tmp_path / 'labels.json'
    data.export(str(task), form, save_media=True)
    classes = ('--things', 'person', '--stuff', 'road', 'sky', '--nproc', '1')
    if form == 'voc_segmentation':
        prepare('cvat-masks', task, '--out', out, *classes)
    elif form == 'cityscapes':
        prepare('cvat-cityscapes', task, '--out', out, *classes)
    else:
        source = task / 'annotations/panoptic_default.json'
        images = task / 'images/default'
        arguments = (source, images, '--out', out)
        prepare('coco-panoptic', *arguments, '--nproc', '1')
        # It does not know what a thing is: every class is one.
        return
    if form == 'cityscapes':
        segments = json.loads(out.read_text())['annotations'][0]['segments_info']
        assert sorted(s['iscrowd'] for s in segments) == [0, 0, 1]
    else:
        scene.check(out)
