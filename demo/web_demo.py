# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A page to try a trained network on images and short videos of one's own.

    python demo/web_demo.py --model work_dirs/mine

Drop an image and see it with its segments; point at one to learn what it is. The
thresholds of the fusion are sliders: they do not run the network again. Listens on
this machine alone unless told otherwise. See docs/web_demo.md.
"""

import argparse
import contextlib
import gzip
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mmdet_efficientps.apis import PanopticInferencer, PanopticResult
from mmdet_efficientps.apis.image_inputs import is_video
from mmdet_efficientps.apis.panoptic_inferencer import is_out_of_memory
from mmdet_efficientps.apis.segment_view import (
    VIEW_SCRIPT,
    VIEW_STYLE,
    VIEW_WIDTH,
    view_map,
    view_record,
)
from mmdet_efficientps.apis.uploads import (
    UploadedVideo,
    UploadError,
    UploadLimits,
    read_uploaded_image,
)
from mmdet_efficientps.apis.video import VideoFrame
from mmdet_efficientps.structures.fusion_inputs import FusionInputs
from mmdet_efficientps.structures.panoptic import encode_panoptic_png
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError
from mmdet_efficientps.visualization.report import shrink, to_webp

logger = logging.getLogger('web_demo')

THRESHOLDS = ('score_thr', 'overlap_thr', 'min_stuff_area')
KEEP_SECONDS = 30 * 60
KEEP_BYTES = 2**30
WAITING_VISITORS = 20
VISITOR = 'visitor'
# All that the page needs. Gradio has more doors, one of them to uploaded files.
OPEN_PATHS = re.compile(
    r'/|/(assets|static|results)/.+|/config/?|/theme\.css|/manifest\.json|/favicon\.ico|'
    r'/gradio_api/(app_id/?|startup-events|upload|upload_progress|heartbeat/\w+|'
    r'queue/(join|data)|cancel|reset/?)'
)
# The browser, too, is told to fetch nothing from elsewhere.
CONTENT_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "media-src 'self' blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "frame-ancestors 'self'; form-action 'self'"
)


@dataclass
class Kept:
    """What is kept of a prediction, for its visitor.

    Attributes:
        visitor (str): Secret of the browser it belongs to.
        name (str): Name of the file.
        image (np.ndarray | None): (H, W, 3), uint8, BGR; None for a video.
        inputs (FusionInputs | None): What the network says; None for a video.
        notes (list[str]): How the image was read.
        seconds (float): What the network took.
        result (PanopticResult | None): With the thresholds asked for last.
        version (int): Counts the results.
        video (Path | None): The video with its segments.
        time (float): When it was last asked for.
    """

    visitor: str
    name: str
    image: np.ndarray | None = None
    inputs: FusionInputs | None = None
    notes: list[str] = field(default_factory=list)
    seconds: float = 0.0
    result: PanopticResult | None = None
    version: int = 0
    video: Path | None = None
    time: float = field(default_factory=time.monotonic)

    def num_bytes(self) -> int:
        """Give the memory it takes, but for what is small beside it."""
        if self.image is None or self.inputs is None:
            return 0
        # The map of ids has four bytes a pixel.
        logits = self.inputs.seg_logits
        return self.image.nbytes * 7 // 3 + logits.numel() * logits.element_size()


class KeptPredictions:
    """The last prediction of each visitor, for a while.

    Args:
        keep_seconds (float): How long after it was last asked for.
        keep_bytes (int): Memory for all of them; the oldest go.
    """

    def __init__(
        self, keep_seconds: float = KEEP_SECONDS, keep_bytes: int = KEEP_BYTES
    ) -> None:
        self.keep_seconds = keep_seconds
        self.keep_bytes = keep_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def add(self, kept: Kept) -> str:
        """Keep a prediction in place of the visitor's last.

        Args:
            kept (Kept): The prediction.

        Returns:
            str: The name to ask for it by, which cannot be guessed.
        """
        token = secrets.token_urlsafe(24)
        with self._lock:
            self._drop([t for t, k in self._kept.items() if k.visitor == kept.visitor])
            self._kept[token] = kept
            size = sum(k.num_bytes() for k in self._kept.values())
            for old, other in list(self._kept.items())[:-1]:
                if size <= self.keep_bytes:
                    break
                size -= other.num_bytes()
                self._drop([old])
        return token

    def get(self, token: str | None, visitor: str | None) -> Kept | None:
        """Look a prediction up.

        Args:
            token (str | None): Its name.
            visitor (str | None): Secret of the browser that asks.

        Returns:
            Kept | None: None if there is none, or it is another visitor's.
        """
        self.drop_old()
        with self._lock:
            kept = self._kept.get(token or '')
            if kept is None or not secrets.compare_digest(kept.visitor, visitor or ''):
                return None
            kept.time = time.monotonic()
            self._kept.move_to_end(token)
            return kept

    def drop_old(self) -> None:
        """Forget what nobody has asked for in a while."""
        now = time.monotonic()
        with self._lock:
            self._drop(
                [t for t, k in self._kept.items() if now - k.time > self.keep_seconds]
            )

    def _drop(self, tokens: list[str]) -> None:
        for token in tokens:
            kept = self._kept.pop(token)
            if kept.video is not None:
                kept.video.unlink(missing_ok=True)


class WebDemo:
    """What happens when a visitor drops a file, moves a slider, fetches a result.

    Args:
        inferencer (PanopticInferencer): The network.
        limits (UploadLimits): What is taken.
        folder (Path): For uploads and videos; nobody else's.
    """

    def __init__(
        self, inferencer: PanopticInferencer, limits: UploadLimits, folder: Path
    ) -> None:
        self.inferencer = inferencer
        self.limits = limits
        self.folder = folder
        self.kept = KeptPredictions()
        # Drawing a large image takes memory: one at a time.
        self.drawing = threading.Lock()

    def predict(
        self, path: str | None, visitor: str | None, progress: Any = None
    ) -> tuple[str | None, dict | None]:
        """Run the network on an upload.

        Args:
            path (str | None): The file.
            visitor (str | None): Secret of the browser.
            progress (gradio.Progress, optional): Shown in the page.

        Returns:
            tuple[str | None, dict | None]: Name of the kept prediction, and what the
            page shows if there is none.
        """
        if path is None:
            return None, None
        name = Path(path).name
        if not visitor:
            return None, _problem('Cookies are switched off: this page needs one.')
        try:
            if is_video(path):
                kept = self._predict_video(Path(path), visitor, progress)
            else:
                kept = self._predict_image(Path(path), visitor)
            return self.kept.add(kept), None
        except UploadError as error:
            return None, _problem(str(error))
        except Exception as error:
            logger.exception('%s could not be predicted', name)
            if is_out_of_memory(error):
                return None, _problem(
                    f'{name} does not fit into the memory of the server: make it '
                    'smaller'
                )
            return None, _problem(
                f'{name} could not be predicted, through no fault of yours: the log '
                'of the server says why.'
            )

    def _predict_image(self, path: Path, visitor: str) -> Kept:
        image, notes = read_uploaded_image(path, self.limits)
        start = time.perf_counter()
        (inputs,) = self.inferencer.predict_fusion_inputs([image])
        seconds = time.perf_counter() - start
        return Kept(visitor, path.name, image, inputs, notes, seconds)

    def _predict_video(self, path: Path, visitor: str, progress: Any) -> Kept:
        video = UploadedVideo(path, self.limits)
        out = self.folder / 'videos' / f'{secrets.token_urlsafe(24)}.mp4'

        def draw(frame: VideoFrame) -> np.ndarray:
            if progress is not None:
                done = frame.index, video.reader.num_frames
                progress(done, desc='Frames', unit='frames')
            (inputs,) = self.inferencer.predict_fusion_inputs([frame.image])
            return self.inferencer.fuse(inputs).draw(frame.image)

        start = time.perf_counter()
        notes = video.redraw(out, draw)
        seconds = time.perf_counter() - start
        return Kept(visitor, path.name, notes=notes, seconds=seconds, video=out)

    def show(
        self, token: str | None, visitor: str | None, thresholds: dict[str, float]
    ) -> dict | None:
        """Fuse what the network said; it does not run again.

        Args:
            token (str | None): Name of the kept prediction.
            visitor (str | None): Secret of the browser.
            thresholds (dict[str, float]): Those of the fusion.

        Returns:
            dict | None: What the page shows; None if there is nothing to show.
        """
        if token is None:
            return None
        kept = self.kept.get(token, visitor)
        if kept is None:
            return _problem(
                f'This result is no longer kept (results are for '
                f'{KEEP_SECONDS // 60} minutes): drop the image again.'
            )
        address = f'results/{token}'
        if kept.inputs is None:
            return {
                'name': kept.name,
                'notes': kept.notes,
                'facts': f'predicted in {kept.seconds:.1f} s',
                'video': f'{address}/video.mp4',
                'downloads': _downloads(address, kept.name, video='video.mp4'),
            }
        try:
            kept.result = self.inferencer.fuse(kept.inputs, kept.name, **thresholds)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return _problem(f'{kept.name} does not fit into the memory of the server')
        kept.version += 1
        height, width = kept.result.shape
        notes = list(kept.notes)
        if width > VIEW_WIDTH:
            notes.append(
                f'Shown {VIEW_WIDTH} pixels wide; areas and downloads are of the whole'
            )
        return view_record(kept.result) | {
            'notes': notes,
            'facts': f'{width} × {height} pixels, network {kept.seconds:.2f} s',
            'photo': f'{address}/photo.webp',
            'map': f'{address}/map?{kept.version}',
            'downloads': _downloads(
                address,
                kept.name,
                panoptic_PNG='panoptic.png',
                json='panoptic.json',
                overlay='overlay.png',
            ),
        }

    def file(self, kept: Kept, name: str) -> tuple[bytes, str, dict[str, str]] | None:
        """Make a file of a kept prediction.

        Args:
            kept (Kept): The prediction.
            name (str): Name of the file.

        Returns:
            tuple[bytes, str, dict[str, str]] | None: Content, media type and headers;
            None if there is no such file.
        """
        result, image = kept.result, kept.image
        if result is None or image is None:
            return None
        if name == 'map':
            content = gzip.compress(view_map(result).tobytes(), compresslevel=1)
            return content, 'application/octet-stream', {'Content-Encoding': 'gzip'}
        if name == 'photo.webp':
            photo = shrink(image, VIEW_WIDTH)[..., ::-1]
            return to_webp(np.ascontiguousarray(photo), 85), 'image/webp', {}
        if name == 'panoptic.png':
            return encode_panoptic_png(result.ids), 'image/png', {}
        if name == 'overlay.png':
            drawn = result.draw(image)
            return cv2.imencode('.png', drawn)[1].tobytes(), 'image/png', {}
        if name == 'panoptic.json':
            content = json.dumps(_coco_panoptic(result)).encode()
            return content, 'application/json', {}
        return None

    def sweep(self) -> None:
        """Delete what is no longer needed."""
        self.kept.drop_old()
        oldest = time.time() - KEEP_SECONDS
        for path in (self.folder / 'uploads').rglob('*'):
            with contextlib.suppress(OSError):
                if path.is_file() and path.stat().st_mtime < oldest:
                    path.unlink()


def _problem(text: str) -> dict[str, str]:
    return {'problem': text}


def _downloads(address: str, name: str, **files: str) -> list[dict[str, str]]:
    """Links to the files of a result, named after the image."""
    stem = Path(name).stem
    return [
        {
            'label': label.replace('_', ' '),
            'address': f'{address}/{file}',
            'file': f'{stem}_{file}'
            if label == 'overlay'
            else f'{stem}{Path(file).suffix}',
        }
        for label, file in files.items()
    ]


def _coco_panoptic(result: PanopticResult) -> dict[str, Any]:
    """The json that belongs to the panoptic PNG."""
    height, width = result.shape
    stem = Path(result.name).stem
    image = {'id': stem, 'file_name': result.name, 'width': width, 'height': height}
    annotation = {
        'image_id': stem,
        'file_name': f'{stem}.png',
        'segments_info': result.to_coco(),
    }
    return {
        'images': [image],
        'annotations': [annotation],
        'categories': result.classes.categories(),
    }


class Doorkeeper:
    """Lets through what the page needs, and gives every browser a secret.

    Args:
        app: ASGI application.
    """

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        """Answer a request, or pass it on."""
        if scope['type'] == 'lifespan':
            await self.app(scope, receive, send)
            return
        path = scope['path']
        visitor = visitor_of(dict(scope.get('headers', [])).get(b'cookie', b''))
        needs_visitor = path.startswith(('/gradio_api/', '/results/'))
        if (
            scope['type'] != 'http'
            or not OPEN_PATHS.fullmatch(path)
            or '..' in path
            or (needs_visitor and not visitor)
        ):
            await _refuse(send)
            return
        added = [
            (b'content-security-policy', CONTENT_POLICY.encode()),
            (b'x-content-type-options', b'nosniff'),
            (b'referrer-policy', b'no-referrer'),
        ]
        if path == '/' and not visitor:
            secret = secrets.token_urlsafe(32)
            cookie = f'{VISITOR}={secret}; Path=/; HttpOnly; SameSite=Strict'
            added.append((b'set-cookie', cookie.encode()))

        async def send_more(message: dict) -> None:
            if message['type'] == 'http.response.start':
                message = {**message, 'headers': [*message['headers'], *added]}
            await send(message)

        await self.app(scope, receive, send_more)


async def _refuse(send: Any) -> None:
    headers = [(b'content-type', b'text/plain'), (b'cache-control', b'no-store')]
    await send({'type': 'http.response.start', 'status': 404, 'headers': headers})
    await send({'type': 'http.response.body', 'body': b'There is nothing here.'})


def visitor_of(cookies: bytes) -> str | None:
    """Find the secret of the browser in its cookies.

    Args:
        cookies (bytes): The header.

    Returns:
        str | None: None if it has none, or one that is not of this page.
    """
    jar: SimpleCookie = SimpleCookie()
    with contextlib.suppress(Exception):
        jar.load(cookies.decode('latin-1'))
    value = jar[VISITOR].value if VISITOR in jar else ''
    return value if re.fullmatch(r'[\w-]{43}', value) else None


def build_page(demo: WebDemo, title: str) -> Any:
    """Lay the page out.

    Args:
        demo (WebDemo): What happens in it.
        title (str): Heading.

    Returns:
        gradio.Blocks: The page.
    """
    import gradio as gr

    limits, defaults = demo.limits, demo.inferencer.thresholds

    def predict(path, request: gr.Request, progress=gr.Progress()):  # noqa: B008
        visitor = request.cookies.get(VISITOR)
        token, record = demo.predict(path, visitor, progress)
        shown = gr.skip() if token else json.dumps(record)
        return token, shown, None

    def show(token, score_thr, overlap_thr, min_stuff_area, request: gr.Request):
        thresholds = {
            'score_thr': float(score_thr),
            'overlap_thr': float(overlap_thr),
            'min_stuff_area': int(min_stuff_area),
        }
        record = demo.show(token, request.cookies.get(VISITOR), thresholds)
        return gr.skip() if record is None else json.dumps(record)

    with gr.Blocks(title=title, analytics_enabled=False, fill_width=False) as page:
        gr.Markdown(
            f'# {title}\n'
            f'Drop an image (up to {limits.megapixels:g} megapixels) or a short video '
            f'(up to {limits.video_seconds:g} s), of up to {limits.megabytes:g} MB. '
            'Point at a segment, or tap on it, to see what it is.'
        )
        token = gr.State(None, time_to_live=KEEP_SECONDS)
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                upload = gr.File(
                    label='Image or video',
                    height=130,
                    elem_id='upload',
                )
                view = gr.HTML(
                    value='null',
                    html_template='<div class="segment-view"></div>',
                    css_template=VIEW_STYLE,
                    js_on_load=(
                        f'{VIEW_SCRIPT}\n'
                        "const root = element.querySelector('.segment-view');\n"
                        'const view = new SegmentView(root);\n'
                        "watch('value', () => view.show(JSON.parse(props.value)));"
                    ),
                    apply_default_css=False,
                    elem_id='view',
                )
            with gr.Column(scale=1, min_width=260):
                gr.Markdown(
                    '### Thresholds of the fusion\n'
                    'They work on what the network said: it does not run again.'
                )
                sliders = [
                    gr.Slider(
                        0,
                        1,
                        defaults['score_thr'],
                        step=0.01,
                        label='Score of a thing, at least',
                        elem_id='score_thr',
                    ),
                    gr.Slider(
                        0,
                        1,
                        defaults['overlap_thr'],
                        step=0.01,
                        label='Share of a thing that surer ones may cover, at most',
                        elem_id='overlap_thr',
                    ),
                    gr.Slider(
                        0,
                        max(8192, 4 * int(defaults['min_stuff_area'])),
                        int(defaults['min_stuff_area']),
                        step=16,
                        label='Pixels of a stuff class, at least',
                        elem_id='min_stuff_area',
                    ),
                ]
                reset = gr.Button('As trained', size='sm')
        show_arguments = {
            'fn': show,
            'inputs': [token, *sliders],
            'outputs': view,
            'concurrency_id': 'fusion',
            'concurrency_limit': 1,
            'api_visibility': 'private',
            'show_progress': 'hidden',
        }
        upload.upload(
            predict,
            inputs=upload,
            outputs=[token, view, upload],
            concurrency_id='network',
            concurrency_limit=1,
            api_visibility='private',
            show_progress_on=view,
        ).then(**show_arguments)
        for slider in sliders:
            slider.change(**show_arguments, trigger_mode='always_last')
        reset.click(
            lambda: [defaults[key] for key in THRESHOLDS],
            outputs=sliders,
            api_visibility='private',
            show_progress='hidden',
        )
    page.queue(max_size=WAITING_VISITORS, api_open=False)
    return page


def create_app(
    inferencer: PanopticInferencer,
    folder: str | Path,
    limits: UploadLimits | None = None,
    title: str = 'Panoptic segmentation',
) -> Any:
    """Make the application that a server runs.

    Args:
        inferencer (PanopticInferencer): The network.
        folder (str | Path): Empty folder for uploads and videos.
        limits (UploadLimits, optional): What is taken. Defaults to its defaults.
        title (str): Heading of the page.

    Returns:
        Doorkeeper: ASGI application; its ``demo`` is the :class:`WebDemo`, its ``page``
        Gradio's application.
    """
    folder = Path(folder)
    limits = limits or UploadLimits()
    # Read when Gradio is imported or a page is made.
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    os.environ['GRADIO_TEMP_DIR'] = str(folder / 'uploads')
    import gradio as gr
    from fastapi import FastAPI, HTTPException, Request, Response
    from fastapi.responses import FileResponse

    demo = WebDemo(inferencer, limits, folder)

    @contextlib.asynccontextmanager
    async def lifespan(app):
        stopped = threading.Event()

        def work():
            while not stopped.wait(60):
                demo.sweep()

        threading.Thread(target=work, daemon=True).start()
        yield
        stopped.set()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.get('/results/{token}/{name}')
    def results(token: str, name: str, request: Request) -> Response:
        visitor = visitor_of(request.headers.get('cookie', '').encode('latin-1'))
        kept = demo.kept.get(token, visitor)
        if kept is None:
            raise HTTPException(404)
        private = {'Cache-Control': 'private, no-store'}
        if name == 'video.mp4' and kept.video is not None:
            return FileResponse(kept.video, media_type='video/mp4', headers=private)
        with demo.drawing:
            made = demo.file(kept, name)
        if made is None:
            raise HTTPException(404)
        content, media_type, headers = made
        return Response(content, media_type=media_type, headers=headers | private)

    # Fonts of the system: Gradio's own are fetched.
    theme = gr.themes.Default(
        primary_hue='blue',
        font=['system-ui', 'Segoe UI', 'Roboto', 'DejaVu Sans', 'sans-serif'],
        font_mono=['ui-monospace', 'DejaVu Sans Mono', 'monospace'],
    )
    gr.mount_gradio_app(
        app,
        build_page(demo, title),
        path='/',
        theme=theme,
        css='#view > .html-container { padding: 0; }',
        max_file_size=int(1e6 * limits.megabytes),
        show_error=False,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        allowed_paths=[],
    )
    keeper = Doorkeeper(app)
    keeper.demo = demo
    keeper.page = app.routes[-1].app
    return keeper


def find_model(path: str | Path) -> Path:
    """Find what to predict with.

    Args:
        path (str | Path): An exported ``.onnx``, a checkpoint, or a folder: that of an
            export or of a training run.

    Returns:
        Path: The file.

    Raises:
        FileNotFoundError: If there is none; says what was looked for.
    """
    path = Path(path).expanduser()
    if path.is_file():
        return path
    if not path.is_dir():
        raise FileNotFoundError(
            f'{path} does not exist: give a checkpoint (.pth), an exported model.onnx, '
            'or the folder of one'
        )
    if (path / 'model.onnx').is_file():
        return path / 'model.onnx'
    found = sorted(path.glob('*.pth'), key=lambda file: file.stat().st_mtime)
    if not found:
        raise FileNotFoundError(
            f'there is neither a model.onnx nor a checkpoint (*.pth) in {path}'
        )
    return found[-1]


def make_server(app: Any) -> Any:
    """Prepare the server.

    Args:
        app: Of :func:`create_app`.

    Returns:
        uvicorn.Server: Not yet running.
    """
    import uvicorn

    class PageServer(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            """Tell the open pages, each of which holds a connection."""
            app.page.stop_event.set()
            await super().shutdown(sockets)

    return PageServer(
        uvicorn.Config(
            app, log_level='warning', access_log=False, timeout_graceful_shutdown=2
        )
    )


def serve(app: Any, host: str, port: int) -> None:
    """Serve the page until it is stopped.

    Args:
        app: Of :func:`create_app`.
        host (str): Address to listen on.
        port (int): Port.

    Raises:
        OSError: If that is taken.
    """
    family = socket.AF_INET6 if ':' in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        shown = f'[{host}]' if ':' in host else host
        print(f'\nOpen http://{shown}:{listener.getsockname()[1]}/ (Ctrl+C stops it)')
        make_server(app).run(sockets=[listener])


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    limits = UploadLimits()
    parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
    parser.add_argument(
        '--model',
        required=True,
        help='checkpoint of a training run, exported .onnx, folder with one of them, '
        'or a config or its name, with --weights',
    )
    parser.add_argument('--weights', help='checkpoint, if --model is a config')
    parser.add_argument('--device', help='the GPU if there is one by default')
    parser.add_argument('--precision', default='fp32', choices=['fp32', 'bf16', 'fp16'])
    parser.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to listen on; 0.0.0.0 is for all who reach this machine',
    )
    parser.add_argument('--port', type=int, default=7860)
    parser.add_argument('--title', default='Panoptic segmentation')
    for name, what in (
        ('megabytes', 'size of a file'),
        ('megapixels', 'size of an image'),
        ('video-seconds', 'length of a video'),
        ('video-frames', 'frames of a video'),
    ):
        default = getattr(limits, name.replace('-', '_'))
        parser.add_argument(
            f'--max-{name}',
            type=type(default) if name == 'video-frames' else float,
            default=default,
            help=f'{what} at most, {default:g} by default',
        )
    args = parser.parse_args()
    try:
        import gradio  # noqa: F401
    except ImportError:
        parser.exit(1, 'web_demo.py needs gradio: pip install gradio\n')
    return args


def main() -> None:
    """Run the page."""
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    args = parse_args()
    limits = UploadLimits(
        args.max_megabytes,
        args.max_megapixels,
        args.max_video_seconds,
        args.max_video_frames,
    )
    # Ends as Ctrl+C does, so that no upload is left behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    folder = Path(tempfile.mkdtemp(prefix='panoptic_page_'))
    try:
        model = args.model if args.weights else find_model(args.model)
        inferencer = PanopticInferencer(
            model, args.weights, device=args.device, precision=args.precision
        )
        app = create_app(inferencer, folder, limits, args.title)
        serve(app, args.host, args.port)
    except (CheckpointError, OSError, TypeError, ValueError) as error:
        raise SystemExit(f'web_demo.py: {error}') from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
    main()
