# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The command line of the runtime: from files to files."""

import dataclasses
import json
import re
import resource
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_efficientps.deployment import panoptic_onnx
from mmdet_efficientps.deployment.panoptic_onnx import PanopticOnnx, main
from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    PanopticOutput,
    decode_panoptic_seg,
    read_panoptic_png,
    segments_info,
)
from mmdet_efficientps.utils import ProblemList

SCRIPT = Path(panoptic_onnx.__file__)
UNREACHABLE = (
    'No matching distribution found|Temporary failure in name resolution|'
    'Connection refused|Max retries exceeded|Network is unreachable'
)


@pytest.fixture
def images(tmp_path, photograph):
    """A folder of images: two drives with equal names, and two images of one stem."""
    folder = tmp_path / 'images'
    for seed, name in enumerate(
        ['a/0.png', 'b/0.png', 'street.jpg', 'street.PNG', 'b/c/1.bmp']
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), photograph(50 + seed, 71, seed))
    (folder / 'notes.txt').write_text('no image')
    (folder / '.hidden.jpg').write_text('no image')
    return folder


def files_in(folder):
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file()
    )


def png_of(name):
    """The PNG of an image, as the package's writer names it."""
    return f'panoptic/{PanopticOutput.stem(name)}.png'


def predict(images, out, network, *options):
    return main([str(images), '--out', str(out), '--model', str(network), *options])


def test_a_folder_becomes_what_the_writer_of_the_package_would_make(
    images, tmp_path, write_network, capsys
):
    network, out = write_network(), tmp_path / 'out'
    assert predict(images, out, network) == 0
    names = ['a/0.png', 'b/0.png', 'b/c/1.bmp', 'street.PNG', 'street.jpg']
    assert files_in(out) == ['panoptic.json', *map(png_of, names)]
    assert '5 of 5 images' in capsys.readouterr().err

    problems = ProblemList()
    read = PanopticAnnotations.read(out / 'panoptic.json', problems)
    read.check_categories(problems)
    assert not problems, problems.summary()
    model = PanopticOnnx(network)
    assert read.categories == model.categories
    assert [image['id'] for image in read.images] == names
    assert [image['file_name'] for image in read.images] == names
    raw = json.loads((out / 'panoptic.json').read_text())['annotations']
    for image, entry in zip(read.images, raw, strict=True):
        picture = cv2.imread(str(images / image['file_name']))
        assert picture.shape[:2] == (image['height'], image['width'])
        result = model.predict(picture)
        ids, segments = decode_panoptic_seg(result.panoptic, len(model.categories))
        written = read_panoptic_png(str(out / 'panoptic' / entry['file_name']))
        np.testing.assert_array_equal(written, ids)
        category_ids = [category['id'] for category in model.categories]
        listed = segments_info(ids, segments, category_ids)
        things = {s.id: s.score for s in result.segments if s.isthing}
        assert things
        for found, expected in zip(entry['segments_info'], listed, strict=True):
            y, x = np.nonzero(ids == expected['id'])
            box = [x.min(), y.min(), x.max() + 1 - x.min(), y.max() + 1 - y.min()]
            assert found.pop('bbox') == box
            assert found.pop('score', None) == things.get(expected['id'])
            assert found == expected


def test_overlays_are_drawings_of_the_results(images, tmp_path, write_network):
    network, out = write_network(), tmp_path / 'out'
    assert predict(images / 'a' / '0.png', out, network, '--overlay') == 0
    assert files_in(out) == ['overlay/0.png', 'panoptic.json', 'panoptic/0.png']
    model = PanopticOnnx(network)
    picture = cv2.imread(str(images / 'a' / '0.png'))
    drawn = model.draw(picture, model.predict(picture))
    written = cv2.imread(str(out / 'overlay' / '0.png'))
    np.testing.assert_array_equal(written, drawn)
    assert predict(images, tmp_path / 'all', network, '--overlay') == 0
    overlays = [name for name in files_in(tmp_path / 'all') if 'overlay' in name]
    assert overlays == [
        *('overlay/a/0.png', 'overlay/b/0.png', 'overlay/b/c/1.bmp.png'),
        *('overlay/street.PNG', 'overlay/street.jpg'),
    ]


def test_thresholds_of_the_command_line_count(images, tmp_path, write_network):
    network = write_network()
    options = {
        'as-exported': [],
        'score': ['--score-thr', '0.8'],
        'overlap': ['--score-thr', '0.1', '--overlap-thr', '1'],
        'area': ['--min-stuff-area', '1000000', '--threads', '1'],
    }
    counts = {}
    for name, given in options.items():
        out = tmp_path / name
        assert predict(images / 'a', out, network, *given) == 0
        read = json.loads((out / 'panoptic.json').read_text())
        segments = read['annotations'][0]['segments_info']
        things = sum('score' in segment for segment in segments)
        counts[name] = things, len(segments) - things
    assert {name: things for name, (things, _) in counts.items()} == {
        'as-exported': 2,
        'score': 1,
        'overlap': 3,
        'area': 2,
    }
    assert counts['area'][1] == 0 < counts['as-exported'][1]


