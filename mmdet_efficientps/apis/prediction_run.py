# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A run over a user's images, from the input to files, that can be stopped."""

from __future__ import annotations

import copy
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path, PurePosixPath

import numpy as np
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from mmdet_efficientps.utils import ProblemList, check_output

from .image_inputs import (
    InputImage,
    is_video,
    iterate_files,
    iterate_inputs,
    iterate_video,
    list_images,
)
from .panoptic_inferencer import PanopticInferencer
from .panoptic_result import PanopticResult
from .prediction_folder import PredictionFolder
from .tracking import SegmentTracker
from .video import VideoReader, VideoWriter

# Results that wait to be written: more only take memory.
_WAITING = 4


def predict_to_folder(
    inferencer: PanopticInferencer,
    inputs: str | Path | int,
    out: str | Path,
    overlay: bool = False,
    instances: bool = False,
    track: bool = False,
) -> ProblemList:
    """Predict images or a video and write the results, with a progress bar.

    A run that was stopped goes on: what is in the folder is not predicted again, and
    the outcome is that of a run that was not stopped.

    Args:
        inferencer (PanopticInferencer): The network.
        inputs (str | Path | int): Image, folder, pattern, video, or number of a camera,
            which is filmed until the user interrupts.
        out (str | Path): Folder for the results, see :class:`PredictionFolder`.
        overlay (bool): Whether to draw, for a video as a video. Defaults to False.
        instances (bool): Whether to write all detections. Defaults to False.
        track (bool): Whether things keep a number from frame to frame of a video, or
            from image to image of a folder. Defaults to False.

    Returns:
        ProblemList: Images that could not be predicted, and why.

    Raises:
        FileExistsError: If the folder has complete predictions, or of another run.
        FileNotFoundError: If there is nothing to predict.
        NotADirectoryError: If ``out`` is a file.
        ImportError: If an optional package is missing.
        OSError: If a result cannot be written.
        ValueError: If the folder holds inputs, or the video cannot be read.
    """
    out = Path(out)
    source = _Source(inputs, out)
    check_output(out, source.files, '--out')
    # That of the caller stays as it is.
    inferencer = copy.copy(inferencer)
    inferencer.instances |= instances
    run = f'{inferencer.fingerprint()} {track} {source.identity()}'
    pictures = overlay and source.video is None
    folder = PredictionFolder(out, run, inferencer.classes, pictures, instances)
    tracked = _trackers(source.fps) if track else None
    problems = ProblemList()
    advance: Callable[..., None] | None = None

    def problem(image: InputImage, error: Exception) -> None:
        is_frame = image.path is None or source.video is not None
        problems.add(*_reason(error, image.name if is_frame else image.path))
        if advance is not None:
            advance()

    # What was predicted before is needed where the next image builds on it.
    needed = track or (overlay and source.video is not None)
    results = inferencer.stream_images(
        source.images(lambda name: name in folder and not needed),
        problem,
        known=lambda image: folder.read(image.name),
    )
    with ExitStack() as stack:
        film = None
        if overlay and source.video is not None:
            film = stack.enter_context(_film(source.video, out / 'overlay'))
        write = stack.enter_context(_writing(folder))
        advance = stack.enter_context(show_progress(source.total, len(folder)))
        try:
            for image, result in results:
                if tracked is not None:
                    result = tracked(result)
                if film is not None:
                    film(image, result)
                if image.name not in folder:
                    write(result, image.image)
                    advance()
        except KeyboardInterrupt:
            # A camera has no other end.
            if not source.is_camera:
                raise
    if folder.output.annotations():
        folder.finish()
    return problems


