# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Jsons of panoptic annotations: their reader, its rules, and the writer.

The format is COCO's: ``images`` (id, file_name, width, height), ``annotations`` with
one entry for each image (image_id, file_name of the PNG, segments_info with id,
category_id and optionally iscrowd, area and bbox) and ``categories`` (id, name, isthing
and optionally color and supercategory). These rules hold wherever one is read:

- The file may begin with a byte-order mark.
- A number may stand in quotes or be a float without fraction; 0, 1, true and false are
  flags.
- A field that is ``null`` is missing. Optional fields (iscrowd, area, bbox, color,
  supercategory) may be missing or empty; any other missing field is a problem.
- Segment ids are 1 to 2**24 - 1: 0 is void, and larger ones do not fit into a PNG.
- Ids of images are numbers or texts; ``1`` and ``'1'`` are the same image.
- Any other value is a problem that names image, segment and field. Problems are
  collected, so that a user sees all of them at once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.fileio import get

from mmdet_efficientps.utils import ProblemList, atomic_path

from .classes import PanopticClasses
from .ids import MAX_ID, VOID_ID, constant_runs, index_segments

ImageId = int | str
_REQUIRED = object()


def integer(value: Any) -> int | None:
    """Take a whole number as jsons have them.

    Example::

        >>> [integer(value) for value in (7, '7', 7.0, 7.5, True, None, 'x')]
        [7, 7, 7, None, None, None, None]

    Args:
        value (Any): What the json has.

    Returns:
        int | None: The number; None if the value is no whole number.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return None


def number(value: Any) -> float | int | None:
    """Take a finite number as jsons have them.

    Example::

        >>> [number(value) for value in (7, '7.5', float('nan'), 'x')]
        [7, 7.5, None, None]

    Args:
        value (Any): What the json has.

    Returns:
        float | int | None: The number; None if the value is no finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        value = float(value) if isinstance(value, str) else value
        return value if math.isfinite(value) else None
    except (OverflowError, ValueError):
        return None


def flag(value: Any) -> int | None:
    """Take a yes or no as jsons have them.

    Example::

        >>> [flag(value) for value in (1, True, '0', 2)]
        [1, 1, 0, None]

    Args:
        value (Any): What the json has.

    Returns:
        int | None: 0 or 1; None if it is neither.
    """
    found = int(value) if isinstance(value, bool) else integer(value)
    return found if found in (0, 1) else None


def _segment_id(value: Any) -> int | None:
    found = integer(value)
    return found if found is not None and VOID_ID < found <= MAX_ID else None


def _size(value: Any) -> int | None:
    found = integer(value)
    return found if found is not None and found > 0 else None


def _area(value: Any) -> int | float | None:
    found = number(value)
    return found if found is not None and found >= 0 else None


def _box(value: Any) -> list[float] | None:
    if not isinstance(value, list | tuple) or len(value) != 4:
        return None
    box = [number(side) for side in value]
    return None if None in box else box  # type: ignore[return-value]


def _color(value: Any) -> list[int] | None:
    if not isinstance(value, list | tuple) or len(value) != 3:
        return None
    color = [integer(channel) for channel in value]
    return color if all(c is not None and 0 <= c <= 255 for c in color) else None  # type: ignore[return-value]


def _image_id(value: Any) -> ImageId | None:
    return value if isinstance(value, str) and value else integer(value)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


@dataclass(frozen=True)
class Field:
    """What a field of a json must be.

    Attributes:
        take (Callable[[Any], Any]): Turns what the json has into the value, or into
            None if it is of another kind.
        wanted (str): What it must be, in words.
        default (Any): Value if it is missing. By default it must be there.
    """

    take: Callable[[Any], Any]
    wanted: str
    default: Any = _REQUIRED


IMAGE_ID = Field(_image_id, 'a number or a text')
TEXT = Field(_text, 'a text')
SIZE = Field(_size, 'a positive whole number')
INTEGER = Field(integer, 'a whole number')
LIST = Field(_list, 'a list')
FLAG = Field(flag, '0 or 1')

