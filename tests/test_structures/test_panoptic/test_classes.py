# Licensed under the Apache License, Version 2.0. See LICENSE.
from mmdet_efficientps.datasets.label_table import load_classes
from mmdet_efficientps.structures.panoptic import PanopticClasses

CATEGORIES = [
    {'id': 7, 'name': 'road', 'isthing': 0, 'color': [128, 64, 128]},
    {'id': 26, 'name': 'car', 'isthing': 1, 'color': None, 'supercategory': 'vehicle'},
    {'id': 23, 'name': 'sky', 'isthing': 0},
]


def test_a_table_has_the_order_of_the_json():
    table = PanopticClasses.from_categories(CATEGORIES)
    assert table.names == ('road', 'car', 'sky')
    assert table.things == ('car',)
    assert table.stuff == ('road', 'sky')
    assert table.label_of == {7: 0, 26: 1, 23: 2}
    assert table.palette[0] == (128, 64, 128)


def test_things_first_keeps_the_order_within_things_and_stuff():
    table = PanopticClasses.from_categories(CATEGORIES).things_first()
    assert table.names == ('car', 'road', 'sky')
    assert table.metainfo()['stuff_classes'] == ('road', 'sky')


def test_categories_come_back_complete():
    table = PanopticClasses.from_categories(CATEGORIES)
    categories = table.categories()
    assert categories[1]['supercategory'] == 'vehicle'
    assert categories[1]['isthing'] == 1
    assert len(categories[2]['color']) == 3
    assert PanopticClasses.from_categories(categories) == table


def test_cityscapes_are_the_19_evaluated_classes_in_their_order():
    table = load_classes('cityscapes')
    assert len(table) == 19
    assert table.names[:2] == ('road', 'sidewalk')
    assert table.things == (
        *('person', 'rider', 'car', 'truck'),
        *('bus', 'train', 'motorcycle', 'bicycle'),
    )
    assert table.label_of[26] == 13
    assert table.metainfo()['palette'][2] == (0, 0, 142)
