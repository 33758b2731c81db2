# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Miniatures of the street data sets, laid out as they are downloaded.

Every split has the images 'good' and 'bad': tests spoil the second one of the first
split and expect the other to be kept.
"""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from mmdet_efficientps.structures.panoptic import id2rgb

# Both have the aspect of the size the data set is scored at.
KITTI_SIZE, IDD_SIZE = (320, 96), (64, 36)
SIZE = (16, 8)


def save(pixels, path):
    """Write an image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(pixels, tuple):
        pixels = np.random.default_rng(0).integers(0, 256, (*pixels[::-1], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def save_json(content, path):
    """Write a json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def city_values(size=SIZE):
    """Road, a car at the left, a group of cars at the right, void at the bottom."""
    width, height = size
    values = np.full((height, width), 7, np.uint16)
    values[: height // 2, : width // 4] = 26000
    values[: height // 2, -width // 4 :] = 26
    values[-height // 4 :] = 1
    return values


def write_cityscapes(root):
    """Cityscapes."""
    for split in ('train', 'val'):
        for name in ('good', 'bad'):
            frame = f'{split}ville/{split}ville_{name}_000019'
            image = save(
                SIZE, root / 'leftImg8bit' / split / f'{frame}_leftImg8bit.png'
            )
            label = root / 'gtFine' / split / f'{frame}_gtFine_instanceIds.png'
            save(city_values(), label)
            if (split, name) == ('train', 'bad'):
                bad = {'image': image, 'label': label}
    return bad | {
        'json': 'gtFine/cityscapes_panoptic_train.json',
        'config': 'cityscapes_panoptic',
        'spoil': lambda: save(np.full(SIZE[::-1], 99, np.uint16), label_of(bad)),
        'wrong_depth': lambda: save(city_values().astype(np.uint8), label_of(bad)),
        'empty': root / 'gtFine' / 'val',
        'num_segments': 3,
    }


def label_of(bad):
    """The label file of the bad image."""
    return bad['label']


def write_kitti(root):
    """KITTI panoptic: one image has another size than its annotation."""
    for split in ('training', 'validation'):
        for name in ('good', 'bad'):
            size = (310, 94) if name == 'good' else KITTI_SIZE
            image = save(size, root / split / 'images' / f'{name}.png')
            label = root / split / 'annotations' / f'{name}.png'
            save(id2rgb(city_values(KITTI_SIZE)), label)
            if (split, name) == ('training', 'bad'):
                bad = {'image': image, 'label': label}
    unknown = id2rgb(np.full(KITTI_SIZE[::-1], 99))
    return bad | {
        'json': 'kitti_panoptic_training.json',
        'config': 'kitti_panoptic',
        'spoil': lambda: save(unknown, label_of(bad)),
        'wrong_depth': lambda: save(city_values(KITTI_SIZE), label_of(bad)),
        'empty': root / 'validation' / 'annotations',
        'num_segments': 3,
    }


def polygon(label, left, top, right, bottom, **keys):
    """A rectangle from its first to its last pixel."""
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {'label': label, 'polygon': corners} | keys


def idd_polygons(objects, size=IDD_SIZE):
    """Content of a polygons.json."""
    return {'imgWidth': size[0], 'imgHeight': size[1], 'objects': objects}


def write_idd(root):
    """IDD: PNGs of part I and JPEGs of part II; frames numbered alike in two drives."""
    width, height = IDD_SIZE
    objects = [
        polygon('road', 0, 0, width - 1, height - 1),
        polygon('car', 0, 0, 15, 17),
        polygon('cargroup', 48, 0, 63, 17),
        polygon('unlabeled', 0, 27, 63, 35),
    ]
    for split in ('train', 'val'):
        for drive, suffix in (('good', 'png'), ('bad', 'jpg')):
            frame = f'{split}/{drive}/frame0340'
            image = save(IDD_SIZE, root / f'leftImg8bit/{frame}_leftImg8bit.{suffix}')
            label = root / f'gtFine/{frame}_gtFine_polygons.json'
            save_json(idd_polygons(objects), label)
            if (split, drive) == ('train', 'bad'):
                bad = {'image': image, 'label': label}
    unknown = idd_polygons([polygon('spaceship', 0, 0, 5, 5)])
    return bad | {
        'json': 'gtFine/idd_panoptic_train.json',
        'config': 'idd_panoptic',
        'spoil': lambda: save_json(unknown, label_of(bad)),
        'empty': root / 'gtFine' / 'val',
        'num_segments': 3,
    }


def vistas_categories(version):
    """Categories as in a shipped json; those of v2.0 with ids of their own."""
    folder = Path(__file__).parents[1] / 'datasets'
    table = json.loads((folder / f'labels/mapillary_vistas_{version}.json').read_text())
    # Ids that are not the place in the table: they must be read, not guessed.
    offset = 0 if version == 'v1.2' else 500
    return [
        {
            'id': label['id'] + offset,
            'name': label['name'],
            'supercategory': label['supercategory'],
            'isthing': label.get('isthing', 0),
        }
        for label in table['classes'] + (table['void'] if offset else [])
    ]


VISTAS_IDS = {'road': 70000, 'car': 300, 'group': 5}


def vistas_ids():
    """Road, a car at the left and a group of persons, void at the bottom."""
    ids = np.full(SIZE[::-1], VISTAS_IDS['road'])
    ids[:4, :4] = VISTAS_IDS['car']
    ids[:4, 12:] = VISTAS_IDS['group']
    ids[6:] = 0
    return ids


def write_vistas(root, versions=('v1.2',), alone=True):
    """Mapillary Vistas with panoptic json and PNGs."""
    names = {
        'road': 'construction--flat--road',
        'car': 'object--vehicle--car',
        'group': 'human--person--person-group',
    }
    for split in ('training', 'validation'):
        for name in ('good', 'bad'):
            image = save(SIZE, root / split / 'images' / f'{name}.jpg')
            if (split, name) == ('training', 'bad'):
                bad = {'image': image}
        for version in versions:
            folder = root / split / ('' if alone else version) / 'panoptic'
            categories = vistas_categories(version)
            id_of = {c['supercategory']: c['id'] for c in categories}
            # v1.2 has no groups.
            id_of.setdefault(names['group'], id_of.get('animal--bird'))
            segments = [
                {'id': number, 'category_id': id_of[names[kind]], 'iscrowd': 0}
                for kind, number in VISTAS_IDS.items()
            ]
            for name in ('good', 'bad'):
                label = save(id2rgb(vistas_ids()), folder / f'{name}.png')
                if (split, name) == ('training', 'bad'):
                    bad['label'] = label
            shipped = (
                folder / {'v1.2': 'panoptic_2018', 'v2.0': 'panoptic_2020'}[version]
            )
            content = {
                'images': [
                    {
                        'id': name,
                        'file_name': f'{name}.jpg',
                        'width': SIZE[0],
                        'height': SIZE[1],
                    }
                    for name in ('good', 'bad')
                ],
                'annotations': [
                    {
                        'image_id': name,
                        'file_name': f'{name}.png',
                        'segments_info': segments,
                    }
                    for name in ('good', 'bad')
                ],
                'categories': categories,
            }
            save_json(content, shipped.with_name(shipped.name + '.json'))
            if split == 'training':
                bad['shipped'] = shipped.with_name(shipped.name + '.json')

    def edit(change):
        content = json.loads(bad['shipped'].read_text())
        change(content['annotations'][1]['segments_info'])
        save_json(content, bad['shipped'])

    return bad | {
        'json': f'mapillary_vistas_{versions[0]}_training.json',
        'config': f'mapillary_vistas_{versions[0]}_panoptic',
        'edit': edit,
        'spoil': lambda: edit(lambda segments: segments[0].update(category_id=999)),
        'wrong_depth': lambda: save(vistas_ids().astype(np.uint16), label_of(bad)),
        'empty': root / 'validation' / 'images',
        'num_segments': 3,
    }


def write_vistas_instances(root):
    """Mapillary Vistas v1.2 with instance maps only."""
    # 0 Bird 0, 13 Road 0, 55 Car 200
    values = np.full(SIZE[::-1], 13 << 8, np.uint16)
    values[:4, :4] = 0
    values[:4, 12:] = (55 << 8) + 200
    values[6:] = 65 << 8
    for split in ('training', 'validation'):
        for name in ('good', 'bad'):
            image = save(SIZE, root / split / 'images' / f'{name}.jpg')
            label = save(values, root / split / 'instances' / f'{name}.png')
            if (split, name) == ('training', 'bad'):
                bad = {'image': image, 'label': label}
    return bad | {
        'json': 'mapillary_vistas_v1.2_training.json',
        'config': 'mapillary_vistas_v1.2_panoptic',
        'spoil': lambda: save(np.full(SIZE[::-1], 70 << 8, np.uint16), label_of(bad)),
        'wrong_depth': lambda: save(values.astype(np.uint8), label_of(bad)),
        'empty': root / 'validation' / 'images',
        'num_segments': 3,
    }


WRITERS = {
    'cityscapes': write_cityscapes,
    'kitti': write_kitti,
    'idd': write_idd,
    'vistas': write_vistas,
    'vistas-instances': write_vistas_instances,
}
