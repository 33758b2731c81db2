# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The page of demo/web_demo.py, in a browser and at its doors."""

import http.client
import importlib.util
import io
import json
import logging
import os
import re
import socket
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mmdet_efficientps.apis import PanopticInferencer, panoptic_inferencer
from mmdet_efficientps.models.seg_heads.panoptic_fusion_heads import (
    EfficientPSFusionHead,
)
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.panoptic import (
    PanopticClass,
    PanopticClasses,
    rgb2id,
)

pytest.importorskip('gradio', reason='needs gradio: pip install gradio')
pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CLASSES = PanopticClasses(
    (
        PanopticClass(26, 'car', True, (0, 0, 142)),
        PanopticClass(7, 'road', False, (128, 64, 128)),
        PanopticClass(23, 'sky', False, (70, 130, 180)),
    )
)
WIDTH, HEIGHT = 320, 160
# Where they are, in shares of width and height.
SURE_CAR, UNSURE_CAR, SKY, ROAD = (0.2, 0.5), (0.8, 0.5), (0.5, 0.1), (0.5, 0.9)


class StandIn:
    """A network that sees two cars on a road wherever it looks, and counts."""

    def __init__(self):
        self.classes = CLASSES
        self.thresholds = {'score_thr': 0.5, 'overlap_thr': 0.5, 'min_stuff_area': 64}
        self.head = EfficientPSFusionHead(1, 2, test_cfg={})
        self.runs = 0

    def prepare(self, image):
        if (image == 13).all():
            raise RuntimeError('the network is broken')
        if (image == 14).all():
            raise MemoryError
        return image.shape[:2]

    def predict(self, prepared):
        self.runs += 1
        return [self._see(*shape) for shape in prepared]

    @staticmethod
    def _see(height, width):
        shares = torch.tensor([[0.05, 0.3, 0.35, 0.7], [0.65, 0.3, 0.95, 0.7]])
        logits = torch.zeros(3, height // 4, width // 4)
        logits[1, height // 8 :], logits[2, : height // 8] = 9, 9
        logits[0, height // 16 : height // 5] = 4
        return FusionInputs(
            shares * torch.tensor([width, height, width, height]),
            torch.tensor([0.9, 0.4]),
            torch.tensor([0, 0]),
            torch.full((2, 28, 28), 8.0),
            logits,
            (height / 4, width / 4),
            (height, width),
        )

    def fuse(self, inputs, **thresholds):
        return self.head.fuse(inputs, **thresholds)


@pytest.fixture(scope='module')
def web_demo():
    spec = importlib.util.spec_from_file_location('web_demo', ROOT / 'demo/web_demo.py')
    module = importlib.util.module_from_spec(spec)
    sys.modules['web_demo'] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules['web_demo']


@pytest.fixture(scope='module')
def network():
    return StandIn()


@pytest.fixture(scope='module')
def inferencer(network):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(panoptic_inferencer, 'build_predictor', lambda *args: network)
        return PanopticInferencer('stand-in')


@pytest.fixture(scope='module')
def served(web_demo, inferencer, tmp_path_factory):
    """The application and its port."""
    limits = web_demo.UploadLimits(megabytes=2, megapixels=0.2, video_seconds=1)
    app = web_demo.create_app(inferencer, tmp_path_factory.mktemp('page'), limits)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        server = web_demo.make_server(app)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        yield app, listener.getsockname()[1]
        server.should_exit = True
        thread.join(timeout=20)


class Visitor:
    """A browser without a window: sends what it is told, keeps its cookie."""

    def __init__(self, port):
        self.port = port
        self.cookie = None
        headers = self.get('/')[1]
        self.cookie = headers['set-cookie'].split(';')[0]

    def get(self, path, method='GET', body=None, headers=()):
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=20)
        sent = dict(headers) | ({'Cookie': self.cookie} if self.cookie else {})
        connection.request(method, path, body, sent)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer.status, dict(answer.getheaders()), content

    @property
    def secret(self):
        return self.cookie.split('=', 1)[1]


@pytest.fixture
def visitor(served):
    return Visitor(served[1])


@pytest.fixture
def save(tmp_path):
    """Write a street of two cars."""

    def _save(name='street.png', value=90, size=(WIDTH, HEIGHT)):
        path = tmp_path / name
        Image.new('RGB', size, (value, value, value)).save(path)
        return path

    return _save


def predict(served, visitor, path):
    """Do what the page does with an upload; gives its record."""
    token, problem = served[0].demo.predict(str(path), visitor.secret)
    return problem or served[0].demo.show(token, visitor.secret, {})


class Page:
    """The page in Chromium."""

    def __init__(self, driver, port):
        self.driver = driver
        driver.get(f'http://localhost:{port}/')
        self.wait('#upload input[type=file]')

    def all(self, selector):
        return self.driver.find_elements('css selector', selector)

    def texts(self, selector):
        """What is there at one moment; the page may be drawn anew in the next."""
        return self.driver.execute_script(
            'return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)',
            selector,
        )

    def wait(self, selector, until=bool):
        for _ in range(300):
            if until(self.texts(selector)):
                return self.all(selector)[0]
            time.sleep(0.1)
        raise AssertionError(
            f'{selector} did not come; the page says: {self.texts("body")}'
        )

    def upload(self, path):
        self.wait('#upload input[type=file]').send_keys(str(path))
        return self.wait('.view-name', lambda texts: texts == [path.name])

    def problem_of(self, path):
        self.wait('#upload input[type=file]').send_keys(str(path))
        self.wait('.view-problem', lambda texts: texts and path.name in texts[0])
        return self.texts('.view-problem')[0]

    def point(self, share, pointer='mouse', kind='pointermove'):
        self.driver.execute_script(
            """const stage = document.querySelector('.view-stage');
            const frame = stage.getBoundingClientRect();
            stage.dispatchEvent(new PointerEvent(arguments[2], {
              pointerType: arguments[1], bubbles: true,
              clientX: frame.left + arguments[0][0] * frame.width,
              clientY: frame.top + arguments[0][1] * frame.height }));""",
            share,
            pointer,
            kind,
        )
        return self.texts('.view-tip')[0]

    def color(self, share, layer='overlay'):
        """RGBA of the pixel of a canvas."""
        return self.driver.execute_script(
            """const canvas = document.querySelector('.view-' + arguments[1]);
            return [...canvas.getContext('2d').getImageData(
              Math.floor(arguments[0][0] * canvas.width),
              Math.floor(arguments[0][1] * canvas.height), 1, 1).data];""",
            share,
            layer,
        )

    def slide(self, name, value):
        number = self.wait(f'#{name} input[type=number]')
        self.driver.execute_script(
            """const [input, value] = arguments;
            Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value')
              .set.call(input, value);
            input.dispatchEvent(new Event('input', { bubbles: true }));
            input.dispatchEvent(new Event('change', { bubbles: true }));
            input.dispatchEvent(new Event('blur', { bubbles: true }));""",
            number,
            str(value),
        )

    def segments(self):
        return [text.split('\n') for text in self.texts('.view-list button')]


@pytest.fixture
def page(chromium, served):
    chromium.get_log('browser')
    opened = Page(chromium, served[1])
    yield opened
    # What would be fetched elsewhere is an error, too.
    said = chromium.get_log('browser')
    assert [e['message'] for e in said if e['level'] == 'SEVERE'] == []


def test_pointing_at_a_segment_tells_class_score_and_area(page, save):
    page.upload(save())
    text = page.point(SURE_CAR)
    assert text.startswith('car\nScore: 0.90\nArea: ')
    # The box is 0.3 x 0.4 of the image.
    area = int(re.search(r'Area: ([\d,]+) pixels', text)[1].replace(',', ''))
    assert abs(area - 0.12 * WIDTH * HEIGHT) < 0.01 * WIDTH * HEIGHT
    assert page.color(SURE_CAR, 'marker')[3] > 0
    assert page.color(SKY, 'marker')[3] == 0
    assert page.point(SKY).startswith('sky\nScore: none, it is stuff\nArea: ')
    page.point(SKY, kind='pointerleave')
    assert not page.all('.view-tip')[0].is_displayed()


def test_a_tap_tells_and_stays_when_the_finger_is_lifted(page, save):
    page.upload(save())
    page.point(SURE_CAR, 'touch', 'pointerdown')
    text = page.point(SURE_CAR, 'touch', 'pointerleave')
    assert text.startswith('car\nScore: 0.90')
    assert page.all('.view-tip')[0].is_displayed()


def test_classes_and_outlines_are_switched(page, save):
    page.upload(save())
    shown = page.color(SURE_CAR)
    assert shown[3] == 140  # 0.55 of 255
    outlined = 'return document.querySelector(".view-overlay").getContext("2d")' + (
        f'.getImageData(0, 0, {WIDTH}, {HEIGHT}).data.filter((v) => v === 255).length'
    )
    assert page.driver.execute_script(outlined) > 100
    page.wait('.view-outlines').click()
    assert page.driver.execute_script(outlined) == 0
    page.wait('[data-class=car]').click()
    assert page.color(SURE_CAR) == [0, 0, 0, 0]
    assert page.color(SKY)[3] == 140
    # Segments can be pointed at, hidden or not.
    assert page.point(SURE_CAR).startswith('car')
    page.wait('[data-class=car]').click()
    assert page.color(SURE_CAR) == shown


def test_a_slider_changes_the_result_and_runs_no_network(page, save, network):
    page.upload(save())
    runs = network.runs
    assert [row[0] for row in page.segments()] == ['car', 'road', 'sky']
    assert page.point(UNSURE_CAR).startswith(('road', 'sky'))
    page.slide('score_thr', 0.3)
    page.wait('.view-list button:nth-child(4)')
    assert [row[0] for row in page.segments()] == ['car', 'car', 'road', 'sky']
    assert page.point(UNSURE_CAR).startswith('car\nScore: 0.40')
    assert network.runs == runs
    # A new image is fused as the sliders say.
    page.upload(save('other.png', 50))
    page.wait('.view-list button', lambda texts: len(texts) >= 2)
    assert [row[:2] for row in page.segments()][:2] == [
        ['car', '0.90'],
        ['car', '0.40'],
    ]
    assert network.runs == runs + 1


def test_links_give_panoptic_png_json_and_overlay(page, save, served):
    page.upload(save())
    links = {a.text: a for a in page.all('.view-bar a')}
    names = {text: a.get_attribute('download') for text, a in links.items()}
    assert names == {
        'panoptic PNG': 'street.png',
        'json': 'street.json',
        'overlay': 'street_overlay.png',
    }
    visitor = Visitor(served[1])
    visitor.cookie = f'visitor={page.driver.get_cookie("visitor")["value"]}'

    def fetch(text):
        address = links[text].get_attribute('href')
        return visitor.get(address.split(str(served[1]), 1)[1])[2]

    ids = rgb2id(np.asarray(Image.open(io.BytesIO(fetch('panoptic PNG')))))
    content = json.loads(fetch('json'))
    (annotation,) = content['annotations']
    assert annotation['file_name'] == 'street.png'
    assert content['images'][0]['file_name'] == 'street.png'
    areas = {s['id']: s['area'] for s in annotation['segments_info']}
    assert areas == {i: (ids == i).sum() for i in np.unique(ids) if i}
    names = {c['id']: c['name'] for c in content['categories']}
    assert {names[s['category_id']] for s in annotation['segments_info']} == {
        'car',
        'road',
        'sky',
    }
    overlay = np.asarray(Image.open(io.BytesIO(fetch('overlay'))))
    assert overlay.shape == (HEIGHT, WIDTH, 3)
    assert (overlay[2, WIDTH // 2] != 90).any()


def test_what_goes_wrong_is_said_in_the_page_and_the_next_image_is_fine(
    page, save, tmp_path, caplog
):
    text = tmp_path / 'text.jpg'
    text.write_text('not an image')
    assert 'cannot be read as an image' in page.problem_of(text)
    assert '0.2 at most' in page.problem_of(save('large.png', size=(1000, 1000)))
    with caplog.at_level(logging.CRITICAL):
        said = page.problem_of(save('broken.png', 13))
    assert 'the log of the server says why' in said
    assert 'Traceback' not in page.all('body')[0].text
    page.upload(save())
    assert page.point(SURE_CAR).startswith('car')


def test_a_video_comes_back_and_plays(page, tmp_path):
    pytest.importorskip('av', reason='needs PyAV: pip install av')
    from mmdet_efficientps.apis.video import VideoWriter

    path = tmp_path / 'drive.mp4'
    with VideoWriter(path, 10, (64, 48)) as writer:
        for number in range(3):
            writer.write(np.full((48, 64, 3), 60 * number, np.uint8))
    page.upload(path)
    assert [a.get_attribute('download') for a in page.all('.view-bar a')] == [
        'drive.mp4'
    ]
    for _ in range(100):
        state = page.driver.execute_script(
            "const video = document.querySelector('video');"
            'return [video.readyState >= 2, video.videoWidth, video.error?.message]'
        )
        if state[0]:
            break
        time.sleep(0.1)
    assert state == [True, 64, None]


def test_another_visitor_cannot_read_the_files(served, visitor, save):
    record = predict(served, visitor, save())
    addresses = [record['photo'], record['map']]
    addresses += [d['address'] for d in record['downloads']]
    other = Visitor(served[1])
    nobody = Visitor(served[1])
    nobody.cookie = None
    for address in addresses:
        assert visitor.get(f'/{address}')[0] == 200
        assert other.get(f'/{address}')[0] == 404
        assert nobody.get(f'/{address}')[0] == 404
    # Nor can the sliders of another page show it.
    token = record['photo'].split('/')[1]
    assert 'no longer kept' in served[0].demo.show(token, other.secret, {})['problem']


def test_uploads_are_served_to_nobody(served, visitor):
    body = (
        b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n'
        b'Content-Type: image/png\r\n\r\nsecret\r\n--x--\r\n'
    )
    status, _, content = visitor.get(
        '/gradio_api/upload',
        'POST',
        body,
        {'Content-Type': 'multipart/form-data; boundary=x'},
    )
    (path,) = json.loads(content)
    assert status == 200
    assert Path(path).read_bytes() == b'secret'
    for address in (
        f'/gradio_api/file={path}',
        f'/file={path}',
        f'/gradio_api/file/{path}',
        f'/static/../gradio_api/file={path}',
        '/gradio_api/proxy=http://localhost/',
        '/gradio_api/info',
        '/monitoring',
        '/gradio_api/deep_link?session_hash=a',
    ):
        assert visitor.get(address)[0] == 404


def test_a_file_above_the_limit_is_not_taken(visitor):
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
    status, _, content = visitor.get(
        '/gradio_api/upload',
        'POST',
        head + bytes(3_000_000) + b'\r\n--x--\r\n',
        {'Content-Type': 'multipart/form-data; boundary=x'},
    )
    assert status == 413
    assert b'exceeded' in content


def test_memory_that_is_short_is_said(served, visitor, save):
    record = predict(served, visitor, save('full.png', 14))
    assert record == {
        'problem': 'full.png does not fit into the memory of the server: make it '
        'smaller'
    }


def test_wide_images_are_shown_smaller_and_measured_whole(
    served, visitor, save, monkeypatch
):
    wide = save('wide.png', size=(4096, 40))
    record = predict(served, visitor, wide)
    assert (record['width'], record['height']) == (4096, 40)
    assert record['map_size'] == [2048, 20]
    assert sum(s['area'] for s in record['segments']) == 4096 * 40
    content = visitor.get(f'/{record["photo"]}')[2]
    assert Image.open(io.BytesIO(content)).size == (2048, 20)


def kept(web_demo, visitor, num_bytes=0):
    class Sized(web_demo.Kept):
        def num_bytes(self):
            return num_bytes

    return Sized(visitor, 'a.png')


def test_of_each_visitor_the_last_prediction_is_kept(web_demo):
    store = web_demo.KeptPredictions()
    first, other = store.add(kept(web_demo, 'me')), store.add(kept(web_demo, 'you'))
    last = store.add(kept(web_demo, 'me'))
    assert store.get(first, 'me') is None
    assert store.get(last, 'me') is not None
    assert store.get(last, 'you') is None
    assert store.get(other, 'you') is not None


def test_predictions_go_when_memory_is_full_or_time_is_up(web_demo, monkeypatch):
    store = web_demo.KeptPredictions(keep_seconds=60, keep_bytes=250)
    tokens = [store.add(kept(web_demo, name, 100)) for name in 'abc']
    found = [store.get(t, v) is not None for t, v in zip(tokens, 'abc', strict=True)]
    assert found == [False, True, True]
    now = time.monotonic()
    # Not of the server that runs beside this.
    later = SimpleNamespace(monotonic=lambda: now + 61)
    monkeypatch.setattr(web_demo, 'time', later)
    assert store.get(tokens[2], 'c') is None


def test_uploads_are_deleted_after_a_while(served, web_demo):
    demo = served[0].demo
    folder = demo.folder / 'uploads' / 'abc'
    folder.mkdir(parents=True)
    old, new = folder / 'old.png', folder / 'new.png'
    for path in (old, new):
        path.write_bytes(b'x')
    long_ago = time.time() - web_demo.KEEP_SECONDS - 1
    os.utime(old, (long_ago, long_ago))
    demo.sweep()
    assert [old.exists(), new.exists()] == [False, True]


def test_a_model_is_found_or_it_is_said_what_is_missing(web_demo, tmp_path):
    with pytest.raises(FileNotFoundError, match='neither a model.onnx nor a checkpoi'):
        web_demo.find_model(tmp_path)
    for age, name in ((20, 'iter_10.pth'), (10, 'iter_20.pth')):
        (tmp_path / name).write_bytes(b'')
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    assert web_demo.find_model(tmp_path).name == 'iter_20.pth'
    (tmp_path / 'model.onnx').write_bytes(b'')
    assert web_demo.find_model(tmp_path).name == 'model.onnx'
    with pytest.raises(FileNotFoundError, match='does not exist: give a checkpoint'):
        web_demo.find_model(tmp_path / 'nothing')


@pytest.mark.parametrize('model', ['nothing', 'text.pth'])
def test_a_model_that_is_none_ends_the_command_in_words(
    web_demo, tmp_path, monkeypatch, model
):
    (tmp_path / 'text.pth').write_text('not a checkpoint')
    monkeypatch.setattr(sys, 'argv', ['web_demo.py', '--model', str(tmp_path / model)])
    with pytest.raises(SystemExit, match=rf'web_demo.py: .*{model}'):
        web_demo.main()
