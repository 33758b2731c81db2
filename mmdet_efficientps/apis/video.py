# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Videos in and out, frame by frame.

Files go through PyAV, which is FFmpeg's libraries in one package (``pip install av``,
no program of that name is needed): OpenCV neither writes what browsers play nor keeps
sound. Frames are held one at a time, whatever the length of the video.
"""

from __future__ import annotations

import heapq
import math
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import cv2
import numpy as np

from mmdet_efficientps.utils.atomic_file import atomic_path

VIDEO_SUFFIXES = (
    *('.mp4', '.m4v', '.mov', '.mkv', '.webm', '.avi', '.mpg', '.mpeg'),
    *('.ts', '.mts', '.m2ts', '.wmv', '.flv', '.3gp', '.ogv'),
)
# For files that do not say how fast they are.
_USUAL_FPS = Fraction(25)
# Ticks per second of what is written, at least: as fine as MPEG's own clock.
_TICKS = 90000
# Sound that begins earlier than this before the first frame is left out. What a
# decoder needs to start with (AAC: 0.05 s) is within it.
_SOUND_LEAD = 0.1


def _import_av() -> ModuleType:
    """Import PyAV, or say how to get it."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            'videos need the package av (PyAV): pip install av'
        ) from error
    return av


@dataclass(frozen=True)
class VideoFrame:
    """A frame of a video, or why it is missing.

    Attributes:
        index (int): Its number in the video, from 0; broken frames count.
        time (float): When it is shown, in seconds from the start of the video.
        image (np.ndarray | None): (H, W, 3), uint8, BGR; None if it is broken.
        problem (str | None): What is wrong, with the name of the file.
    """

    index: int
    time: float
    image: np.ndarray | None
    problem: str | None = None


class VideoReader:
    """The frames of a video file, in the order they are shown.

    Images are turned as the file says (phones film on their side), and have one size
    all along. Iterating again starts again.

    Frames that cannot be decoded are given without an image, so that the numbers of
    the others do not change, and so are those whose errors the decoder conceals. A file
    that is cut off ends with such a frame, which tells how many are missing.

    Args:
        path (str | Path): The file.
        start (int): Frame to begin with. Those before are decoded, which is what it
            takes to count them, but not converted. Defaults to 0.

    Attributes:
        path (Path): The file.
        fps (Fraction): Frames per second, on average; 25 if the file does not say.
        size (tuple[int, int]): Width and height of the images in pixels.
        num_frames (int | None): Frames that the file says it has, which may be wrong;
            None if it does not.
        has_audio (bool): Whether it has sound.
        pixel_aspect (Fraction): Width of a pixel by its height; not 1 in some old
            formats. The images are not scaled by it.

    Raises:
        ImportError: If PyAV is not installed.
        OSError: If there is no such file, or the system refuses to read it.
        ValueError: If it is no video, has no frame that can be decoded, or is cut off
            so that none can be found.
    """

    def __init__(self, path: str | Path, start: int = 0) -> None:
        self.path = Path(path)
        self.start = start
        with _open_input(self.path) as container:
            stream = self._video_stream(container)
            self.fps = Fraction(
                stream.average_rate or stream.guessed_rate or _USUAL_FPS
            ).limit_denominator(100000)
            self.num_frames: int | None = stream.frames or None
            self.has_audio = bool(container.streams.audio)
            frames = (frame for frame, _ in _Decoder(container, stream))
            first = next(
                (f for f in frames if f is not None and not f.is_corrupt), None
            )
            if first is None:
                raise ValueError(
                    f'{path} has no frame that can be decoded: it is empty or damaged, '
                    'copy or export it again'
                )
            self._decoded_size = first.width, first.height
            self._matrix = _display_matrix(first)
            aspect = stream.sample_aspect_ratio or Fraction(1)
            turned = self._matrix[0, 0] == 0
            self.size = self._decoded_size[::-1] if turned else self._decoded_size
            self.pixel_aspect = 1 / aspect if turned else aspect

    def __iter__(self) -> Iterator[VideoFrame]:
        """Go through the frames from ``start``.

        Yields:
            VideoFrame: Each frame.
        """
        with _open_input(self.path) as container:
            stream = self._video_stream(container)
            origin = _start_of(stream)
            index = 0
            decoder = _Decoder(container, stream)
            for frame, time in decoder:
                seconds = float(index / self.fps if time is None else time - origin)
                if index >= self.start:
                    yield self._give(index, seconds, frame)
                index += 1
            missing = decoder.seconds_missing * self.fps
            # One frame is within what containers round, unless reading failed.
            if round(missing) > 1 or decoder.failed:
                number = f'about {round(missing)}' if missing > 0.5 else 'the other'
                yield VideoFrame(
                    index,
                    float(index / self.fps),
                    None,
                    f'{self.path} is cut off after frame {index - 1}: {number} frames '
                    'are missing',
                )

    def _give(self, index: int, time: float, frame: Any) -> VideoFrame:
        """Make an upright image of a decoded frame."""
        if frame is None or frame.is_corrupt:
            problem = f'frame {index} of {self.path} is broken'
            return VideoFrame(index, time, None, problem)
        width, height = self._decoded_size
        image = frame.to_ndarray(format='bgr24', width=width, height=height)
        return VideoFrame(index, time, _turn(image, self._matrix))

    def _video_stream(self, container: Any) -> Any:
        """Choose what to decode."""
        stream = container.streams.best('video')
        if stream is None:
            raise ValueError(f'{self.path} has no pictures, give a video')
        if stream.codec_context is None:
            raise ValueError(
                f'{self.path} is of a kind that PyAV has no decoder for: convert it, '
                'for instance with ffmpeg -i IN OUT.mp4'
            )
        return stream


