# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Tables of the classes of data sets, kept as json files in the folder labels."""

from pathlib import Path

from mmengine.fileio import load

FOLDER = Path(__file__).with_name('labels')


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


def categories_of(table: dict[str, list]) -> list[dict]:
    """Give the categories for a panoptic json, without what only the table needs.

    Args:
        table (dict[str, list]): A table of :func:`load_label_table`.

    Returns:
        list[dict]: id, name, supercategory, isthing and color of every class.
    """
    keys = ('id', 'name', 'supercategory', 'isthing', 'color')
    return [{key: label[key] for key in keys} for label in table['classes']]


def metainfo_of(table: dict[str, list]) -> dict:
    """Give the metainfo of a data set, things first.

    Args:
        table (dict[str, list]): A table of :func:`load_label_table`.

    Returns:
        dict: classes, thing_classes, stuff_classes and palette.
    """
    # sorted is stable: things and stuff each stay in the order of the data set
    ordered = sorted(table['classes'], key=lambda label: not label['isthing'])
    things = tuple(label['name'] for label in ordered if label['isthing'])
    classes = tuple(label['name'] for label in ordered)
    return {
        'classes': classes,
        'thing_classes': things,
        'stuff_classes': classes[len(things) :],
        'palette': [tuple(label['color']) for label in ordered],
    }
