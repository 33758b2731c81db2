# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Which classes a user wants, of labels that have names for classes of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmdet_efficientps.structures.panoptic import PanopticClasses

# A label, or a class and the labels that are joined in it.
ClassName = str | Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class ClassChoice:
    """Classes, and the labels each of them is made of.

    Example::

        >>> choice = ClassChoice.of(['person', {'vehicle': ['car', 'van']}], ['road'])
        >>> choice.things, choice.class_of['van']
        (('person', 'vehicle'), 'vehicle')

    Attributes:
        things (tuple[str, ...]): Names of the thing classes.
        stuff (tuple[str, ...]): Names of the stuff classes.
        ignored (frozenset[str]): Labels that become void.
        class_of (dict[str, str]): Class of each other label.
    """

    things: tuple[str, ...]
    stuff: tuple[str, ...]
    ignored: frozenset[str]
    class_of: dict[str, str]

    @classmethod
    def of(
        cls,
        things: Sequence[ClassName] = (),
        stuff: Sequence[ClassName] = (),
        ignore: Sequence[str] = (),
    ) -> ClassChoice:
        """Check lists of classes.

        Args:
            things (Sequence[ClassName]): Labels that are thing classes, or mappings
                of one class to the labels that are joined in it. Defaults to ().
            stuff (Sequence[ClassName]): The same for stuff. Defaults to ().
            ignore (Sequence[str]): Labels that become void. Defaults to ().

        Returns:
            ClassChoice: The choice.

        Raises:
            ValueError: If there is no class, or one or a label is named twice.
        """
        names: list[list[str]] = [[], []]
        members: list[tuple[str, str]] = []
        for kind, given in enumerate((things, stuff)):
            for item in given:
                joined = {item: [item]} if isinstance(item, str) else item
                for name, labels in joined.items():
                    names[kind].append(name)
                    members += [(label, name) for label in labels]
        listed = [label for label, _ in members] + list(ignore)
        repeated = [
            name
            for entries in (names[0] + names[1], listed)
            for name, count in Counter(entries).items()
            if count > 1
        ]
        if repeated:
            raise ValueError(
                'listed twice among things, stuff and ignore: '
                f'{list(dict.fromkeys(repeated))}'
            )
        if not members:
            raise ValueError('name the classes: --things and --stuff, or --classes')
        return cls(tuple(names[0]), tuple(names[1]), frozenset(ignore), dict(members))

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels that are listed."""
        return *self.class_of, *sorted(self.ignored)

    def match(
        self, categories: Iterable[Mapping[str, Any]] | None = None
    ) -> tuple[PanopticClasses, dict[str, int | None]]:
        """Find the classes among the categories of a source.

        Args:
            categories (Iterable[Mapping[str, Any]] | None): Each with id and name, and
                with color and supercategory if it has them. Defaults to None: the
                source has no list, and the classes are numbered from 1.

        Returns:
            tuple[PanopticClasses, dict[str, int | None]]: The classes, things first,
            and the category id of each listed label, None for those that become void.
            Classes have the id that the source gives them; one that joins labels that
            of the label of its name, or else of its first.

        Raises:
            ValueError: If a label is none of the source.
        """
        if categories is None:
            numbered = enumerate(self.class_of, start=1)
            categories = [{'id': k, 'name': label} for k, label in numbered]
        else:
            categories = list(categories)
            known = {c['name'] for c in categories} | self.ignored
            missing = [label for label in self.class_of if label not in known]
            missing += sorted(self.ignored - {c['name'] for c in categories})
            if missing:
                raise ValueError(
                    f'no such category: {missing}; there are '
                    f'{sorted({c["name"] for c in categories})}'
                )
        by_label = {c['name']: c for c in categories}
        labels_of: dict[str, list[str]] = {}
        for label, name in self.class_of.items():
            labels_of.setdefault(name, []).append(label)
        chosen = []
        for name in (*self.things, *self.stuff):
            labels = labels_of[name]
            source = by_label[name if name in labels else labels[0]]
            chosen.append({**source, 'name': name, 'isthing': name in self.things})
        classes = PanopticClasses.from_categories(chosen)
        id_of = {c.name: c.id for c in classes}
        category_of: dict[str, int | None] = dict.fromkeys(self.ignored)
        category_of |= {label: id_of[name] for label, name in self.class_of.items()}
        return classes, category_of


def not_listed(labels: Iterable[str]) -> str:
    """Say that labels occur which are in none of the lists.

    Args:
        labels (Iterable[str]): The labels.

    Returns:
        str: What a list of problems takes as the kind.
    """
    return (
        f'labels that are not listed: {sorted(set(labels))}; add them to things, '
        'stuff or ignore'
    )


def read_class_lists(path: str | Path) -> dict[str, list[Any]]:
    """Read the lists of classes from a YAML file.

    Args:
        path (str | Path): The file, with the lists things, stuff and ignore; each may
            be missing. An entry is a name, or for a class that joins labels
            ``class: [label, ...]``.

    Returns:
        dict[str, list[Any]]: The three lists, as :class:`ClassChoice` takes them.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it has anything else.
    """
    lists: dict[str, list[Any]] = {'things': [], 'stuff': [], 'ignore': []}
    try:
        loaded = yaml.safe_load(Path(path).read_bytes())
    except yaml.YAMLError as error:
        raise ValueError(f'{path} is no YAML: {error}') from error
    if not isinstance(loaded, dict):
        raise ValueError(f'{path} has no keys things, stuff or ignore')
    unknown = sorted(map(str, loaded.keys() - lists.keys()))
    if unknown:
        raise ValueError(
            f'{path}: unknown keys {unknown}, expected things, stuff and ignore'
        )
    for key, entries in loaded.items():
        if not isinstance(entries, list | None):
            raise ValueError(f'{path}: {key} must be a list of names, got {entries!r}')
        lists[key] = [
            _take_entry(entry, f'{path}: {key}', key != 'ignore')
            for entry in entries or []
        ]
    return lists


def _take_entry(entry: Any, where: str, may_join: bool) -> ClassName:
    """Check an entry of a list of classes."""
    if may_join and isinstance(entry, dict) and len(entry) == 1:
        ((name, labels),) = entry.items()
        if isinstance(labels, list) and labels:
            return {_name(name, where): [_name(label, where) for label in labels]}
    return _name(entry, where)


def _name(value: Any, where: str) -> str:
    """Take a name; YAML has other types for some, such as no and 1."""
    if not isinstance(value, str):
        raise ValueError(
            f'{where} has {value!r}: names must be texts, in quotes if they look like '
            'a number or yes and no'
        )
    return value
