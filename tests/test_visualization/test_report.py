# Licensed under the Apache License, Version 2.0. See LICENSE.
import io
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmdet_efficientps.evaluation.functional import class_quality, summarize
from mmdet_efficientps.structures.panoptic import PanopticClass, PanopticClasses
from mmdet_efficientps.visualization.report import (
    analyse_image,
    class_measure,
    fit_width,
    shrink,
    to_webp,
    write_page,
    write_report,
)

CAR, BUS, ROAD, TRAIN = range(4)
CLASSES = PanopticClasses(
    (
        PanopticClass(1, 'car', True, (200, 0, 0)),
        PanopticClass(2, 'bus', True, (0, 200, 0)),
        PanopticClass(3, 'road </script>', False, (0, 0, 200)),
        PanopticClass(4, 'train', True, (9, 9, 9)),
    )
)
GROUPS = {'All': [0, 1, 2, 3], 'Things': [0, 1, 3], 'Stuff': [2]}
VIEWS = ['image', 'truth', 'prediction', 'errors']


def segments(*labels):
    return [
        {'id': k, 'category': label, 'iscrowd': 0}
        for k, label in enumerate(labels, start=1)
    ]


def made_image(name, *predicted):
    """A car left, a bus right, road below; predicted with the labels given."""
    ids = np.full((64, 128), 3)
    ids[8:40, 8:56], ids[8:40, 72:120] = 1, 2
    image = np.full((64, 128, 3), 120, dtype=np.uint8)
    truth = segments(CAR, BUS, ROAD)
    return analyse_image(
        name, image, ids, truth, ids.copy(), segments(*predicted), CLASSES, width=64
    )


@pytest.fixture(scope='module')
def images():
    return [
        made_image('half', CAR, CAR, ROAD),
        made_image('good', CAR, BUS, ROAD),
        made_image('bad', BUS, CAR, ROAD),
    ]


@pytest.fixture
def report(images, tmp_path):
    path = tmp_path / 'r & d' / 'report.html'
    metrics = {
        'panoptic/PQ': 12.3,
        'panoptic/car_PQ': 12.3,
        'panoptic/car_Boundary_PQ': 45.6,
        'instance/car_AP': 31.4,
        'semantic/mIoU': 77.7,
        'data_time': 0.1,
    }
    write_report(path, images, CLASSES, 'A <b>title</b>', 'sub', metrics)
    return path


def read_data(path):
    text = path.read_text(encoding='utf-8')
    return json.loads(re.search(r'id="page-data">(.*?)</script>', text)[1])


