# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest

from mmdet_efficientps.datasets.prepare import ClassChoice, read_class_lists

CATEGORIES = [
    {'id': 3, 'name': 'car', 'color': [1, 2, 3]},
    {'id': 5, 'name': 'van', 'color': [7, 8, 9]},
    {'id': 8, 'name': 'road', 'color': [4, 5, 6]},
    {'id': 9, 'name': 'ego'},
]


def test_joined_labels_are_one_class():
    choice = ClassChoice.of([{'vehicle': ['van', 'car']}], ['road'], ['ego'])
    classes, category_of = choice.match(CATEGORIES)
    assert classes.names == ('vehicle', 'road')
    assert [c.isthing for c in classes] == [True, False]
    assert category_of == {'van': 5, 'car': 5, 'road': 8, 'ego': None}
    # The id and the color are those of the label of its name, if there is one.
    classes, category_of = ClassChoice.of([{'car': ['van', 'car']}]).match(CATEGORIES)
    assert (classes.classes[0].id, classes.classes[0].color) == (3, (1, 2, 3))


def test_without_categories_labels_are_numbered():
    classes, category_of = ClassChoice.of(['a', {'b': ['x', 'y']}], ['c']).match()
    assert [(c.name, c.id) for c in classes] == [('a', 1), ('b', 2), ('c', 4)]
    assert category_of == {'a': 1, 'x': 2, 'y': 2, 'c': 4}


@pytest.mark.parametrize(
    ('lists', 'message'),
    [
        ({}, 'name the classes'),
        ({'ignore': ['car']}, 'name the classes'),
        ({'things': ['car'], 'stuff': ['car']}, "listed twice .*'car'"),
        ({'things': ['car'], 'ignore': ['car']}, "listed twice .*'car'"),
        ({'things': ['car', {'vehicle': ['car']}]}, "listed twice .*'car'"),
        ({'things': [{'v': ['car']}], 'stuff': [{'v': ['van']}]}, "listed twice .*'v'"),
    ],
)
def test_lists_that_contradict_themselves_are_refused(lists, message):
    with pytest.raises(ValueError, match=message):
        ClassChoice.of(**lists)


@pytest.mark.parametrize(
    'lists',
    [
        {'things': ['tram']},
        {'things': ['car'], 'ignore': ['tram']},
        {'things': [{'car': ['car', 'tram']}]},
    ],
)
def test_labels_that_the_source_does_not_have_are_named(lists):
    with pytest.raises(ValueError, match=r"no such category: \['tram'\]; there are"):
        ClassChoice.of(**lists).match(CATEGORIES)


def test_yaml_has_names_and_joined_labels(tmp_path):
    path = tmp_path / 'classes.yaml'
    path.write_text('\ufeffthings: [person, vehicle: [car, van]]\nstuff:\n', 'utf-8')
    lists = read_class_lists(path)
    assert lists == {
        'things': ['person', {'vehicle': ['car', 'van']}],
        'stuff': [],
        'ignore': [],
    }
    for text in ('[no]', '[1]', '[{a: b}]', '[{a: []}]', '[{a: [1]}]', '[null]'):
        path.write_text(f'things: {text}')
        with pytest.raises(ValueError, match='in quotes if'):
            read_class_lists(path)
