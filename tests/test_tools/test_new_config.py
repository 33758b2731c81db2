# Licensed under the Apache License, Version 2.0. See LICENSE.
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mmdet.registry import DATASETS, MODELS
from mmengine.config import Config
from PIL import Image

from mmdet_efficientps.structures.panoptic import read_json, write_json
from mmdet_efficientps.testing.data_set_trees import write_own

ROOT = Path(__file__).parents[2]
CATEGORIES = [
    {'id': 5, 'name': 'road', 'isthing': 0},
    {'id': 7, 'name': 'car', 'isthing': 1},
    {'id': 9, 'name': 'sky', 'isthing': 0},
]
ROAD, SKY = 1, 2
KINDS = {ROAD: 5, SKY: 9} | dict.fromkeys(range(10, 20), 7)


def street(width=128, height=64, cars=2):
    """A sky of one eighth, road, and cars of 24 x 16 pixels."""
    ids = np.full((height, width), ROAD)
    ids[: height // 8] = SKY
    for number in range(cars):
        ids[20:36, 30 * number : 30 * number + 24] = 10 + number
    return ids


@pytest.fixture
def data(tmp_path):
    """Twelve training and four validation images."""
    train = write_own(tmp_path, 'train', [street()] * 12, KINDS, CATEGORIES)
    val = write_own(tmp_path, 'val', [street()] * 4, KINDS, CATEGORIES, seed=1)
    return {'train': train, 'val': val, 'out': tmp_path / 'my_config.py'}


@pytest.fixture
def run(load_tool, monkeypatch, capsys):
    """Run the command in this process; gives what it prints."""
    tool = load_tool('new_config.py')

    def _run(*arguments):
        command = ['new_config.py', *map(str, arguments), '--nproc', '1']
        monkeypatch.setattr(sys, 'argv', command)
        tool.main()
        return capsys.readouterr().out

    return _run


@pytest.fixture
def make(run, data):
    """Make a config of both parts; gives the config, its text and what is printed."""

    def _make(*arguments, val=True):
        parts = ['--val', *data['val']] if val else []
        printed = run(*data['train'], *parts, '--out', data['out'], *arguments)
        return Config.fromfile(data['out']), data['out'].read_text(), printed

    return _make


def edit(json_file, change):
    content = read_json(json_file)
    change(content)
    write_json(json_file, content)


def test_config_has_the_classes_sizes_and_paths_of_the_data(make, data):
    config, _, _ = make()
    model = config.model
    assert config.things == ('car',)
    assert config.stuff == ('road', 'sky')
    assert model.roi_head.bbox_head.num_classes == 1
    assert model.roi_head.mask_head.num_classes == 1
    for head in (model.semantic_head, model.panoptic_fusion_head):
        assert (head.num_things_classes, head.num_stuff_classes) == (1, 2)
    crop = config.train_dataloader.dataset.pipeline[2]
    assert (crop.type, crop.scale, crop.crop_size) == (
        'RandomScaleCrop',
        (128, 64),
        (128, 64),
    )
    assert config.val_dataloader.dataset.pipeline[1].scale == (128, 64)
    assert config.tta_pipeline[1].scale == (128, 64)
    dataset = config.train_dataloader.dataset
    assert dataset.ann_file == str(data['train'][0])
    assert Path(dataset.data_prefix.img) == data['train'][1]
    # Cars of 24 x 16: height / width 0.67.
    assert model.rpn_head.anchor_generator.ratios == [0.7]
    # The sky has 8 x 128 pixels, the image 128 x 64: its 512th part are 16.
    assert model.test_cfg.panoptic.min_stuff_area == 16
    assert config.train_cfg.max_iters == 760
    assert config.param_scheduler[0].end == config.param_scheduler[1].begin == 50
    assert (config.param_scheduler[1].end, config.param_scheduler[1].T_max) == (
        760,
        710,
    )
    assert config.default_hooks.checkpoint.interval == config.train_cfg.val_interval


def test_values_name_the_figures_that_they_come_from(make):
    _, text, printed = make()
    text = ' '.join(text.replace('#', '').split())
    for figure in (
        "'car', 24 segments in 12 images, 9.38% of the pixels",
        "'sky', 12 segments in 12 images, 12.50% of the pixels",
        # The root of 24 x 16.
        'a side (root of the area) of 19.6 pixels or more',
        'side (root of width x height) of 20, 20 and 20 pixels',
        'Height / width of the boxes is 0.67, 0.67 and 0.67',
        '12 images with 2 a step are seen 126.7 times each',
        'of the 8 GB there are',
    ):
        assert figure in text
    assert 'max_iters = 760: 12 images' in printed
    assert 'warning' not in printed


def test_a_picture_of_the_data_is_drawn(make, data):
    make()
    with Image.open(data['out'].with_suffix('.png')) as picture:
        pixels = np.asarray(picture.convert('RGB'))
    assert pixels.shape[1] > 1000
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100


@pytest.mark.parametrize('model', ['small', 'lite0', 'lite2', 'b5'])
def test_network_and_data_set_of_every_model_can_be_built(make, model):
    config, _, _ = make('--model', model)
    assert len(DATASETS.build(config.train_dataloader.dataset)) == 12
    assert len(DATASETS.build(config.val_dataloader.dataset)) == 4
    network = MODELS.build(config.model)
    assert network.semantic_head.num_classes == 3
    assert network.rpn_head.num_base_priors == 1
    if model == 'b5':
        # One image a step, where the rate is for 16.
        assert config.optim_wrapper.optimizer.lr == pytest.approx(0.07 / 16)
        assert config.auto_scale_lr.base_batch_size == 1
        assert config.param_scheduler[1].milestones == [1280, 1760]


def test_a_short_training_warms_up_for_a_tenth_of_it(make):
    config, _, _ = make('--iters', '200')
    assert config.param_scheduler[0].end == config.param_scheduler[1].begin == 20
    assert config.param_scheduler[1].T_max == 180


def test_little_memory_makes_smaller_steps(make):
    config, text, _ = make('--memory', '615MB')
    assert config.train_dataloader.batch_size == 1
    assert config.optim_wrapper.optimizer.lr == pytest.approx(2e-3 / 2**0.5)
    assert 'There is no memory for 2' in text


def test_paths_stay_as_they_are_given(run, data, monkeypatch):
    monkeypatch.chdir(data['out'].parent)
    run(
        *('train.json', 'images/train', '--val', 'val.json', 'images/val'),
        *('--out', 'my_config.py'),
    )
    dataset = Config.fromfile('my_config.py').train_dataloader.dataset
    assert dataset.ann_file == 'train.json'
    assert dataset.data_prefix == dict(img='images/train/', seg='train/')


def test_a_config_in_the_checkout_names_its_bases_relatively(load_tool):
    load_tool('new_config.py')
    from mmdet_efficientps.apis.fitted_config import _base_path

    path = _base_path('default_runtime', ROOT / 'work_dirs' / 'mine.py')
    assert path == '../configs/_base_/default_runtime.py'
    path = Path(_base_path('default_runtime', Path('/elsewhere/mine.py')))
    assert path == ROOT / 'configs/_base_/default_runtime.py'


def test_rare_classes_are_drawn_more_often(run, tmp_path):
    maps = [street(cars=1) for _ in range(60)]
    kinds = KINDS | {30: 11, 31: 12}
    categories = [
        *CATEGORIES,
        dict(id=11, name='mud', isthing=0),
        dict(id=12, name='snow', isthing=0),
    ]
    for image in maps[:5]:
        image[40:] = 30
    maps[7][40:] = 31
    train = write_own(tmp_path, 'train', maps, kinds, categories)
    val = write_own(tmp_path, 'val', [maps[0], maps[7]], kinds, categories, seed=1)
    out = tmp_path / 'c.py'
    printed = run(*train, '--val', *val, '--out', out)
    assert 'mud (5)' in printed
    dataset = DATASETS.build(Config.fromfile(out).train_dataloader.dataset)
    # The root of 0.1 / 0.083, rounded up: twice.
    text = ' '.join(out.read_text().replace('#', '').split())
    assert 'rounded up, 2 times for mud.' in text
    assert "'mud', 5 segments in 5 images, " in text
    assert 'Fewer than 5 show snow (1): they are not drawn more often' in text
    # 760 steps of 2 images.
    assert '65 in a pass; with 2 a step there are 23.4 passes' in text
    assert len(dataset) == 65
    shown = [
        {s['category'] for s in dataset.get_data_info(k)['segments_info']}
        for k in range(len(dataset))
    ]
    assert sum(3 in labels for labels in shown) == 2 * 5
    assert sum(4 in labels for labels in shown) == 1


def test_a_part_is_held_out_and_equal_pictures_stay_together(run, data, tmp_path):
    json_file, images = data['train']
    # Images 3 to 8 are one picture, saved in several ways.
    with Image.open(images / '3.png') as picture:
        for number in range(4, 9):
            picture.save(images / f'{number}.png', compress_level=number)
    printed = run(json_file, images, '--val-fraction', '0.4', '--out', data['out'])
    config = Config.fromfile(data['out'])
    names = {}
    for part in ('train', 'val'):
        content = read_json(tmp_path / f'my_config_{part}.json')
        names[part] = {image['file_name'] for image in content['images']}
        assert len(content['annotations']) == len(names[part])
        assert content['categories'] == CATEGORIES
        assert config[f'{part}_dataloader'].dataset.ann_file == str(
            tmp_path / f'my_config_{part}.json'
        )
        assert len(DATASETS.build(config[f'{part}_dataloader'].dataset)) == len(
            names[part]
        )
    assert names['train'] | names['val'] == {f'{k}.png' for k in range(12)}
    same = {f'{k}.png' for k in range(3, 9)}
    assert same <= names['train'] or same <= names['val']
    assert not names['train'] & names['val']
    assert 'leak' not in printed


def test_before_a_fixed_camera_a_part_is_held_out_too(run, data):
    json_file, images = data['train']
    for number in range(12):
        pixels = np.full((64, 128, 3), 128, np.uint8)
        pixels[10, number] = 255
        Image.fromarray(pixels).save(images / f'{number}.png')
    printed = run(json_file, images, '--val-fraction', '0.25', '--out', data['out'])
    assert '9 images to train on, 3 to validate on' in printed
    assert 'leak: 3 of 3 validation images look the same' in printed
    assert 'cannot be kept on one side' in printed


def make_ids_floats(content):
    for image in content['images']:
        image['id'] = float(image['id'])
    for annotation in content['annotations']:
        annotation['image_id'] = str(annotation['image_id'])


def test_parts_have_the_images_however_their_ids_are_written(run, data, tmp_path):
    json_file, images = data['train']
    edit(json_file, make_ids_floats)
    run(json_file, images, '--val-fraction', '0.25', '--out', data['out'])
    numbers = {}
    for part in ('train', 'val'):
        content = read_json(tmp_path / f'my_config_{part}.json')
        numbers[part] = len(content['images']), len(content['annotations'])
    assert numbers == {'train': (9, 9), 'val': (3, 3)}


def test_nothing_is_left_where_the_picture_cannot_be_drawn(run, data, monkeypatch):
    def fail(*args, **kwargs):
        raise ValueError('cannot be drawn')

    monkeypatch.setattr('mmdet_efficientps.apis.new_config.plot_fingerprint', fail)
    json_file, images = data['train']
    with pytest.raises(SystemExit, match='cannot be drawn'):
        run(json_file, images, '--val-fraction', '0.25', '--out', data['out'])
    assert not list(data['out'].parent.glob('my_config*'))


@pytest.mark.parametrize('text', ['{{ fileBasename }}', '{{$HOME:/x}}', '{{{a', "'{{"])
def test_names_are_not_taken_for_what_mmengine_replaces(run, data, tmp_path, text):
    for part in ('train', 'val'):
        edit(data[part][0], lambda c: c['categories'][1].update(name=text))
    # A rare class stands in a comment, too.
    edit(data['train'][0], lambda c: c['categories'][0].update(name=f'left {text}'))
    edit(data['val'][0], lambda c: c['categories'][0].update(name=f'left {text}'))
    folder = tmp_path / text.replace('/', '')
    train_json = data['train'][0].rename(tmp_path / f'{folder.name}.json')
    data['train'][1].rename(folder)
    run(
        *(train_json, folder, '--seg', data['train'][0].with_suffix('')),
        *('--val', *data['val'], '--out', data['out']),
    )
    config = Config.fromfile(data['out'])
    assert config.things == (text,)
    assert config.stuff == (f'left {text}', 'sky')
    dataset = config.train_dataloader.dataset
    assert dataset.ann_file == str(train_json)
    assert Path(dataset.data_prefix.img) == folder


def test_large_images_are_predicted_within_the_memory(run, tmp_path):
    ids = street(1600, 1200, cars=0)
    ids[600:604, 600:604] = 10
    train = write_own(tmp_path, 'train', [ids] * 2, KINDS, CATEGORIES)
    val = write_own(tmp_path, 'val', [ids], KINDS, CATEGORIES, seed=1)
    out = tmp_path / 'c.py'
    # Twice the size is needed.
    for memory, is_limit in (('1.2GB', True), ('8GB', False)):
        options = ['--memory', memory, '--out', out, '--overwrite']
        printed = run(*train, '--val', *val, *options)
        size = Config.fromfile(out).test_pipeline[1].scale
        assert (size == (3200, 2400)) != is_limit
        assert ('memory is the limit' in printed) == is_limit
    assert size == (3200, 2400)


def test_a_square_crop_that_cuts_images_looks_for_rare_classes(run, tmp_path):
    rare = street(320, 416)
    rare[-40:] = 30
    kinds = KINDS | {30: 11}
    categories = [*CATEGORIES, dict(id=11, name='mud', isthing=0)]
    maps = [street(416, 320)] * 30 + [street(320, 416)] * 25 + [rare] * 5
    train = write_own(tmp_path, 'train', maps, kinds, categories)
    val = write_own(tmp_path, 'val', [rare], kinds, categories, seed=1)
    out = tmp_path / 'c.py'
    # 200 MB are 155 thousand pixels: 393 x 393.
    printed = run(*train, '--val', *val, '--memory', '0.8GB', '--out', out)
    crop = Config.fromfile(out).train_dataloader.dataset.dataset.pipeline[2]
    assert crop.scale == (416, 320)
    assert crop.crop_size == (384, 384)
    assert crop.rare_classes == [3]
    assert '92% of the image in a square' in printed


def test_leaks_are_named(run, data, tmp_path):
    images = data['train'][1]
    val_json, val = write_own(
        tmp_path, 'six', [street()] * 6, KINDS, CATEGORIES, seed=1
    )
    shutil.copy(images / '5.png', val / '0.png')
    with Image.open(images / '7.png') as picture:
        picture.save(val / '1.jpg', quality=60)
    edit(val_json, lambda c: c['images'][1].update(file_name='1.jpg'))
    printed = run(*data['train'], '--val', val_json, val, '--out', data['out'])
    assert '1 of 6 validation images has the same pixels as' in printed
    assert '0.png = 5.png' in printed
    assert '1 of 6 validation images looks the same' in printed
    assert '1.jpg = 7.png' in printed


def test_classes_with_too_little_are_named(run, tmp_path):
    categories = [*CATEGORIES, {'id': 11, 'name': 'mud', 'isthing': 0}]
    train = write_own(tmp_path, 'train', [street()] * 9, KINDS, categories)
    val = write_own(tmp_path, 'val', [street(cars=0)], KINDS, categories, seed=1)
    printed = run(*train, '--val', *val, '--out', tmp_path / 'c.py')
    assert '1 class without a segment in training, never learnt: mud' in printed
    assert 'not measured: car' in printed
    assert 'fewer than 10 segments in training, little' in printed
    assert 'leaves classes out): road, sky' in printed


def only_stuff(content):
    for annotation in content['annotations']:
        annotation['segments_info'] = [
            s for s in annotation['segments_info'] if s['category_id'] != 7
        ]


def only_crowds(content):
    for annotation in content['annotations']:
        for segment in annotation['segments_info']:
            segment['iscrowd'] = int(segment['category_id'] == 7)


def only_cars(content):
    for annotation in content['annotations']:
        annotation['segments_info'] = [
            s for s in annotation['segments_info'] if s['category_id'] == 7
        ]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (only_stuff, 'no instance of a thing to learn from: no segment of a class'),
        (only_crowds, r'no instance of a thing to learn from: only crowds \(24\)'),
        (only_cars, r'shows 1 class \(car\), and a network needs two'),
        (lambda c: c['categories'][2].update(name='haze'), r"\['haze'\], only the"),
        (lambda c: c['annotations'].pop(), 'image without an entry'),
        (lambda c: c.pop('categories'), "no list 'categories'"),
    ],
)
def test_data_that_cannot_be_trained_on_is_refused(make, data, change, message):
    edit(data['train'][0], change)
    with pytest.raises(SystemExit, match=message) as error:
        make()
    assert str(data['train'][0]) in str(error.value)
    assert not data['out'].exists()


