# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Miniatures of the data sets, laid out as they are downloaded.

A function for each writes a tree of two splits, with the images 'good' and 'bad' in
each: tests spoil the second one of the first split and expect the other to be kept.
Every image has road, a car at the upper left, a crowd at the upper right (a bird where
the labels know no crowds), and void in the lowest rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets import CocoPanopticDataset
from PIL import Image

from mmdet_efficientps.datasets.label_table import load_label_table
from mmdet_efficientps.structures.panoptic import (
    read_json,
    write_json,
    write_panoptic_png,
)

# Width and height in pixels. KITTI and IDD have the aspect of the size that they are
# scored at, which is another one.
SIZE, KITTI_SIZE, IDD_SIZE = (16, 8), (320, 96), (64, 36)
NAMES = ('good', 'bad')
ROAD, CAR, CROWD = 70000, 300, 5


@dataclass
class DataSetTree:
    """A miniature data set.

    Attributes:
        root (Path): Its folder.
        kind (str | None): Its kind for ``prepare_dataset.py``; None if it needs no
            preparation.
        config (str): Its config in ``configs/_base_/datasets``.
        jsons (tuple[str, str]): Panoptic jsons of both splits, relative to ``root``.
        image_dirs (tuple[str, str]): Folders of their images.
        image (Path): The bad image of the first split.
        label (Path): Its labels.
        spoil (Callable[[], Any]): Gives it a label that the data set does not have.
        wrong_depth (Callable[[], Any] | None): Makes its label PNG one of another bit
            depth; None if the labels are polygons.
        shipped (Path | None): Panoptic json of the download for the first split.
    """

    root: Path
    kind: str | None
    config: str
    jsons: tuple[str, str]
    image_dirs: tuple[str, str]
    image: Path
    label: Path
    spoil: Callable[[], Any]
    wrong_depth: Callable[[], Any] | None = None
    shipped: Path | None = None

    def read(self, out: Path | None = None) -> dict[str, Any]:
        """Read the panoptic json of the first split.

        Args:
            out (Path | None): Folder it was written to. Defaults to None, ``root``.

        Returns:
            dict[str, Any]: Its content.
        """
        return read_json((out or self.root) / self.jsons[0])

    def edit(self, change: Callable[[list[dict[str, Any]]], Any]) -> None:
        """Change the segments of the bad image in the shipped json.

        Args:
            change (Callable[[list[dict[str, Any]]], Any]): Gets them.
        """
        assert self.shipped, 'this data set ships no json'
        content = read_json(self.shipped)
        change(content['annotations'][1]['segments_info'])
        write_json(self.shipped, content)