UNREADABLE = {
    'empty.png': lambda content: b'',
    'text.jpg': lambda content: b'no image at all',
    'cut.png': lambda content: content[: len(content) // 2],
    'moving.gif': lambda content: b'GIF89a' + content,
}


@pytest.mark.parametrize('name', UNREADABLE)
def test_an_unreadable_image_is_named_and_the_others_are_done(
    images, tmp_path, write_network, capsys, name
):
    content = (images / 'a' / '0.png').read_bytes()
    (images / 'a' / name).write_bytes(UNREADABLE[name](content))
    out = tmp_path / 'out'
    assert predict(images, out, write_network()) == 1
    error = capsys.readouterr().err
    assert '1 of 6 images failed:' in error
    assert f'{images / "a" / name}: ' in error
    read = json.loads((out / 'panoptic.json').read_text())
    assert len(read['annotations']) == len(files_in(out / 'panoptic')) == 5


def test_an_image_that_cannot_be_predicted_is_named_with_its_size(
    images, tmp_path, write_network, capsys, monkeypatch
):
    original = PanopticOnnx.logits

    def fail(self, image):
        if image.shape[0] == 50:
            raise MemoryError
        return original(self, image)

    monkeypatch.setattr(PanopticOnnx, 'logits', fail)
    assert predict(images, tmp_path / 'out', write_network()) == 1
    place = images / 'a' / '0.png'
    assert f'{place} (71 x 50 pixels): MemoryError' in capsys.readouterr().err
    assert len(files_in(tmp_path / 'out' / 'panoptic')) == 4


def test_if_all_images_fail_there_is_no_json(tmp_path, write_network):
    (tmp_path / 'images').mkdir()
    (tmp_path / 'images' / 'text.jpg').write_text('no image')
    assert predict(tmp_path / 'images', tmp_path / 'out', write_network()) == 1
    assert not (tmp_path / 'out').exists()


def test_linked_folders_are_followed_once(images, tmp_path, write_network):
    (images / 'again').symlink_to(images, target_is_directory=True)
    elsewhere = tmp_path / 'elsewhere'
    shutil.move(images / 'b', elsewhere)
    (images / 'b').symlink_to(elsewhere, target_is_directory=True)
    found = panoptic_onnx.find_images(images)
    names = ['a/0.png', 'b/0.png', 'b/c/1.bmp', 'street.PNG', 'street.jpg']
    assert list(found) == names


def no_model(images, out, network):
    network.unlink()


def text_for_model(images, out, network):
    network.write_text('no network')


def is_done(images, out, network):
    out.mkdir()
    (out / 'panoptic.json').write_text('{}')


def is_a_file(images, out, network):
    out.write_text('')


def is_linked_to_inputs(images, out, network):
    out.symlink_to(images, target_is_directory=True)


@pytest.mark.parametrize(
    ('prepare', 'source', 'out', 'match'),
    [
        (no_model, '', 'out', 'there is no model .*model.onnx'),
        (text_for_model, '', 'out', 'model.onnx cannot be loaded'),
        (is_done, '', 'out', 'panoptic.json exists: give another folder'),
        (is_a_file, '', 'out', 'is a file: give a folder'),
        (None, '', 'images', 'is a folder that holds inputs'),
        (None, '', '', 'is a folder that holds inputs'),
        (None, 'a', 'images', 'is a folder that holds inputs'),
        (None, 'a/0.png', 'images/a', 'is a folder that holds inputs'),
        (is_linked_to_inputs, '', 'out', 'is a folder that holds inputs'),
        (None, 'missing', 'out', 'there is no image or folder .*missing'),
        (lambda i, o, n: (i / 'none').mkdir(), 'none', 'out', 'there are no images'),
    ],
)
def test_what_cannot_be_done_is_said_and_nothing_written(
    images, tmp_path, write_network, capsys, prepare, source, out, match
):
    network, out = write_network(), tmp_path / out
    if prepare is not None:
        prepare(images, out, network)
    before = files_in(tmp_path)
    assert predict(images / source, out, network) == 2
    error = capsys.readouterr().err
    assert re.match(f'panoptic_onnx.py: .*{match}', error)
    assert 'Traceback' not in error
    assert files_in(tmp_path) == before


def test_an_unknown_provider_is_refused_in_words(
    images, tmp_path, write_network, capsys
):
    options = ('--provider', 'abacus')
    assert predict(images, tmp_path / 'out', write_network(), *options) == 2
    assert re.search(r'--provider abacus: .* has .*cpu', capsys.readouterr().err)


@pytest.mark.filterwarnings('ignore:Specified provider')
def test_a_provider_that_does_not_start_is_not_replaced_unsaid(write_network):
    with pytest.raises(ValueError, match='CUDAExecutionProvider .* not start'):
        PanopticOnnx(write_network(), providers=['CUDAExecutionProvider'])


def run_script(*arguments, python=sys.executable, script=SCRIPT, **kwargs):
    return subprocess.run(
        [str(part) for part in (python, script, *arguments)],
        capture_output=True,
        text=True,
        **kwargs,
    )


def test_a_full_disk_leaves_nothing_half_written(images, tmp_path, write_network):
    # The system lets no file of the process grow beyond this: it is too little for the
    # last picture.
    limit = 4000
    noise = np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)
    cv2.imwrite(str(images / 'z.png'), noise)
    out = tmp_path / 'out'
    done = run_script(
        *(images, '--out', out, '--model', write_network()),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert done.returncode == 2
    assert re.search(r'\.png cannot be written: File too large', done.stderr)
    assert 'Traceback' not in done.stderr
    whole = ['a/0.png', 'b/0.png', 'b/c/1.bmp', 'street.PNG', 'street.jpg']
    assert files_in(out) == [*map(png_of, whole)]
    for name in files_in(out):
        assert read_panoptic_png(str(out / name)).shape[1] == 71


def test_an_output_that_cannot_be_written_is_said(images, tmp_path, write_network):
    (tmp_path / 'file').write_text('')
    out = tmp_path / 'file' / 'out'
    done = run_script(images, '--out', out, '--model', write_network())
    assert done.returncode == 2
    assert re.search('panoptic.* cannot be written: Not a directory', done.stderr)


def test_progress_on_a_terminal_is_one_line_and_plain_elsewhere(
    images, tmp_path, write_network, capsys, monkeypatch
):
    network = write_network()
    predict(images, tmp_path / 'plain', network)
    plain = capsys.readouterr().err
    assert re.fullmatch(r'5 of 5 images, [\d.]+ images/s\n', plain)
    monkeypatch.setattr('sys.stderr.isatty', lambda: True, raising=False)
    predict(images, tmp_path / 'live', network)
    live = capsys.readouterr().err
    assert live.count('\n') == 1
    assert live.count('\r') == 5
    assert re.search(r'\r2 of 5 images, [\d.]+ images/s, \d+:\d\d min left', live)


def test_without_onnx_runtime_it_says_what_to_install(
    images, tmp_path, write_network, capsys, monkeypatch
):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    assert predict(images, tmp_path / 'out', write_network()) == 2
    assert 'pip install onnxruntime' in capsys.readouterr().err


@pytest.fixture(scope='module')
def fresh_python(tmp_path_factory):
    """An environment with what the runtime says it needs, and nothing else."""
    folder = tmp_path_factory.mktemp('environment')
    venv.create(folder, with_pip=True)
    python = folder / 'bin' / 'python'
    needs = ('numpy', 'opencv-python-headless', 'onnxruntime')
    pip = ('-m', 'pip', 'install', '--quiet', '--no-compile', *needs)
    done = subprocess.run([python, *pip], capture_output=True, text=True)
    if done.returncode and re.search(UNREACHABLE, done.stderr):
        pytest.skip('the runtime cannot be installed: pip needs a package index')
    assert done.returncode == 0, done.stderr
    return python


@pytest.mark.slow
def test_the_file_runs_beside_its_model_in_an_environment_of_three_packages(
    fresh_python, images, tmp_path, write_network
):
    network = write_network()
    script = Path(shutil.copy(SCRIPT, network.parent))
    found = subprocess.run(
        [fresh_python, '-c', 'import torch'], capture_output=True, text=True
    )
    assert 'No module named' in found.stderr
    two, out = images / 'b', tmp_path / 'out'
    done = run_script(
        *(two, '--out', out, '--overlay'),
        python=fresh_python,
        script=script,
        cwd=tmp_path,
        env={},
    )
    assert done.returncode == 0, done.stderr
    assert files_in(out) == [
        *('overlay/0.png', 'overlay/c/1.bmp.png', 'panoptic.json'),
        *('panoptic/0.png', 'panoptic/c/1.bmp.png'),
    ]
    model = PanopticOnnx(network)
    read = json.loads((out / 'panoptic.json').read_text())
    for image, entry in zip(read['images'], read['annotations'], strict=True):
        result = model.predict(cv2.imread(str(two / image['file_name'])))
        ids = read_panoptic_png(str(out / 'panoptic' / entry['file_name']))
        assert np.mean(ids != result.ids) < 1e-3
        segments = [dataclasses.asdict(segment) for segment in result.segments]
        ids_and_classes = [(s['id'], s['category_id']) for s in segments]
        assert [
            (s['id'], s['category_id']) for s in entry['segments_info']
        ] == ids_and_classes