def _open_input(path: Path) -> Any:
    """Open a file with PyAV."""
    av = _import_av()
    if not path.is_file():
        raise FileNotFoundError(f'{path} is no file: give the path of a video')
    try:
        return av.open(str(path))
    except PermissionError:
        raise
    except av.error.FFmpegError as error:
        raise ValueError(
            f'{path} cannot be read as a video ({error.strerror}): it is something '
            'else, or was cut off while it was recorded or copied; copy or export it '
            'again'
        ) from error


def _start_of(stream: Any) -> Fraction:
    """When the pictures begin, in seconds on the clock of the file."""
    return Fraction((stream.start_time or 0) * stream.time_base)


class _Decoder:
    """Decodes a stream in the order of display, and keeps account of what is missing.

    Every packet announces the time of a frame. Where the decoder complained, and a
    frame that was announced for before the present one never came, it is broken.
    Without a complaint there was none: some packets hold half a frame, or one that is
    never shown.

    Args:
        container (av.container.InputContainer): The open file.
        stream (av.VideoStream): Its pictures.

    Attributes:
        failed (bool): Whether the file could not be read to its end.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.container = container
        self.stream = stream
        self.failed = False
        self._end: int | None = None
        # A decoder that works ahead on several frames drops good ones next to a broken
        # one at the end of a file, and is no faster than the conversion to BGR.
        stream.thread_type = 'SLICE'
        self._announced: list[int] = []
        self._complaints = 0

    def __iter__(self) -> Iterator[tuple[Any, Fraction | None]]:
        """Go through the frames.

        Yields:
            tuple[av.VideoFrame | None, Fraction | None]: Frame, None if it is broken,
            and its time in seconds on the clock of the file, None if it is not known.
        """
        av = _import_av()
        try:
            for packet in self.container.demux(self.stream):
                begin = packet.dts if packet.pts is None else packet.pts
                if begin is not None:
                    end = begin + (packet.duration or 0)
                    self._end = end if self._end is None else max(self._end, end)
                if packet.pts is not None and not packet.is_discard:
                    heapq.heappush(self._announced, packet.pts)
                try:
                    frames = packet.decode()
                except av.error.FFmpegError:
                    frames = []
                    if packet.size and packet.pts is None:
                        yield None, None
                    else:
                        self._complaints += 1
                for frame in frames:
                    yield from self._broken(frame.pts)
                    yield frame, self._seconds(frame.pts)
        except av.error.FFmpegError:
            self.failed = True
        yield from self._broken(None)

    @property
    def seconds_missing(self) -> Fraction:
        """How much the file, once it is read, has given less than it promised."""
        if self._end is None or self.stream.duration is None:
            return Fraction(0)
        promised = (self.stream.start_time or 0) + self.stream.duration
        return Fraction((promised - self._end) * self.stream.time_base)

    def _broken(self, before: int | None) -> Iterator[tuple[None, Fraction | None]]:
        """Go through the frames that should have come.

        Args:
            before (int | None): Time of the frame that came, in ticks. None at the end.
        """
        if before is None and self._announced:
            before = 1 + max(self._announced)
        missing = []
        while before is not None and self._announced and self._announced[0] <= before:
            announced = heapq.heappop(self._announced)
            if announced < before:
                missing.append(announced)
        if missing and self._complaints:
            yield from ((None, self._seconds(pts)) for pts in missing)
            self._complaints = 0

    def _seconds(self, pts: int | None) -> Fraction | None:
        """Convert ticks."""
        return None if pts is None else Fraction(pts * self.stream.time_base)


def _display_matrix(frame: Any) -> np.ndarray:
    """Read how a frame is to be turned or mirrored.

    Returns:
        np.ndarray: (2, 2), int, one of -1 and 1 in each row and column: a point (x, y)
        is shown at (x, y) times the matrix, x to the right, y down.
    """
    data = frame.side_data.get('DISPLAYMATRIX')
    if data is None:
        return np.eye(2, dtype=int)
    # Nine numbers by rows; the upper left 2x2 are in units of 1 / 65536.
    matrix = np.frombuffer(bytes(data), dtype=np.int32).reshape(3, 3)[:2, :2]
    matrix = matrix.astype(int)
    # A file could say any angle; the nearest quarter turn is taken.
    if abs(matrix[0, 0]) >= abs(matrix[1, 0]):
        matrix = np.diag(np.diag(matrix))
    else:
        matrix = matrix - np.diag(np.diag(matrix))
    return np.sign(matrix)


def _turn(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Apply what :func:`_display_matrix` gives to an image."""
    if matrix[0, 0] == 0:
        image = image.transpose(1, 0, 2)
    # What moves x is now in column 0, what moves y in column 1.
    flip_x, flip_y = matrix.sum(axis=0) < 0
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


