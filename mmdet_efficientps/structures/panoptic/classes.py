# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Classes of panoptic data sets as one typed table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .colors import Color, choose_colors


@dataclass(frozen=True)
class PanopticClass:
    """A class.

    Attributes:
        id (int): Category id in json files, any integer.
        name (str): Name.
        isthing (bool): Whether it is a thing (objects that can be counted) or stuff.
        color (Color): RGB, 0..255.
        supercategory (str): Name of what it belongs to; '' for nothing.
    """

    id: int
    name: str
    isthing: bool
    color: Color
    supercategory: str = ''


class Categories(list):
    """Categories for a json, equal if the classes are, whatever their ids.

    As metainfo of a data set: mmengine joins data sets if their metainfo is equal, and
    jsons of the same classes may have other ids, and orders of keys, for them.
    """

    def _classes(self) -> list[tuple[str, int]]:
        return [(c['name'], c['isthing']) for c in self]

    def __eq__(self, other: object) -> bool:
        """Compare names and kinds of the classes in their order."""
        return isinstance(other, Categories) and self._classes() == other._classes()

    def __ne__(self, other: object) -> bool:
        """Compare; a list has a comparison of its own here, too."""
        return not self == other

    # A list has none, either.
    __hash__ = None


@dataclass(frozen=True)
class PanopticClasses:
    """The classes of a data set; a class's place in the table is its label.

    Example::

        >>> table = PanopticClasses.from_categories([
        ...     {'id': 7, 'name': 'road', 'isthing': 0, 'color': [128, 64, 128]},
        ...     {'id': 26, 'name': 'car', 'isthing': 1, 'color': [0, 0, 142]},
        ... ]).things_first()
        >>> table.names, table.num_things, table.label_of
        (('car', 'road'), 1, {26: 0, 7: 1})

    Attributes:
        classes (tuple[PanopticClass, ...]): The classes.
    """

    classes: tuple[PanopticClass, ...]

    @classmethod
    def from_categories(cls, categories: Iterable[dict[str, Any]]) -> PanopticClasses:
        """Make the table of the categories of a json.

        Args:
            categories (Iterable[dict[str, Any]]): Each with id, name and isthing, and
                with color (RGB, 0..255) and supercategory if it has them; other keys
                are left out. Classes without a color get one, see
                :func:`~.colors.choose_colors`.

        Returns:
            PanopticClasses: The classes in the order of the json.
        """
        categories = list(categories)
        given = [
            (int(c['color'][0]), int(c['color'][1]), int(c['color'][2]))
            if c.get('color')
            else None
            for c in categories
        ]
        names = [c['name'] for c in categories]
        colors = choose_colors(names, [bool(c['isthing']) for c in categories], given)
        return cls(
            tuple(
                PanopticClass(
                    category['id'],
                    category['name'],
                    bool(category['isthing']),
                    color,
                    category.get('supercategory') or '',
                )
                for category, color in zip(categories, colors, strict=True)
            )
        )

    def __len__(self) -> int:
        """Number of classes."""
        return len(self.classes)

    def __iter__(self) -> Iterator[PanopticClass]:
        """Give the classes in their order."""
        return iter(self.classes)

    def things_first(self) -> PanopticClasses:
        """Give the table that panoptic heads count by: things, then stuff.

        Returns:
            PanopticClasses: The same classes; things and stuff each in the order that
            they have here.
        """
        return PanopticClasses(tuple(sorted(self.classes, key=lambda c: not c.isthing)))

    def select(self, names: Sequence[str]) -> PanopticClasses:
        """Give the classes of some names.

        Args:
            names (Sequence[str]): Names that are in the table.

        Returns:
            PanopticClasses: The classes in the order of ``names``.
        """
        by_name = {c.name: c for c in self.classes}
        return PanopticClasses(tuple(by_name[name] for name in names))

    @property
    def names(self) -> tuple[str, ...]:
        """Name of each class."""
        return tuple(c.name for c in self.classes)

    @property
    def things(self) -> tuple[str, ...]:
        """Names of the things."""
        return tuple(c.name for c in self.classes if c.isthing)

    @property
    def stuff(self) -> tuple[str, ...]:
        """Names of the stuff classes."""
        return tuple(c.name for c in self.classes if not c.isthing)

    @property
    def num_things(self) -> int:
        """Number of things."""
        return len(self.things)

    @property
    def palette(self) -> list[Color]:
        """RGB color of each class, 0..255."""
        return [c.color for c in self.classes]

    @property
    def label_of(self) -> dict[int, int]:
        """Label of each category id."""
        return {c.id: label for label, c in enumerate(self.classes)}

    def categories(self) -> Categories:
        """Give the categories for a json.

        Returns:
            Categories: A list of id, name, supercategory, isthing (0 or 1) and color
            of every class.
        """
        return Categories(
            {
                'id': c.id,
                'name': c.name,
                'supercategory': c.supercategory,
                'isthing': int(c.isthing),
                'color': list(c.color),
            }
            for c in self.classes
        )

    def metainfo(self) -> dict[str, Any]:
        """Give the metainfo of a data set of mmdet.

        Returns:
            dict[str, Any]: classes, thing_classes, stuff_classes and palette, things
            first.
        """
        table = self.things_first()
        return {
            'classes': table.names,
            'thing_classes': table.things,
            'stuff_classes': table.stuff,
            'palette': table.palette,
        }