IMAGE_FIELDS = {'id': IMAGE_ID, 'file_name': TEXT, 'width': SIZE, 'height': SIZE}
ANNOTATION_FIELDS = {'image_id': IMAGE_ID, 'file_name': TEXT, 'segments_info': LIST}
SEGMENT_FIELDS = {
    'id': Field(_segment_id, f'a whole number from 1 to {MAX_ID}'),
    'category_id': INTEGER,
    'iscrowd': Field(flag, '0 or 1', 0),
    'area': Field(_area, 'a number of pixels', None),
    'bbox': Field(_box, 'four numbers (x, y, width, height)', None),
}
CATEGORY_FIELDS = {
    'id': INTEGER,
    'name': TEXT,
    'isthing': Field(flag, '1 for a thing or 0 for stuff'),
    'color': Field(_color, 'three numbers from 0 to 255', None),
    'supercategory': Field(_text, 'a text', ''),
}


def read_json(path: str | Path, backend_args: dict[str, Any] | None = None) -> Any:
    """Read a json.

    Args:
        path (str | Path): The file.
        backend_args (dict[str, Any] | None): Storage backend of ``mmengine.fileio``.
            Defaults to None.

    Returns:
        Any: Its content.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not valid json; names the file and the place.
    """
    content = get(str(path), backend_args=backend_args)
    try:
        # Given bytes, json finds out the encoding and skips a byte-order mark.
        return json.loads(content)
    except (RecursionError, ValueError) as error:
        raise ValueError(
            f'{path} is damaged or not a json ({error}): make it again with the '
            'tool that made it'
        ) from error


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Write a json, whole or not at all.

    Args:
        path (str | Path): The file. Folders on the way are made.
        content (Any): What json can hold.
        indent (int | None): Spaces to indent by, for people who read the file.
            Defaults to None, everything in one line.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=indent), encoding='utf-8')


def take_entry(
    entry: Any,
    fields: Mapping[str, Field],
    what: str,
    where: str,
    problems: ProblemList,
    prefix: str = '',
) -> dict[str, Any] | None:
    """Take the fields of an entry by the rules of this module.

    Args:
        entry (Any): The entry.
        fields (Mapping[str, Field]): Fields to look at; others stay as they are.
        what (str): What the entry is, such as 'a segment'.
        where (str): Which one it is, such as 'image 7, segment 3'.
        problems (ProblemList): Gets the problems.
        prefix (str): Begins the text of every problem. Defaults to ''.

    Returns:
        dict[str, Any] | None: The entry with its values; None if there are problems.
    """
    if not isinstance(entry, dict):
        problems.add(
            f'{prefix}{what} must be an object with fields', f'{where}: {entry!r}'
        )
        return None
    taken = dict(entry)
    is_whole = True
    for name, rule in fields.items():
        value = entry.get(name)
        if rule.default is not _REQUIRED and value in ('', []):
            value = None
        if value is None:
            found = rule.default
        else:
            found = rule.take(value)
            if found is None:
                found = _REQUIRED
        if found is _REQUIRED:
            is_whole = False
            problems.add(
                f"{prefix}'{name}' of {what} must be {rule.wanted}",
                f'{where}: {"it is missing" if value is None else repr(value)}',
            )
        taken[name] = found
    return taken if is_whole else None