class CameraReader:
    """The frames of a camera, until it is unplugged or nobody asks for more.

    Args:
        index (int): Number of the camera, from 0, as the system counts them.

    Attributes:
        fps (Fraction): Frames per second that the camera promises; 25 if it does not.
        size (tuple[int, int]): Width and height in pixels.

    Raises:
        ValueError: If there is no such camera, or it cannot be opened.
    """

    def __init__(self, index: int) -> None:
        self._capture = cv2.VideoCapture(index)
        if not self._capture.isOpened():
            raise ValueError(
                f'camera {index} cannot be opened: there is none of this number, '
                'another program uses it, or you may not (on Linux it is '
                f'/dev/video{index}, and your user must be in the group video)'
            )
        self.index = index
        self.fps = Fraction(
            self._capture.get(cv2.CAP_PROP_FPS) or _USUAL_FPS
        ).limit_denominator(1001)
        self.size = (
            int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )

    def __iter__(self) -> Iterator[VideoFrame]:
        """Go through the frames; the camera is free again when this ends.

        Yields:
            VideoFrame: Each frame; its time is what ``fps`` makes of its number.
        """
        index = 0
        try:
            while True:
                there, image = self._capture.read()
                if not there:
                    return
                yield VideoFrame(index, float(index / self.fps), image)
                index += 1
        finally:
            self._capture.release()


