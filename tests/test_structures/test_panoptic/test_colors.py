# Licensed under the Apache License, Version 2.0. See LICENSE.
import colorsys
from itertools import combinations

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import labels
from mmdet.datasets import CocoPanopticDataset

from mmdet_efficientps.datasets.label_table import load_classes
from mmdet_efficientps.structures.panoptic import choose_colors

THINGS = ['bicycle', 'person']
STUFF = [
    *('building', 'fence', 'road', 'rock', 'sky', 'stairs', 'terrain', 'vegetation')
]


def lab(color):
    return cv2.cvtColor(np.float32([[color]]) / 255, cv2.COLOR_RGB2Lab)[0, 0]


def difference(first, second):
    return float(np.linalg.norm(lab(first) - lab(second)))


def choose(names, isthing=None, given=None):
    return choose_colors(names, isthing or [False] * len(names), given)


@pytest.mark.parametrize(
    ('name', 'color'),
    [
        ('road', (128, 64, 128)),
        ('Traffic-Lights', (250, 170, 30)),
        ('traffic_light', (250, 170, 30)),
        ('trafficlight', (250, 170, 30)),
        ('cars', (0, 0, 142)),
        ('buses', (0, 60, 100)),
        ('People', (220, 20, 60)),
        ('Ground Animal', (0, 192, 0)),
        ('zebra', (199, 100, 0)),
        ('sky-other-merged', (70, 130, 180)),
        ('tree-merged', (107, 142, 35)),
    ],
)
def test_known_names_have_the_color_of_their_data_set(name, color):
    assert choose([name]) == [color]


def test_the_classes_of_cityscapes_have_its_colors():
    evaluated = [label for label in labels if label.trainId not in (-1, 255)]
    assert choose([label.name for label in evaluated]) == [
        label.color for label in evaluated
    ]


def test_given_colors_stay_and_no_other_class_takes_them():
    car = (0, 0, 142)
    colors = choose(['mine', 'car', 'road'], given=[car, None, (0, 0, 0)])
    assert colors[0] == car
    assert colors[2] == (0, 0, 0)
    assert difference(colors[1], car) > 20


def test_two_names_of_one_known_color_differ():
    car, plate = choose(['car', 'license plate'])
    assert car == (0, 0, 142)
    assert difference(car, plate) > 20


def test_classes_of_a_pedestrian_zone_can_be_told_apart():
    names = THINGS + STUFF
    colors = choose(names, [name in THINGS for name in names])
    assert colors[:2] == [(119, 11, 32), (220, 20, 60)]
    assert min(difference(a, b) for a, b in combinations(colors, 2)) > 30
    # Of degrees of hue, blue has 190 to 260.
    hues = [360 * colorsys.rgb_to_hsv(*color)[0] for color in colors]
    blue = [name for name, hue in zip(names, hues, strict=True) if 190 < hue < 260]
    assert blue == ['sky']


def test_chosen_things_are_lighter_than_chosen_stuff():
    names = [f'class {k}' for k in range(20)]
    isthing = [k % 2 == 0 for k in range(20)]
    lightness = [lab(color)[0] for color in choose(names, isthing)]
    assert min(lightness[::2]) > max(lightness[1::2])


def test_chosen_colors_differ_for_color_blind_eyes():
    # Vienot, Brettel and Mollon, 1999: what deuteranopes make of linear RGB. To them
    # (230, 70, 70) and (142, 142, 60) are one color: 142 is where the linear light
    # 0.29 * red + 0.71 * green of both is 0.275.
    deuteranopia = np.array(
        [[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]]
    )

    def seen(color):
        light = deuteranopia @ (np.array(color) / 255) ** 2.2
        return 255 * light.clip(0, 1) ** (1 / 2.2)

    assert difference((230, 70, 70), (142, 142, 60)) > 60
    assert difference(seen((230, 70, 70)), seen((142, 142, 60))) < 1
    colors = choose([f'class {k}' for k in range(10)], [True, False] * 5)
    # Ten evenly spaced hues come as near as 7.
    assert min(difference(seen(a), seen(b)) for a, b in combinations(colors, 2)) > 12


def test_void_and_outline_keep_their_colors_and_no_color_repeats():
    coco = CocoPanopticDataset.METAINFO['classes']
    vistas = load_classes('mapillary_vistas_v2.0').names
    lvis = [f'class {k}' for k in range(1203)]
    for names in (coco, vistas, lvis):
        colors = choose(names, [True] * len(names))
        assert len(set(colors)) == len(names)
        assert not {(0, 0, 0), (255, 255, 255)} & set(colors)


def test_colors_do_not_depend_on_classes_that_follow():
    names = ['robot', 'shelf', 'road']
    assert choose([*names, 'pallet'])[:3] == choose(names)


def test_arguments_of_different_length_are_refused():
    with pytest.raises(ValueError, match='2 names, 1 kinds'):
        choose_colors(['a', 'b'], [True])