def take_entries(
    content: Any,
    name: str,
    fields: Mapping[str, Field],
    what: str,
    problems: ProblemList,
    prefix: str = '',
) -> list[dict[str, Any]]:
    """Take a list of entries with ids of their own.

    Args:
        content (Any): The object that has the list.
        name (str): Name of the list, such as 'images'.
        fields (Mapping[str, Field]): See :func:`take_entry`; with 'id'.
        what (str): What an entry is, such as 'an image'.
        problems (ProblemList): Gets the problems.
        prefix (str): Begins the text of every problem. Defaults to ''.

    Returns:
        list[dict[str, Any]]: The entries without problems, in the order of the json;
        of several with one id the first.
    """
    entries = content.get(name) if isinstance(content, dict) else None
    if not isinstance(entries, list):
        problems.add(f'{prefix}the json has no list {name!r}', 'add it')
        return []
    taken: dict[str, dict[str, Any]] = {}
    for number_, entry in enumerate(entries):
        given = entry.get('id') if isinstance(entry, dict) else None
        where = f'{name}[{number_}]' if given is None else f'{name}, id {given!r}'
        found = take_entry(entry, fields, what, where, problems, prefix)
        if found is None:
            continue
        if str(found['id']) in taken:
            problems.add(f'{prefix}id that occurs twice in {name}', str(found['id']))
        taken.setdefault(str(found['id']), found)
    return list(taken.values())


@dataclass
class PanopticAnnotations:
    """Content of a panoptic json, checked.

    Attributes:
        json_file (str): Where it is from.
        images (list[dict]): ``images``: id, file_name, width and height.
        annotations (dict[ImageId, dict]): ``annotations`` by image_id, with file_name
            and segments_info: id, category_id, iscrowd (0 or 1), area and bbox (x, y,
            width, height in pixels), both None if missing.
        categories (list[dict]): ``categories``: id, name, isthing (0 or 1), color
            (None if missing) and supercategory.
    """

    json_file: str
    images: list[dict[str, Any]] = field(default_factory=list)
    annotations: dict[ImageId, dict[str, Any]] = field(default_factory=dict)
    categories: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def read(
        cls,
        json_file: str | Path,
        problems: ProblemList,
        needs: Iterable[str] = ('images', 'annotations', 'categories'),
        name: str = '',
        backend_args: dict[str, Any] | None = None,
        category_fields: Mapping[str, Field] = CATEGORY_FIELDS,
    ) -> PanopticAnnotations:
        """Read a json.

        Args:
            json_file (str | Path): The json.
            problems (ProblemList): Gets everything that is wrong with it.
            needs (Iterable[str]): The lists it has to have; others may be missing.
                Defaults to all three.
            name (str): What it is, such as 'prediction', to begin the text of a
                problem. Defaults to ''.
            backend_args (dict[str, Any] | None): Storage backend of
                ``mmengine.fileio``. Defaults to None.
            category_fields (Mapping[str, Field]): Fields of the categories. Defaults
                to those of the module.

        Returns:
            PanopticAnnotations: The content; entries with problems are left out.
        """
        prefix = f'{name}: ' if name else ''
        self = cls(str(json_file))
        try:
            content = read_json(json_file, backend_args)
        except FileNotFoundError:
            problems.add(f'{prefix}json does not exist', json_file)
            return self
        except ValueError as error:
            problems.add(f'{prefix}no valid json', str(error))
            return self
        if not isinstance(content, dict):
            problems.add(
                f"{prefix}no panoptic json: an object with 'annotations' is needed",
                json_file,
            )
            return self
        needs = set(needs)
        for key, fields, what in (
            ('images', IMAGE_FIELDS, 'an image'),
            ('categories', category_fields, 'a category'),
        ):
            if key in needs or content.get(key) is not None:
                entries = take_entries(content, key, fields, what, problems, prefix)
                setattr(self, key, entries)
        names = [category.get('name') for category in self.categories]
        for repeated in sorted({n for n in names if n and names.count(n) > 1}):
            problems.add(f'{prefix}two categories of one name', repeated)
        if 'annotations' in needs or content.get('annotations') is not None:
            self._take_annotations(content.get('annotations'), problems, prefix)
        return self

    def _take_annotations(
        self, annotations: Any, problems: ProblemList, prefix: str
    ) -> None:
        """Take the annotations and note what is wrong with them."""
        if not isinstance(annotations, list):
            problems.add(f"{prefix}the json has no list 'annotations'", self.json_file)
            return
        if annotations and all(
            isinstance(a, dict) and 'segments_info' not in a for a in annotations
        ):
            problems.add(
                f"{prefix}annotations without 'segments_info', so this is no panoptic "
                'json; tools/prepare_dataset.py coco-polygons makes one of COCO '
                'polygons and masks',
                self.json_file,
            )
            return
        # 1 and '1' are the id of the same image.
        known = {str(image['id']): image['id'] for image in self.images}
        seen = set()
        for place, raw in enumerate(annotations):
            given = raw.get('image_id') if isinstance(raw, dict) else None
            where = f'annotations[{place}]' if given is None else f'image {given}'
            annotation = take_entry(
                raw, ANNOTATION_FIELDS, 'an annotation', where, problems, prefix
            )
            if annotation is None:
                continue
            text = str(annotation['image_id'])
            if text in seen:
                problems.add(f'{prefix}two annotations for one image', text)
                continue
            seen.add(text)
            segments = self._take_segments(annotation, problems, prefix)
            if segments is not None:
                annotation['segments_info'] = segments
                annotation['image_id'] = known.get(text, annotation['image_id'])
                self.annotations[annotation['image_id']] = annotation

    @staticmethod
    def _take_segments(
        annotation: dict[str, Any], problems: ProblemList, prefix: str
    ) -> list[dict[str, Any]] | None:
        """Take the segments of an image; None if there are problems."""
        segments = []
        ids = set()
        for place, raw in enumerate(annotation['segments_info']):
            given = raw.get('id') if isinstance(raw, dict) else None
            where = f'image {annotation["image_id"]}, segment '
            where += f'number {place}' if given is None else f'{given}'
            segment = take_entry(
                raw, SEGMENT_FIELDS, 'a segment', where, problems, prefix
            )
            if segment is None:
                continue
            if segment['id'] in ids:
                problems.add(f'{prefix}segment id that occurs twice in an image', where)
                continue
            ids.add(segment['id'])
            segments.append(segment)
        return segments if len(segments) == len(annotation['segments_info']) else None

    def check_categories(self, problems: ProblemList, prefix: str = '') -> None:
        """Note the segments whose category is not among ``categories``.

        Args:
            problems (ProblemList): Gets the problems.
            prefix (str): Begins the text of every problem. Defaults to ''.
        """
        known = {category['id'] for category in self.categories}
        for image_id, annotation in self.annotations.items():
            for segment in annotation['segments_info']:
                if segment['category_id'] not in known:
                    problems.add(
                        f'{prefix}category that is not in categories',
                        f'segment {segment["id"]} of image {image_id} has category_id '
                        f'{segment["category_id"]}',
                    )

    @property
    def classes(self) -> PanopticClasses:
        """The classes, in the order of the json."""
        return PanopticClasses.from_categories(self.categories)


