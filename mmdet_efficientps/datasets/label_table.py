# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Tables of the classes of data sets, kept as json files in the folder labels."""

from pathlib import Path

from cityscapesscripts.helpers.labels import labels as cityscapes_labels
from mmengine.fileio import load

from mmdet_efficientps.structures.panoptic import PanopticClass, PanopticClasses

FOLDER = Path(__file__).with_name('labels')
# What `load_classes` knows.
CLASS_TABLES = ('cityscapes', *sorted(file.stem for file in FOLDER.glob('*.json')))


def load_label_table(name: str) -> dict[str, list]:
    """Read the table of a data set.

    Args:
        name (str): Its file name without suffix, such as 'idd'.

    Returns:
        dict[str, list]: ``classes``, the evaluated ones as categories of a panoptic
        json (id, name, supercategory, isthing, color), in the order of the data set;
        ``void``, its labels that are not evaluated. IDD classes also have
        ``members``, the names of the labels they were merged from.
    """
    return load(FOLDER / f'{name}.json')


def load_classes(name: str) -> PanopticClasses:
    """Give the evaluated classes of a data set.

    Args:
        name (str): 'cityscapes', whose table is that of cityscapesscripts, or the file
            name of a table of :func:`load_label_table`.

    Returns:
        PanopticClasses: The classes in the order of the data set, with the category
        ids of its panoptic json.
    """
    if name != 'cityscapes':
        return PanopticClasses.from_categories(load_label_table(name)['classes'])
    return PanopticClasses(
        tuple(
            PanopticClass(
                label.id, label.name, label.hasInstances, label.color, label.category
            )
            for label in cityscapes_labels
            if not label.ignoreInEval
        )
    )