def save(pixels: np.ndarray | tuple[int, int], path: Path) -> Path:
    """Write an image.

    Args:
        pixels (np.ndarray | tuple[int, int]): Its pixels, or width and height of a
            photograph of noise.
        path (Path): The file. Folders on the way are made.

    Returns:
        Path: The file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(pixels, tuple):
        shape = (*pixels[::-1], 3)
        pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def draw_map(
    road: int, car: int, crowd: int, void: int, size: tuple[int, int] = SIZE
) -> np.ndarray:
    """Draw the labels that every image has.

    Args:
        road (int): Value of the road.
        car (int): Value of the car.
        crowd (int): Value of the crowd.
        void (int): Value of void.
        size (tuple[int, int]): Width and height in pixels. Defaults to (16, 8).

    Returns:
        np.ndarray: Values, shape (height, width), int32.
    """
    width, height = size
    values = np.full(size[::-1], road, np.int32)
    values[: height // 2, : width // 4] = car
    values[: height // 2, -width // 4 :] = crowd
    values[-height // 4 :] = void
    return values


def write_cityscapes(root: Path) -> DataSetTree:
    """Write a tree of Cityscapes.

    Args:
        root (Path): Folder of the tree, as for all data sets.

    Returns:
        DataSetTree: What was written, as for all data sets.
    """
    values = draw_map(7, 26000, 26, 1).astype(np.uint16)
    for split in ('val', 'train'):
        for name in NAMES:
            frame = f'{split}/{split}ville/{split}ville_{name}_000019'
            image = save(SIZE, root / f'leftImg8bit/{frame}_leftImg8bit.png')
            label = save(values, root / f'gtFine/{frame}_gtFine_instanceIds.png')
    return DataSetTree(
        root,
        'cityscapes',
        'cityscapes_panoptic',
        _both('gtFine/cityscapes_panoptic_{}.json', ('train', 'val')),
        _both('leftImg8bit/{}', ('train', 'val')),
        image,
        label,
        spoil=lambda: save(np.full_like(values, 99), label),
        wrong_depth=lambda: save(values.astype(np.uint8), label),
    )


def write_kitti(root: Path) -> DataSetTree:
    """Write a tree of KITTI panoptic: good images have another size than the labels."""
    values = draw_map(7, 26000, 26, 1, KITTI_SIZE)
    for split in ('validation', 'training'):
        for name in NAMES:
            size = (310, 94) if name == 'good' else KITTI_SIZE
            image = save(size, root / split / 'images' / f'{name}.png')
            label = root / split / 'annotations' / f'{name}.png'
            write_panoptic_png(label, values)
    return DataSetTree(
        root,
        'kitti',
        'kitti_panoptic',
        _both('kitti_panoptic_{}.json', ('training', 'validation')),
        _both('{}/images', ('training', 'validation')),
        image,
        label,
        spoil=lambda: write_panoptic_png(label, np.full_like(values, 99)),
        wrong_depth=lambda: save(values.astype(np.uint16), label),
    )


def polygon(
    label: str, left: float, top: float, right: float, bottom: float, **keys: Any
) -> dict[str, Any]:
    """Give an object of IDD: a rectangle from its first to its last pixel.

    Args:
        label (str): Its label.
        left (float): First column.
        top (float): First row.
        right (float): Last column.
        bottom (float): Last row.
        **keys (Any): Further fields.

    Returns:
        dict[str, Any]: Entry of a polygons.json.
    """
    corners = [[left, top], [right, top], [right, bottom], [left, bottom]]
    return {'label': label, 'polygon': corners} | keys


def write_idd(root: Path) -> DataSetTree:
    """Write a tree of IDD: PNGs and JPEGs, frames numbered alike in two drives."""
    width, height = IDD_SIZE
    content = {
        'imgWidth': width,
        'imgHeight': height,
        'objects': [
            polygon('road', 0, 0, width - 1, height - 1),
            polygon('car', 0, 0, 15, 17),
            polygon('cargroup', 48, 0, 63, 17),
            polygon('unlabeled', 0, 27, 63, 35),
        ],
    }
    for split in ('val', 'train'):
        for drive, suffix in zip(NAMES, ('png', 'jpg'), strict=True):
            frame = f'{split}/{drive}/frame0340'
            image = save(IDD_SIZE, root / f'leftImg8bit/{frame}_leftImg8bit.{suffix}')
            label = root / f'gtFine/{frame}_gtFine_polygons.json'
            write_json(label, content)
    unknown = content | {'objects': [polygon('spaceship', 0, 0, 5, 5)]}
    return DataSetTree(
        root,
        'idd',
        'idd_panoptic',
        _both('gtFine/idd_panoptic_{}.json', ('train', 'val')),
        _both('leftImg8bit/{}', ('train', 'val')),
        image,
        label,
        spoil=lambda: write_json(label, unknown),
    )


def write_vistas(
    root: Path, versions: Sequence[str] = ('v1.2',), alone: bool = True
) -> DataSetTree:
    """Write a tree of Mapillary Vistas with panoptic jsons and PNGs.

    Args:
        root (Path): Folder of the tree.
        versions (Sequence[str]): Versions of the labels. Defaults to ('v1.2', ).
        alone (bool): Whether the labels lie as they did when there was v1.2 alone.
            Defaults to True.

    Returns:
        DataSetTree: What was written; labels and json of the first version.
    """
    values = draw_map(ROAD, CAR, CROWD, 0)
    years = {'v1.2': 'panoptic_2018.json', 'v2.0': 'panoptic_2020.json'}
    for version in reversed(versions):
        table = load_label_table(f'mapillary_vistas_{version}')
        # Ids that are not the place in the table: they must be read, not guessed.
        offset = 0 if version == 'v1.2' else 500
        categories = [
            {
                'id': label['id'] + offset,
                'name': label['name'],
                'supercategory': label['supercategory'],
                'isthing': label.get('isthing', 0),
            }
            for label in table['classes'] + (table['void'] if offset else [])
        ]
        id_of = {c['supercategory']: c['id'] for c in categories}
        group = 'human--person--person-group' if offset else 'animal--bird'
        kinds = {
            ROAD: id_of['construction--flat--road'],
            CAR: id_of['object--vehicle--car'],
            CROWD: id_of[group],
        }
        for split in ('validation', 'training'):
            folder = root / split / ('' if alone else version) / 'panoptic'
            image, label = _write_panoptic(
                root / split / 'images', folder, folder / years[version], values, kinds,
                categories,
            )  # fmt: skip
    tree = DataSetTree(
        root,
        'vistas',
        f'mapillary_vistas_{versions[0]}_panoptic',
        _both(f'mapillary_vistas_{versions[0]}_{{}}.json', ('training', 'validation')),
        _both('{}/images', ('training', 'validation')),
        image,
        label,
        spoil=lambda: tree.edit(lambda segments: segments[0].update(category_id=999)),
        wrong_depth=lambda: save(values.astype(np.uint16), label),
        shipped=label.with_name(years[versions[0]]),
    )
    return tree


def write_vistas_instances(root: Path) -> DataSetTree:
    """Write a tree of Mapillary Vistas v1.2 with instance maps only."""
    # Index of the label * 256 + number: Road 0, Bird 0, Car 200, Unlabeled.
    values = draw_map(13 << 8, 0, (55 << 8) + 200, 65 << 8).astype(np.uint16)
    for split in ('validation', 'training'):
        for name in NAMES:
            image = save(SIZE, root / split / 'images' / f'{name}.jpg')
            label = save(values, root / split / 'instances' / f'{name}.png')
    return DataSetTree(
        root,
        'vistas',
        'mapillary_vistas_v1.2_panoptic',
        _both('mapillary_vistas_v1.2_{}.json', ('training', 'validation')),
        _both('{}/images', ('training', 'validation')),
        image,
        label,
        spoil=lambda: save(np.full_like(values, 70 << 8), label),
        wrong_depth=lambda: save(values.astype(np.uint8), label),
    )


def write_coco(root: Path) -> DataSetTree:
    """Write a tree of COCO panoptic, which needs no preparation."""
    meta = CocoPanopticDataset.METAINFO
    # Ids that are not the place in the list, as in the download.
    categories = [
        {'id': 2 * k + 1, 'name': name, 'isthing': int(name in meta['thing_classes'])}
        for k, name in enumerate(meta['classes'])
    ]
    id_of = {c['name']: c['id'] for c in categories}
    kinds = {ROAD: id_of['road'], CAR: id_of['car'], CROWD: id_of['person']}
    for split in ('val2017', 'train2017'):
        folder = root / 'annotations' / f'panoptic_{split}'
        image, label = _write_panoptic(
            root / split,
            folder,
            folder.with_suffix('.json'),
            draw_map(ROAD, CAR, CROWD, 0),
            kinds,
            categories,
            crowds=[CROWD],
        )
    tree = DataSetTree(
        root,
        None,
        'coco_panoptic',
        _both('annotations/panoptic_{}.json', ('train2017', 'val2017')),
        ('train2017', 'val2017'),
        image,
        label,
        spoil=lambda: tree.edit(lambda segments: segments[0].update(category_id=999)),
        shipped=label.parent.with_suffix('.json'),
    )
    return tree


def _both(pattern: str, splits: tuple[str, str]) -> tuple[str, str]:
    """Fill in the names of both splits."""
    return pattern.format(splits[0]), pattern.format(splits[1])


def _write_panoptic(
    image_dir: Path,
    png_dir: Path,
    json_path: Path,
    values: np.ndarray,
    kinds: dict[int, int],
    categories: list[dict[str, Any]],
    crowds: Sequence[int] = (),
) -> tuple[Path, Path]:
    """Write a split in the COCO-panoptic format.

    Args:
        image_dir (Path): Folder of the images.
        png_dir (Path): Folder of the PNGs.
        json_path (Path): The json.
        values (np.ndarray): Segment ids of every image, shape (H, W).
        kinds (dict[int, int]): Category id of each segment.
        categories (list[dict[str, Any]]): Categories of the json.
        crowds (Sequence[int]): Segments that are crowds. Defaults to ().

    Returns:
        tuple[Path, Path]: Image and PNG of the bad image.
    """
    segments = [
        {'id': id_, 'category_id': category, 'iscrowd': int(id_ in crowds)}
        for id_, category in kinds.items()
    ]
    content: dict[str, list[Any]] = {'images': [], 'annotations': []}
    for name in NAMES:
        image = save(SIZE, image_dir / f'{name}.jpg')
        label = png_dir / f'{name}.png'
        write_panoptic_png(label, values)
        height, width = values.shape
        content['images'].append(
            {'id': name, 'file_name': image.name, 'width': width, 'height': height}
        )
        content['annotations'].append(
            {'image_id': name, 'file_name': label.name, 'segments_info': segments}
        )
    write_json(json_path, content | {'categories': categories})
    return image, label


def write_own(
    root: Path,
    name: str,
    maps: Sequence[np.ndarray],
    kinds: dict[int, int],
    categories: list[dict[str, Any]],
    crowds: Sequence[int] = (),
    seed: int = 0,
    measured: bool = True,
) -> tuple[Path, Path]:
    """Write a data set of one's own in the COCO-panoptic format.

    The photographs differ from each other, also at a small size.

    Args:
        root (Path): Folder of the tree.
        name (str): Name of the json, of the folder of PNGs beside it, and of that of
            the images in ``images``.
        maps (Sequence[np.ndarray]): Segment ids of every image, shape (H, W).
        kinds (dict[int, int]): Category id of each segment id.
        categories (list[dict[str, Any]]): Categories of the json.
        crowds (Sequence[int]): Segment ids of crowds. Defaults to ().
        seed (int): Seed of the photographs. Defaults to 0.
        measured (bool): Whether the json has areas and boxes. Defaults to True.

    Returns:
        tuple[Path, Path]: The json and the folder of the images.
    """
    rng = np.random.default_rng(seed)
    image_dir, json_path = root / 'images' / name, root / f'{name}.json'
    content: dict[str, list[Any]] = {'images': [], 'annotations': []}
    for number, ids in enumerate(maps):
        height, width = ids.shape
        blocks = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        image = image_dir / f'{number}.png'
        save(np.asarray(blocks.resize((width, height))), image)
        write_panoptic_png(root / name / image.name, ids)
        segments = []
        for id_ in np.unique(ids[ids > 0]).tolist():
            rows, columns = np.nonzero(ids == id_)
            left, top = int(columns.min()), int(rows.min())
            segment = {
                'id': id_,
                'category_id': kinds[id_],
                'iscrowd': int(id_ in crowds),
            }
            if measured:
                segment['area'] = len(rows)
                segment['bbox'] = [
                    left,
                    top,
                    int(columns.max()) + 1 - left,
                    int(rows.max()) + 1 - top,
                ]
            segments.append(segment)
        content['images'].append(
            {'id': number, 'file_name': image.name, 'width': width, 'height': height}
        )
        content['annotations'].append(
            {'image_id': number, 'file_name': image.name, 'segments_info': segments}
        )
    write_json(json_path, content | {'categories': categories})
    return json_path, image_dir


WRITERS: dict[str, Callable[..., DataSetTree]] = {
    'cityscapes': write_cityscapes,
    'kitti': write_kitti,
    'idd': write_idd,
    'vistas': write_vistas,
    'vistas-instances': write_vistas_instances,
}
