# Licensed under the Apache License, Version 2.0. See LICENSE.
import errno
import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from mmdet_efficientps.apis import PanopticInferencer
from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    read_panoptic_png,
)
from mmdet_efficientps.utils import ProblemList

pytestmark = pytest.mark.slow

THRESHOLDS = ('--score-thr', '0.05', '--min-stuff-area', '1')
IMAGES = ['drive1/0.jpg', 'drive1/1.png', 'drive2/0.jpg', 'last.bmp']


@pytest.fixture
def predict(load_tool, monkeypatch):
    """Run tools/predict.py in this process."""
    tool = load_tool('predict.py')

    def _predict(*arguments):
        words = ['predict.py', *map(str, arguments), *THRESHOLDS]
        monkeypatch.setattr(sys, 'argv', words)
        tool.main()

    return _predict


@pytest.fixture
def interrupted(monkeypatch):
    """Stop a run at the n-th file that gets its name."""

    replace = os.replace

    def _interrupted(number, error=KeyboardInterrupt):
        left = iter(range(number))

        def stop(*paths):
            if next(left, None) is None:
                raise error
            replace(*paths)

        monkeypatch.setattr(os, 'replace', stop)

    return _interrupted


def files_of(folder):
    """Content of every file of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(Path(folder).rglob('*'))
        if path.is_file()
    }


def test_a_folder_becomes_a_panoptic_json_pictures_and_instances(
    predict, small_checkpoint, photographs, tmp_path
):
    out = tmp_path / 'out'
    options = ('--overlay', '--instances', '--batch-size', '2')
    predict(photographs, small_checkpoint, '--out', out, *options)
    problems = ProblemList()
    content = PanopticAnnotations.read(out / 'panoptic.json', problems)
    assert not problems
    assert [image['file_name'] for image in content.images] == IMAGES
    inferencer = PanopticInferencer(
        small_checkpoint, score_thr=0.05, min_stuff_area=1, instances=True
    )
    results = inferencer(photographs)
    for name, result in zip(IMAGES, results, strict=True):
        entry = content.annotations[name]
        ids = read_panoptic_png(out / 'panoptic' / entry['file_name'])
        assert np.array_equal(ids, result.ids)
        listed = {s['id']: s['category_id'] for s in entry['segments_info']}
        assert listed == {s.id: result.class_of(s).id for s in result.segments}
        drawn = f'overlay/{name}' + ('.png' if name.endswith('.bmp') else '')
        picture = cv2.imread(str(out / drawn))
        expected = result.draw(cv2.imread(str(photographs / name)))
        # Those in JPEG are not exact.
        assert np.abs(picture.astype(int) - expected).mean() < 15
    instances = json.loads((out / 'instances.json').read_text())
    assert len(instances) == sum(len(r.instances.scores) for r in results)
    assert not (out / 'progress').exists()


@pytest.mark.parametrize('number', [0, 3, 8, 9])
def test_a_run_that_was_stopped_goes_on_to_the_same_files(
    predict, interrupted, small_checkpoint, photographs, tmp_path, number
):
    command = (photographs, small_checkpoint, '--overlay', '--instances', '--out')
    predict(*command, tmp_path / 'whole')
    # Eight files of four images, and the jsons.
    interrupted(number + 1)
    with pytest.raises(SystemExit, match='the same command goes on'):
        predict(*command, tmp_path / 'stopped')
    interrupted(1000)
    assert not (tmp_path / 'stopped' / 'panoptic.json').exists()
    predict(*command, tmp_path / 'stopped')
    assert files_of(tmp_path / 'stopped') == files_of(tmp_path / 'whole')


def test_what_is_done_is_not_predicted_again(
    predict, interrupted, small_checkpoint, photographs, tmp_path, monkeypatch
):
    command = (photographs, small_checkpoint, '--out', tmp_path / 'out')
    interrupted(4)
    with pytest.raises(SystemExit, match='goes on'):
        predict(*command)
    interrupted(1000)
    done = list((tmp_path / 'out' / 'panoptic').rglob('*.png'))
    assert len(done) == 3
    from mmdet_efficientps.apis.predictors import TorchPredictor

    seen = []
    run = TorchPredictor.predict
    monkeypatch.setattr(
        TorchPredictor,
        'predict',
        lambda self, prepared, score_thr: (
            seen.append(len(prepared)) or run(self, prepared, score_thr)
        ),
    )
    predict(*command)
    assert sum(seen) == 1


def test_bad_files_are_listed_and_the_others_done(
    predict, small_checkpoint, photographs, tmp_path, capsys
):
    (photographs / 'drive1' / '0.jpg').write_bytes(b'')
    (photographs / 'drive2' / '0.jpg').write_bytes(b'x')
    with pytest.raises(SystemExit) as stop:
        predict(photographs, small_checkpoint, '--out', tmp_path / 'out')
    assert stop.value.code == 1
    text = capsys.readouterr().out
    assert '2 x cannot be decoded as an image' in text
    assert str(photographs / 'drive1' / '0.jpg') in text
    content = json.loads((tmp_path / 'out' / 'panoptic.json').read_text())
    names = [image['file_name'] for image in content['images']]
    assert names == ['drive1/1.png', 'last.bmp']


def test_an_output_that_holds_the_images_is_refused(
    predict, small_checkpoint, photographs
):
    before = files_of(photographs)
    for out in (photographs, photographs / 'drive1'):
        with pytest.raises(SystemExit, match='folder that holds inputs'):
            predict(photographs, small_checkpoint, '--out', out, '--overlay')
    assert files_of(photographs) == before


def test_results_inside_the_folder_of_the_images_are_no_images(
    predict, interrupted, small_checkpoint, photographs
):
    folder = photographs / 'results'
    command = (photographs, small_checkpoint, '--overlay', '--out', folder)
    interrupted(4)
    with pytest.raises(SystemExit, match='goes on'):
        predict(*command)
    interrupted(1000)
    predict(*command)
    content = json.loads((folder / 'panoptic.json').read_text())
    assert [image['id'] for image in content['images']] == IMAGES
    with pytest.raises(SystemExit, match='these predictions are complete'):
        predict(*command)


def test_results_of_two_runs_are_not_mixed(
    predict, interrupted, small_checkpoint, photographs, tmp_path
):
    out = tmp_path / 'out'
    interrupted(4)
    with pytest.raises(SystemExit, match='goes on'):
        predict(photographs, small_checkpoint, '--out', out)
    interrupted(1000)
    with pytest.raises(SystemExit, match='another checkpoint or config'):
        predict(photographs, small_checkpoint, '--out', out, '--overlap-thr', 0.3)
    others = photographs.with_name('others')
    shutil.copytree(photographs, others)
    with pytest.raises(SystemExit, match='of other images'):
        predict(others, small_checkpoint, '--out', out)
    predict(photographs, small_checkpoint, '--out', out)
    with pytest.raises(SystemExit, match='these predictions are complete'):
        predict(photographs, small_checkpoint, '--out', out)


def test_an_output_that_is_a_file_is_refused(
    predict, small_checkpoint, photographs, tmp_path
):
    (tmp_path / 'out').write_text('mine')
    with pytest.raises(SystemExit, match='out is a file, and results need a folder'):
        predict(photographs, small_checkpoint, '--out', tmp_path / 'out')
    assert (tmp_path / 'out').read_text() == 'mine'


def test_a_full_disk_leaves_whole_files_and_the_run_goes_on(
    predict, interrupted, small_checkpoint, photographs, tmp_path
):
    out = tmp_path / 'out'
    interrupted(4, OSError(errno.ENOSPC, 'No space left on device'))
    with pytest.raises(SystemExit, match=r'No space left.*make room'):
        predict(photographs, small_checkpoint, '--out', out)
    interrupted(1000)
    hidden = [path for path in out.rglob('.*') if path.is_file()]
    assert not hidden
    predict(photographs, small_checkpoint, '--out', out)
    assert len(list(out.rglob('*.png'))) == 4


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (('nowhere', 'MODEL'), 'nowhere does not exist'),
        (('https://x.org/a.png', 'MODEL'), 'is an address: download it'),
        (('FOLDER', 'MODEL', 'MODEL'), 'is no config, .* the config first'),
        (('FOLDER', 'no_such_config'), 'there are no weights'),
        (('FOLDER', 'no_such.pth'), 'no_such.pth'),
        (('FOLDER', 'FOLDER/last.bmp'), 'there are no weights'),
    ],
)
def test_a_wrong_command_is_answered_in_words(
    predict, small_checkpoint, photographs, tmp_path, arguments, words
):
    names = {'MODEL': str(small_checkpoint), 'FOLDER': str(photographs)}
    for name, path in names.items():
        arguments = [argument.replace(name, path) for argument in arguments]
    with pytest.raises(SystemExit, match=words):
        predict(*arguments, '--out', tmp_path / 'out')
    assert not (tmp_path / 'out').exists()


@pytest.fixture
def video(tmp_path):
    """A video of 10 frames in which everything moves to the left."""
    av = pytest.importorskip('av', reason='needs PyAV: pip install av')
    rng = np.random.default_rng(0)
    wide = cv2.blur(rng.integers(0, 256, (64, 160, 3), np.uint8), (9, 9))
    path = tmp_path / 'in.mov'
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=10)
        stream.width, stream.height, stream.pix_fmt = 128, 64, 'yuv420p'
        for left in range(10):
            picture = np.ascontiguousarray(wide[:, 2 * left : 2 * left + 128])
            frame = av.VideoFrame.from_ndarray(picture, format='bgr24')
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def frames_of(path):
    """Frames of a video, (N, H, W, 3)."""
    import av

    with av.open(str(path)) as container:
        frames = container.decode(video=0)
        return np.stack([frame.to_ndarray(format='bgr24') for frame in frames])


def test_a_video_that_was_stopped_goes_on_to_the_same_video(
    predict, interrupted, small_checkpoint, video, tmp_path
):
    pytest.importorskip('trackers')
    command = (video, small_checkpoint, '--overlay', '--track', '--out')
    predict(*command, tmp_path / 'whole')
    content = json.loads((tmp_path / 'whole' / 'panoptic.json').read_text())
    names = [image['file_name'] for image in content['images']]
    assert names == [f'in.mov/{number:06d}' for number in range(10)]
    tracks = [
        {s['track_id'] for s in entry['segments_info'] if 'track_id' in s}
        for entry in content['annotations']
    ]
    assert set.intersection(*tracks)
    interrupted(6)
    with pytest.raises(SystemExit, match='goes on'):
        predict(*command, tmp_path / 'stopped')
    interrupted(1000)
    assert not list((tmp_path / 'stopped').rglob('*.mp4'))
    predict(*command, tmp_path / 'stopped')
    whole, stopped = (files_of(tmp_path / name) for name in ('whole', 'stopped'))
    assert whole.keys() == stopped.keys()
    film = 'overlay/in.mov.mp4'
    assert frames_of(tmp_path / 'whole' / film).shape == (10, 64, 128, 3)
    assert np.array_equal(
        frames_of(tmp_path / 'whole' / film), frames_of(tmp_path / 'stopped' / film)
    )
    whole.pop(film), stopped.pop(film)
    assert whole == stopped


def test_a_video_that_is_none_is_named(predict, small_checkpoint, tmp_path):
    pytest.importorskip('av')
    (tmp_path / 'x.mp4').write_bytes(b'no video')
    with pytest.raises(SystemExit, match=r'x\.mp4'):
        predict(tmp_path / 'x.mp4', small_checkpoint, '--out', tmp_path / 'out')