def default_png_folder(json_file: str | Path) -> Path:
    """Give the folder of the PNGs that belongs to a json by its name.

    Args:
        json_file (str | Path): The json.

    Returns:
        Path: Its path without suffix.
    """
    return Path(json_file).with_suffix('')


def segments_info(
    ids: np.ndarray, segments: Sequence[Mapping[str, Any]], category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """List the segments of a prediction as a panoptic json does.

    Example::

        >>> segments_info(np.array([[1, 1, 0]]), [{'id': 1, 'category': 0}], [26])
        [{'id': 1, 'category_id': 26, 'area': 2, 'iscrowd': 0}]

    Args:
        ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
        segments (Sequence[Mapping[str, Any]]): ``id`` and ``category`` (label) of
            each.
        category_ids (Sequence[int]): Category id of each label.

    Returns:
        list[dict[str, Any]]: ``id``, ``category_id``, ``area`` in pixels and
        ``iscrowd`` (0).
    """
    values, lengths = constant_runs(ids)
    index = index_segments(values, [segment['id'] for segment in segments])
    areas = np.bincount(index, lengths, minlength=len(segments) + 1)
    return [
        {
            'id': segment['id'],
            'category_id': category_ids[segment['category']],
            'area': int(area),
            'iscrowd': 0,
        }
        for segment, area in zip(segments, areas[1:], strict=True)
    ]