@pytest.mark.parametrize('part', ['train', 'val'])
def test_a_folder_is_no_json(run, data, part):
    folder = data[part][0].with_suffix('')
    inputs = data | {part: (folder, data[part][1])}
    with pytest.raises(
        SystemExit, match='is a folder: give the panoptic json'
    ) as error:
        run(*inputs['train'], '--val', *inputs['val'], '--out', data['out'])
    assert str(folder) in str(error.value)


def test_the_same_images_on_both_sides_are_refused(run, data):
    train, out = data['train'], data['out']
    with pytest.raises(SystemExit, match='lists 12 images, of which 12 are in .* too'):
        run(*train, '--val', *train, '--out', out)


def test_the_same_pictures_on_both_sides_are_refused(make, data):
    for number in range(4):
        with Image.open(data['train'][1] / f'{number}.png') as picture:
            picture.save(data['val'][1] / f'{number}.png', compress_level=1)
    with pytest.raises(
        SystemExit, match='lists 4 images, of which 4 have the same pixels as'
    ):
        make()


@pytest.mark.parametrize('arguments', [[], ['--val-fraction', '0.2', '--val']])
def test_validation_is_given_in_one_way(run, data, arguments):
    extra = [*arguments, *data['val']] if arguments else []
    with pytest.raises(SystemExit, match='--val-fraction'):
        run(*data['train'], *extra, '--out', data['out'])


