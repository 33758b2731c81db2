# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Panoptic quality as named values and as a table."""

from collections.abc import Mapping, Sequence

import numpy as np
from terminaltables import AsciiTable

from .panoptic_quality import PanopticQualityStat, class_quality, summarize

# Title and prefix of the keys of each measure.
QUALITIES = (('Panoptic quality', ''), ('Boundary panoptic quality', 'Boundary_'))
# Suffix of the keys of each group, as mmdet's CocoPanopticMetric names them.
GROUP_SUFFIX = {'All': '', 'Things': '_th', 'Stuff': '_st'}


def class_groups(
    classes: Sequence[str], thing_classes: Sequence[str], stuff_classes: Sequence[str]
) -> dict[str, list[int]]:
    """Give the labels of the groups over which panoptic quality is averaged.

    Args:
        classes (Sequence[str]): Names of the classes in the order of their labels.
        thing_classes (Sequence[str]): Those that are things.
        stuff_classes (Sequence[str]): Those that are stuff.

    Returns:
        dict[str, list[int]]: Labels of 'All', 'Things' and 'Stuff'.

    Example:
        >>> class_groups(['car', 'road', 'bus'], ['car', 'bus'], ['road'])
        {'All': [0, 1, 2], 'Things': [0, 2], 'Stuff': [1]}
    """
    labels = {name: label for label, name in enumerate(classes)}
    return {
        'All': list(labels.values()),
        'Things': [labels[name] for name in thing_classes],
        'Stuff': [labels[name] for name in stuff_classes],
    }


def quality_values(
    stat: PanopticQualityStat,
    classes: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    classwise: bool = True,
) -> dict[str, float]:
    """Give the values of a test by name.

    Args:
        stat (PanopticQualityStat): Counts over all images.
        classes (Sequence[str]): Names of the classes.
        groups (Mapping[str, Sequence[int]]): Of :func:`class_groups`.
        classwise (bool): Whether to give the values of each class too.
            Defaults to True.

    Returns:
        dict[str, float]: In percent: PQ, SQ, RQ, PQ_th, SQ_th, RQ_th, PQ_st, SQ_st,
        RQ_st, ``<class>_PQ`` and so on. Groups of classes and classes that neither
        occur nor are predicted are left out.

    Example:
        One car found with an IoU of 0.8 and one missed: PQ = 0.8 / 1.5.

        >>> stat = PanopticQualityStat(*(np.array([x]) for x in (0.8, 1, 0, 1)))
        >>> values = quality_values(stat, ['car'], class_groups(['car'], ['car'], []))
        >>> {name: round(value, 2) for name, value in values.items() if 'car' in name}
        {'car_PQ': 53.33, 'car_SQ': 80.0, 'car_RQ': 66.67}
    """
    summary = summarize(stat, groups)
    per_class = class_quality(stat)
    values = {
        f'{name.upper()}{suffix}': summary[group][name]
        for group, suffix in GROUP_SUFFIX.items()
        for name in per_class
    }
    if classwise:
        for label, class_name in enumerate(classes):
            for name, quality in per_class.items():
                values[f'{class_name}_{name.upper()}'] = float(quality[label])
    return {key: 100 * value for key, value in values.items() if not np.isnan(value)}


def quality_table(
    stat: PanopticQualityStat,
    classes: Sequence[str],
    groups: Mapping[str, Sequence[int]],
) -> str:
    """Lay out the values of a test as a table.

    Args:
        stat (PanopticQualityStat): Counts over all images.
        classes (Sequence[str]): Names of the classes.
        groups (Mapping[str, Sequence[int]]): Of :func:`class_groups`.

    Returns:
        str: Table of the groups and the classes in percent, with the counts of
        segments; ``-`` where there is nothing to measure.
    """
    summary = summarize(stat, groups)
    per_class = class_quality(stat)

    def row(
        name: str, quality: Mapping[str, float], labels: Sequence[int] | int
    ) -> list:
        values = [
            '-' if np.isnan(quality[key]) else f'{100 * quality[key]:.2f}'
            for key in per_class
        ]
        counts = [int(c[labels].sum()) for c in (stat.tp, stat.fp, stat.fn)]
        return [name, *values, *counts]

    rows = [['', 'PQ', 'SQ', 'RQ', 'TP', 'FP', 'FN']]
    for group, labels in groups.items():
        name = f'{group} ({summary[group]["n"]} classes)'
        rows.append(row(name, summary[group], labels))
    for label, name in enumerate(classes):
        quality = {key: values[label] for key, values in per_class.items()}
        rows.append(row(name, quality, label))
    table = AsciiTable(rows)
    table.justify_columns = dict.fromkeys(range(1, 7), 'right')
    return table.table


def report_quality(
    stats: Sequence[PanopticQualityStat],
    classes: Sequence[str],
    groups: Mapping[str, Sequence[int]],
    classwise: bool = True,
) -> tuple[dict[str, float], str]:
    """Give the values of a test by name and as text.

    Args:
        stats (Sequence[PanopticQualityStat]): Counts over all images for PQ and, if
            there is a second one, for boundary PQ.
        classes (Sequence[str]): Names of the classes.
        groups (Mapping[str, Sequence[int]]): Of :func:`class_groups`.
        classwise (bool): Whether to give the values of each class too; the text
            always has them. Defaults to True.

    Returns:
        tuple[dict[str, float], str]: Values in percent as of :func:`quality_values`,
        those of boundary PQ with ``Boundary_`` before the key; and tables.
    """
    values: dict[str, float] = {}
    texts = []
    # Without boundary PQ there are fewer stats than qualities.
    for (name, prefix), stat in zip(QUALITIES, stats, strict=False):
        named = quality_values(stat, classes, groups, classwise)
        values |= {prefix + key: value for key, value in named.items()}
        texts.append(
            f'{name} in percent, and counts of segments:\n'
            + quality_table(stat, classes, groups)
        )
    return values, '\n'.join(texts)