class _Source:
    """Where images come from, and what is known about them beforehand.

    Attributes:
        is_camera (bool): Whether it is a camera.
        video (Path | None): The video, if it is one.
        files (list[Path]): Files that are read.
        fps (float): Images per second, 30 where they have no time.
        total (int | None): Number of images; None if that is not known.
    """

    def __init__(self, inputs: str | Path | int, out: Path) -> None:
        self.is_camera = isinstance(inputs, int)
        self.video: Path | None = None
        self.files: list[Path] = []
        self.fps = 30.0
        self.total: int | None = None
        self._inputs = inputs
        if isinstance(inputs, int):
            return
        if is_video(inputs):
            self.video = Path(inputs)
            reader = VideoReader(self.video)
            self.fps, self.total = float(reader.fps), reader.num_frames
            self.files = [self.video]
            return
        # What a former run has drawn is nothing to predict.
        is_ours = (out / 'panoptic.json').exists() or (out / 'progress').is_dir()
        is_inside = Path(inputs).resolve() in out.resolve().parents
        self._images = list_images(inputs, out if is_ours and is_inside else None)
        self.files = [path for _, path in self._images]
        self.total = len(self.files)

    def identity(self) -> str:
        """Tell inputs apart whose images may have the same names."""
        if isinstance(self._inputs, int):
            # What a camera shows does not come again: no later run goes on with it.
            return f'camera {time.time_ns()}'
        return os.path.abspath(Path(self._inputs).expanduser())

    def images(self, skip: Callable[[str], bool]) -> Iterator[InputImage]:
        """Read the images, but for those that need not be."""
        if self.is_camera:
            yield from iterate_inputs(self._inputs)
        elif self.video is not None:
            yield from iterate_video(self.video, self.video.name, skip)
        else:
            yield from iterate_files(self._images, skip)


def _reason(error: Exception, name: str | Path | None) -> tuple[str, str]:
    """Tell what is wrong, the same for all images it is wrong with, and the image."""
    text = str(error).replace(f'{name} ', '', 1) or type(error).__name__
    return text, str(name)


def _trackers(fps: float) -> Callable[[PanopticResult], PanopticResult]:
    """Track things from image to image; each folder is a sequence of its own."""
    tracker: SegmentTracker | None = None
    folder: PurePosixPath | None = None

    def update(result: PanopticResult) -> PanopticResult:
        nonlocal tracker, folder
        if tracker is None or PurePosixPath(result.name).parent != folder:
            tracker = SegmentTracker(fps)
            folder = PurePosixPath(result.name).parent
        return tracker.update(result)

    return update


@contextmanager
def _film(
    video: Path, folder: Path
) -> Iterator[Callable[[InputImage, PanopticResult], None]]:
    """Draw results into a video with the frame rate and the sound of the given one."""
    name = video.name if video.suffix.lower() == '.mp4' else f'{video.name}.mp4'
    reader = VideoReader(video)
    with VideoWriter(
        folder / name, reader.fps, reader.size, video, reader.pixel_aspect
    ) as writer:

        def write(image: InputImage, result: PanopticResult) -> None:
            if image.image is not None:
                writer.write(result.draw(image.image), image.time)

        yield write


@contextmanager
def _writing(
    folder: PredictionFolder,
) -> Iterator[Callable[[PanopticResult, np.ndarray | None], None]]:
    """Write results in another thread, while the network works on the next image."""
    waiting: deque[Future] = deque()
    with ThreadPoolExecutor(1) as executor:

        def write(result: PanopticResult, image: np.ndarray | None) -> None:
            waiting.append(executor.submit(folder.write, result, image))
            if len(waiting) > _WAITING:
                waiting.popleft().result()

        try:
            yield write
        except BaseException:
            executor.shutdown(cancel_futures=True)
            raise
        for future in waiting:
            future.result()


class _Rate(ProgressColumn):
    """Images per second."""

    def render(self, task: Task) -> Text:
        """Draw the column."""
        speed = task.finished_speed or task.speed
        return Text('' if speed is None else f'{speed:.2f} images/s')


@contextmanager
def show_progress(total: int | None, done: int) -> Iterator[Callable[..., None]]:
    """Show how many images are done, how fast, and how long the rest takes.

    Args:
        total (int | None): Number of images; None if it is not known.
        done (int): How many were done before.

    Yields:
        Callable[..., None]: To call when an image is done, or a number of them.
    """
    columns = (
        TextColumn('{task.description}'),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, speed_estimate_period=60) as progress:
        task = progress.add_task('predicting', total=total, completed=done)
        yield lambda count=1: progress.advance(task, count)