@pytest.mark.parametrize('option', ['--val-fraction=20', '--iters=1', '--memory=x'])
def test_numbers_out_of_range_are_refused(run, data, capsys, option):
    with pytest.raises(SystemExit):
        run(*data['train'], option, '--out', data['out'])
    assert option.partition('=')[0] in capsys.readouterr().err


def test_nothing_that_is_there_is_overwritten(make, run, data):
    make()
    text = data['out'].read_text()
    with pytest.raises(SystemExit, match='exists: give another --out, or --overwrite'):
        make()
    make('--overwrite')
    assert data['out'].read_text() == text
    data['out'].unlink()
    # Its picture alone is there.
    with pytest.raises(SystemExit, match=r'my_config\.png exists'):
        make()


def test_inputs_are_not_overwritten(run, data):
    json_file, images = data['train']
    for out, message in (
        (images / '0.py', r'0\.png is an input'),
        (json_file.with_suffix('.txt'), r'must be a \.py file'),
    ):
        with pytest.raises(SystemExit, match=message):
            run(json_file, images, '--val', *data['val'], '--out', out, '--overwrite')
    assert (images / '0.png').stat().st_size


def test_too_little_memory_is_refused(make):
    with pytest.raises(SystemExit, match='raise --memory, or take a smaller --model'):
        make('--memory', '1GB', '--model', 'b5')


@pytest.mark.slow
@pytest.mark.parametrize('model', ['small', 'lite2'])
def test_the_config_trains_and_validates(make, data, tmp_path, model):
    make('--model', model, '--iters', '2')
    command = [
        sys.executable,
        ROOT / 'tools/train.py',
        data['out'],
        '--work-dir',
        tmp_path / 'work',
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'default_hooks.logger.interval=1',
    ]
    result = subprocess.run(
        list(map(str, command)),
        env=os.environ | {'OMP_NUM_THREADS': '1'},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-4000:]
    assert 'panoptic/PQ' in result.stdout
    assert (tmp_path / 'work' / 'iter_2.pth').is_file()