def decode(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_report_has_the_numbers_of_the_metric(images, report):
    data = read_data(report)
    stat = images[0].stat + images[1].stat + images[2].stat
    for row in data['groups']:
        for key, value in summarize(stat, GROUPS)[row['name']].items():
            assert row[key] == value
    quality = class_quality(stat)
    for label, row in enumerate(data['classes'][:3]):
        assert row['pq'] == quality['pq'][label]
        assert row['tp'] == stat.tp[label]
    # By hand: 3 cars, 2 found, 2 wrong ones.
    assert data['classes'][CAR]['pq'] == 2 / (2 + 0.5 * 2 + 0.5 * 1)


def test_a_class_without_segments_has_no_quality_instead_of_zero(report):
    assert read_data(report)['classes'][TRAIN]['pq'] is None


def test_confusion_names_what_was_predicted_instead(report):
    confusion = read_data(report)['confusion']
    assert confusion['missed'][CAR] == [0, 1, 0, 0, 0]
    assert confusion['missed'][BUS] == [2, 0, 0, 0, 0]
    assert confusion['false'][CAR] == [0, 2, 0, 0, 0]


def test_further_measures_become_columns_or_rows(report):
    data = read_data(report)
    assert data['extra_columns'] == ['panoptic Boundary PQ', 'instance AP']
    assert data['classes'][CAR]['instance AP'] == 31.4
    assert data['other_metrics'] == [['semantic/mIoU', 77.7]]


@pytest.mark.parametrize(
    ('key', 'names', 'expected'),
    [
        (
            'semantic/road_marking_IoU',
            ['road', 'road_marking'],
            ('road_marking', 'IoU'),
        ),
        ('semantic/road_IoU', ['road_marking', 'road'], ('road', 'IoU')),
        (
            'semantic/road marking_IoU',
            ['road', 'road marking'],
            ('road marking', 'IoU'),
        ),
        ('instance/a_AP50', ['a', 'a_AP50', 'AP50'], ('a', 'AP50')),
        ('instance/a_AP50_AP', ['a', 'a_AP50', 'AP50'], ('a_AP50', 'AP')),
        ('instance/AP_AP50', ['AP'], ('AP', 'AP50')),
        ('instance/AP50', ['AP'], (None, 'AP50')),
        ('panoptic/PQ_th', ['PQ', 'car'], (None, 'PQ_th')),
        ('panoptic/PQ_Boundary_PQ', ['PQ', 'car'], ('PQ', 'Boundary_PQ')),
        ('panoptic/car_Boundary_PQ', ['car', 'car_Boundary'], ('car_Boundary', 'PQ')),
        ('instance/car/van_AP', ['van', 'car/van'], ('car/van', 'AP')),
        ('mine/car_F1', ['car', 'bus'], ('car', 'F1')),
        ('mine/score', ['car'], (None, 'score')),
    ],
)
def test_measures_belong_to_the_class_of_their_name(key, names, expected):
    assert class_measure(key, names) == (key.split('/')[0], *expected)


def test_a_prefix_may_have_folders():
    assert class_measure('val/panoptic/car_PQ', ['car']) == (
        'val/panoptic',
        'car',
        'PQ',
    )


def test_what_is_no_number_is_no_measure(images, tmp_path):
    metrics = {'a/car_AP': None, 'a/b': 'text', 'a/c': float('nan'), 'a/car_IoU': 5}
    write_report(tmp_path / 'r.html', images, CLASSES, 'A', metrics=metrics)
    data = read_data(tmp_path / 'r.html')
    assert data['extra_columns'] == ['a IoU']
    assert data['other_metrics'] == []


def shown_metrics(images, path, names, metrics):
    """Extra columns by class, and the other measures, of a page with other names."""
    classes = PanopticClasses(
        tuple(replace(c, name=n) for c, n in zip(CLASSES, names, strict=True))
    )
    write_report(path, images, classes, 'x', metrics=metrics)
    data = read_data(path)
    columns = data['extra_columns']
    rows = {
        row['name']: {column: row[column] for column in columns if column in row}
        for row in data['classes']
    }
    return rows, data['other_metrics']


@pytest.mark.parametrize('first', ['road', 'road_marking'])
def test_a_class_whose_name_begins_with_that_of_another_keeps_its_values(
    images, tmp_path, first
):
    names = [first, 'car', 'marking', {'road': 'road_marking'}.get(first, 'road')]
    metrics = {
        'semantic/road_IoU': 90,
        'semantic/road_marking_IoU': 41.5,
        'instance/road_marking_AP': 33,
        'panoptic/Boundary_road_marking_PQ': 7,
        'semantic/road_works_IoU': 5,
        'semantic/marking_IoU': 6,
    }
    rows, other = shown_metrics(images, tmp_path / 'x.html', names, metrics)
    assert rows == {
        'road': {'semantic IoU': 90},
        'road_marking': {
            'semantic IoU': 41.5,
            'instance AP': 33,
            'panoptic Boundary PQ': 7,
        },
        'marking': {'semantic IoU': 6},
        'car': {},
    }
    # It is of no class of this table.
    assert other == [['semantic/road_works_IoU', 5]]


def test_names_of_any_signs_keep_their_values(images, tmp_path):
    names = ['car', 'bus/car', 'sky (blue).+', 'traffic light [a|b]']
    metrics = {f'semantic/{name}_IoU': k for k, name in enumerate(names)}
    rows, other = shown_metrics(images, tmp_path / 'x.html', names, metrics)
    assert [rows[name]['semantic IoU'] for name in names] == [0, 1, 2, 3]
    assert other == []


def test_names_that_are_those_of_measures_keep_their_values(images, tmp_path):
    names = ['PQ', 'AP', 'a', 'a_AP50']
    metrics = {
        'panoptic/PQ_th': 1,
        'panoptic/Boundary_PQ': 2,
        'panoptic/Boundary_PQ_th': 3,
        'panoptic/Boundary_PQ_PQ': 4,
        'instance/AP': 5,
        'instance/AP50': 6,
        'instance/AP_AP': 7,
        'instance/AP_AP50': 8,
        'instance/a_AP': 9,
        'instance/a_AP50': 10,
        'instance/a_AP50_AP': 11,
        'instance/a_AP50_AP50': 12,
    }
    rows, other = shown_metrics(images, tmp_path / 'x.html', names, metrics)
    assert rows == {
        'PQ': {'panoptic Boundary PQ': 4},
        'AP': {'instance AP': 7, 'instance AP50': 8},
        'a': {'instance AP': 9, 'instance AP50': 10},
        'a_AP50': {'instance AP': 11, 'instance AP50': 12},
    }
    assert other == [
        ['panoptic/Boundary_PQ', 2],
        ['panoptic/Boundary_PQ_th', 3],
        ['instance/AP', 5],
        ['instance/AP50', 6],
    ]


def test_pictures_are_small_and_overlays_translucent(images):
    pictures = images[0].pictures
    assert list(pictures) == VIEWS
    image, truth, prediction, errors = (decode(pictures[key]) for key in VIEWS)
    assert image.shape == (32, 64, 3)
    assert truth.shape == errors.shape == (32, 64, 4)
    assert truth[30, 1].tolist() == [0, 0, 200, 140]
    # The bus is taken for a car: missed and false.
    assert prediction[10, 48, :3].argmax() == 0
    assert errors[10, 48, :3].tolist() == [240, 228, 66]
    assert errors[10, 16, :3].tolist() == [0, 0, 0]


def test_image_of_another_size_is_refused():
    with pytest.raises(ValueError, match='the image is'):
        analyse_image(
            'x',
            np.zeros((4, 5, 3), np.uint8),
            np.zeros((4, 4), int),
            [],
            np.zeros((4, 4), int),
            [],
            CLASSES,
            10,
        )


def test_maps_are_shrunk_by_picking_and_images_by_averaging():
    ids = np.array([[1, 1, 2**24 - 1, 7]] * 2)
    assert set(shrink(ids, 2).ravel()) <= set(ids.ravel())
    image = np.zeros((2, 4, 3), dtype=np.uint8)
    image[:, ::2] = 100
    assert (shrink(image, 2) == 50).all()
    assert shrink(ids, 4) is ids


def test_overlays_are_kept_without_loss():
    rng = np.random.default_rng(0)
    overlay = rng.integers(1, 256, (20, 30, 4), dtype=np.uint8)
    assert (decode(to_webp(overlay)) == overlay).all()


@pytest.mark.parametrize(
    ('num_images', 'width'), [(1, 1024), (75, 1024), (100, 768), (10**6, 256)]
)
def test_width_is_the_largest_that_fits_as_base64(num_images, width):
    # 1024 bytes at a width of 1024, 768 at 768.
    assert fit_width(lambda width: width, num_images, 102400) == width


def test_a_page_needs_a_picture_of_every_record(tmp_path):
    data = {'title': 'x', 'records': [{}]}
    with pytest.raises(ValueError, match='zip'):
        write_page(tmp_path / 'x.html', 'panoptic_report.js', data, [])
    assert not (tmp_path / 'x.html').exists()


def test_the_page_names_no_other_file(report):
    text = report.read_text(encoding='utf-8')
    assert not re.search(r'https?:|src="(?!data:)|href="(?!data:)|@import', text)


def names_of_cards(driver):
    # Text of cards outside the window is not laid out, so it is not 'text'.
    cards = driver.find_elements('css selector', '.cards .card .name')
    return [card.get_property('textContent') for card in cards]


def choose(driver, field, text):
    from selenium.webdriver.support.select import Select

    Select(driver.find_element('id', field)).select_by_visible_text(text)


def test_names_are_text_and_not_markup(open_page, report):
    driver = open_page(report)
    assert driver.find_element('tag name', 'h1').text == 'A <b>title</b>'
    assert 'road </script>' in driver.find_element('id', 'class-table').text


def test_gallery_is_sorted_and_filtered(open_page, report):
    driver = open_page(report)
    assert names_of_cards(driver) == ['bad', 'half', 'good']
    choose(driver, 'sort', 'PQ, highest first')
    assert names_of_cards(driver) == ['good', 'half', 'bad']
    choose(driver, 'only', 'Images with missed segments')
    assert names_of_cards(driver) == ['half', 'bad']
    assert driver.find_element('id', 'count').text == '2 of 3 images'
    # With a class its own misses count: the car of 'half' was found.
    choose(driver, 'class', 'car')
    assert names_of_cards(driver) == ['bad']


def test_a_number_of_the_confusion_shows_its_images(open_page, report):
    driver = open_page(report)
    driver.find_element(
        'css selector', '#confusion-table button[aria-label^="1 missed car"]'
    ).click()
    assert names_of_cards(driver) == ['bad']
    driver.find_element('id', 'clear-pair').click()
    assert len(names_of_cards(driver)) == 3


def test_classes_are_sorted_by_a_click_on_a_heading(open_page, report):
    driver = open_page(report)
    headings = {
        button.text: button
        for button in driver.find_elements('css selector', '#class-table thead button')
    }

    def first():
        return driver.find_element(
            'css selector', '#class-table tbody:last-child tr th'
        ).text

    assert first() == 'road </script>'
    headings['Missed'].click()
    assert first() == 'bus'
    headings['Class'].click()
    assert first() == 'bus'
    headings['Class'].click()
    assert first() == 'train'
    assert headings['Class'].find_element('xpath', '..').get_attribute('aria-sort') == (
        'descending'
    )


def test_slider_goes_through_the_views_by_keyboard(open_page, report):
    from selenium.webdriver.common.keys import Keys

    driver = open_page(report)
    card = driver.find_element('css selector', '.card')
    slider = card.find_element('css selector', 'input[type=range]')
    layers = card.find_elements('css selector', '.stage img')

    def visible():
        return [layer.value_of_css_property('visibility') for layer in layers[1:]]

    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', card)
    assert visible() == ['hidden'] * 3
    for number, name in enumerate(['Truth', 'Prediction', 'Errors']):
        slider.send_keys(Keys.ARROW_RIGHT)
        assert slider.get_attribute('aria-valuetext') == name
        assert visible().index('visible') == number
        assert visible().count('visible') == 1
    slider.send_keys(Keys.SHIFT + Keys.ARROW_LEFT)
    assert slider.get_attribute('value') == '2.9'
    assert slider.get_attribute('aria-valuetext') == 'Errors left, Prediction right'
    assert visible() == ['hidden', 'visible', 'visible']
    assert layers[3].value_of_css_property('clip-path') == 'inset(0px 10% 0px 0%)'


def test_pictures_are_decoded_and_enlarged(open_page, report):
    driver = open_page(report)
    stage = driver.find_element('css selector', '.stage')
    driver.execute_script('arguments[0].scrollIntoView({block: "center"})', stage)
    sizes = driver.execute_async_script(
        'const done = arguments[1];'
        'const images = [...arguments[0].querySelectorAll("img")];'
        'const look = () => images.every((i) => i.complete && i.naturalWidth)'
        '  ? done(images.map((i) => [i.naturalWidth, i.naturalHeight]))'
        '  : setTimeout(look, 20); look();',
        stage,
    )
    assert sizes == [[64, 32]] * 4
    stage.click()
    dialog = driver.find_element('css selector', 'dialog')
    assert dialog.find_element('css selector', '.name').text == 'bad'
    assert 'missed car, predicted there: bus' in dialog.text
    dialog.find_element('xpath', './/button[contains(., "Next")]').click()
    assert dialog.find_element('css selector', '.name').text == 'half'


def test_pictures_far_below_wait(open_page, images, tmp_path):
    write_report(tmp_path / 'long.html', images * 20, CLASSES, 'Long')
    driver = open_page(tmp_path / 'long.html')
    decoded = 'return document.querySelectorAll(".stage img[src]").length'
    assert driver.execute_script(decoded) < 4 * 60 / 2


def test_a_narrow_window_does_not_scroll_sideways(open_page, report):
    driver = open_page(report)
    metrics = {'width': 390, 'height': 800, 'deviceScaleFactor': 1, 'mobile': True}
    driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
    width = driver.execute_script('return document.documentElement.scrollWidth')
    driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    assert width <= 390