class VideoWriter:
    """Writes an mp4 that browsers play: H.264, 4:2:0, index in front.

    The file has its name only when it is complete: :meth:`close` gives it, which
    ``with`` does unless there was an error. Of a run that is killed, only a hidden
    temporary file is left. A video cannot be appended to: it is drawn again, from
    results that were stored frame by frame.

    H.264 in 4:2:0 has an even width and height: of an odd image the last column or row
    is doubled.

    Example::

        reader = VideoReader('in.mov')
        with VideoWriter('out.mp4', reader.fps, reader.size, 'in.mov') as writer:
            for frame in reader:
                writer.write(draw(frame.image), frame.time)

    Args:
        path (str | Path): File to write, ``.mp4``.
        fps (Fraction | float): Frames per second.
        size (tuple[int, int]): Width and height of the images in pixels.
        audio_from (str | Path, optional): Video whose sound is copied, as it is. A
            warning tells where an mp4 cannot hold it, and there is none then. Defaults
            to None.
        pixel_aspect (Fraction | int): Width of a pixel by its height. Defaults to 1.

    Raises:
        ImportError: If PyAV is not installed.
        OSError: If the file cannot be written, for instance because the disk is full;
            :meth:`write` and :meth:`close` raise it, too.
        ValueError: If the name does not end in .mp4.
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction | float,
        size: tuple[int, int],
        audio_from: str | Path | None = None,
        pixel_aspect: Fraction | int = 1,
    ) -> None:
        self._av = _import_av()
        self.path = Path(path)
        if self.path.suffix.lower() != '.mp4':
            raise ValueError(f'{path}: videos are written as .mp4, name it so')
        self.fps = Fraction(fps).limit_denominator(100000)
        self.size = size
        self.num_frames = 0
        width, height = (length + length % 2 for length in size)
        with ExitStack() as stack:
            temporary = stack.enter_context(atomic_path(self.path))
            self._container = self._av.open(
                str(temporary), 'w', options={'movflags': 'faststart'}
            )
            stack.callback(self._abandon)
            # Its number of frames to look ahead, and so its memory, is that of
            # "veryfast"; the other options are those that x264 recommends.
            self._stream = self._container.add_stream(
                'libx264', rate=self.fps, options={'preset': 'veryfast', 'crf': '20'}
            )
            self._stream.width, self._stream.height = width, height
            self._stream.pix_fmt = 'yuv420p'
            codec = self._stream.codec_context
            codec.sample_aspect_ratio = Fraction(pixel_aspect)
            # The clock: a whole number of ticks for a frame of the average rate, and
            # fine enough for those that come at other times.
            ticks = math.ceil(Fraction(_TICKS, self.fps.numerator))
            codec.time_base = Fraction(1, self.fps.numerator * ticks)
            # Said in the file, so that no player guesses: BT.709, limited range.
            codec.colorspace = codec.color_primaries = codec.color_trc = 1
            codec.color_range = 1
            self._last_tick = -1
            self._sound: Iterator[tuple[float, Any]] = iter(())
            self._sound_packet: tuple[float, Any] | None = None
            if audio_from is not None:
                self._sound = self._open_sound(Path(audio_from), stack)
            self._sound_packet = next(self._sound, None)
            self._stack = stack.pop_all()

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Add a frame.

        Args:
            image (np.ndarray): (H, W, 3), uint8, BGR.
            time (float, optional): When it is shown, in seconds from the start, later
                than all before. Defaults to None: by its number and the frame rate.

        Raises:
            OSError: If the disk is full.
            ValueError: If the image has another size than the video.
        """
        width, height = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise ValueError(
                f'frame {self.num_frames} for {self.path} is {image.shape} '
                f'{image.dtype}: the video was begun with {(height, width, 3)} uint8'
            )
        if width % 2 or height % 2:
            image = cv2.copyMakeBorder(
                image, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE
            )
        frame = self._av.VideoFrame.from_ndarray(
            np.ascontiguousarray(image), format='bgr24'
        ).reformat(format='yuv420p', dst_colorspace='ITU709', dst_color_range='MPEG')
        clock = self._stream.codec_context.time_base
        frame.pts = max(self._tick(time), self._last_tick + 1)
        frame.time_base = clock
        self._last_tick = frame.pts
        self._container.mux(self._stream.encode(frame))
        self.num_frames += 1
        self._copy_sound(float(frame.pts * clock))

    def _tick(self, time: float | None) -> int:
        """Convert a time to ticks of the clock."""
        per_frame = 1 / (self.fps * self._stream.codec_context.time_base)
        number: Fraction | float = self.num_frames
        if time is not None:
            number = time * float(self.fps)
            # Some containers count in milliseconds: an even rate is not to jitter.
            if abs(round(number) - number) < 0.001 * self.fps:
                number = round(number)
        return round(number * per_frame)

    def close(self) -> None:
        """Complete the file and give it its name.

        Raises:
            OSError: If the disk is full.
            ValueError: If no frame was written.
        """
        with self._stack:
            if not self.num_frames:
                raise ValueError(f'{self.path} would be a video without a frame')
            self._container.mux(self._stream.encode())
            clock = self._stream.codec_context.time_base
            self._copy_sound(float(self._last_tick * clock + 1 / self.fps))
            self._container.close()

    def __enter__(self) -> VideoWriter:
        """Begin to write."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Complete the file, or leave none if there was an error."""
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, traceback)

    def _abandon(self) -> None:
        """Close the file on the way out; nothing is to be said of it any more."""
        with suppress(self._av.error.FFmpegError):
            self._container.close()

    def _open_sound(
        self, source: Path, stack: ExitStack
    ) -> Iterator[tuple[float, Any]]:
        """Prepare to copy the sound of another file.

        Args:
            source (Path): The file.
            stack (ExitStack): Closes it.

        Returns:
            Iterator[tuple[float, av.Packet]]: Seconds from the start, and packet.
        """
        container = stack.enter_context(_open_input(source))
        sound, pictures = (container.streams.best(k) for k in ('audio', 'video'))
        if sound is None:
            return iter(())
        decoder = sound.codec_context
        codec = decoder.codec.canonical_name if decoder else 'a format unknown to PyAV'
        # A format has one name, its decoders may have others: "dca" decodes "dts".
        names = {codec, decoder.codec.name} if decoder else {codec}
        if not names & self._container.supported_codecs:
            warnings.warn(
                f'{self.path} has no sound: an mp4 cannot hold {codec}, which is that '
                f'of {source}',
                stacklevel=3,
            )
            return iter(())
        target = self._container.add_stream_from_template(sound)
        origin = Fraction(0) if pictures is None else _start_of(pictures)
        return self._sound_packets(container, sound, target, origin)

    def _sound_packets(
        self, container: Any, sound: Any, target: Any, origin: Fraction
    ) -> Iterator[tuple[float, Any]]:
        """Go through the sound on the clock of the pictures."""
        shift = round(origin / sound.time_base)
        try:
            for packet in container.demux(sound):
                if packet.dts is None or packet.pts is None:
                    continue
                packet.pts -= shift
                packet.dts -= shift
                packet.stream = target
                time = float(packet.pts * sound.time_base)
                if time >= -_SOUND_LEAD:
                    yield time, packet
        except self._av.error.FFmpegError as error:
            warnings.warn(
                f'the sound of {self.path} ends early: that of {container.name} cannot '
                f'be read on ({error.strerror})',
                stacklevel=2,
            )

    def _copy_sound(self, until: float) -> None:
        """Copy the sound up to a time, in seconds, and no more: it would be held."""
        while self._sound_packet is not None and self._sound_packet[0] < until:
            time, packet = self._sound_packet
            try:
                self._container.mux(packet)
            # Invalid data and arguments are ValueErrors; a full disk is not.
            except ValueError as error:
                warnings.warn(
                    f'the sound of {self.path} ends after {time:.2f} s: what follows '
                    f'in the source is damaged ({error})',
                    stacklevel=3,
                )
                self._sound = iter(())
            self._sound_packet = next(self._sound, None)
