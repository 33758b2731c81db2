# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import subprocess
import sys
import textwrap
from fractions import Fraction

import cv2
import numpy as np
import pytest

from mmdet_efficientps.apis.video import (
    CameraReader,
    VideoReader,
    VideoWriter,
)

if importlib.util.find_spec('av') is None:
    pytest.skip('needs PyAV: pip install av', allow_module_level=True)

import av  # noqa: E402

NTSC = Fraction(30000, 1001)
WIDTH, HEIGHT = 64, 48


def frame_image(index, size=(WIDTH, HEIGHT)):
    """Gray that tells the number; red above left, blue below right."""
    width, height = size
    image = np.full((height, width, 3), 20 + 15 * (index % 14), dtype=np.uint8)
    image[:16, :16] = 0, 0, 200
    image[-16:, -16:] = 200, 0, 0
    return image


def number_of(image):
    return round((float(image[18:30, 20:40].mean()) - 20) / 15)


@pytest.fixture
def write_source(tmp_path):
    """Write a video with PyAV alone; sound is a sine of 440 Hz."""

    def write(
        name='in.mp4',
        num_frames=12,
        fps=NTSC,
        size=(WIDTH, HEIGHT),
        codec='libx264',
        pix_fmt='yuv420p',
        sound=None,
        rotation=None,
        times=None,
        options=None,
        container_options=None,
    ):
        path = tmp_path / name
        with av.open(str(path), 'w', options=container_options or {}) as container:
            stream = container.add_stream(codec, rate=fps, options=options or {})
            stream.width, stream.height = size
            stream.pix_fmt = pix_fmt
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if rotation is not None:
                stream.set_display_rotation(*rotation)
            audio = sound and container.add_stream(sound, rate=48000)
            for index in range(num_frames):
                frame = av.VideoFrame.from_ndarray(
                    frame_image(index, size), format='bgr24'
                )
                if times is not None:
                    frame.pts = times[index]
                    frame.time_base = Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
            if audio:
                seconds = np.arange(round(48000 * num_frames / fps)) / 48000
                wave = (8000 * np.sin(2 * np.pi * 440 * seconds)).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(
                    np.repeat(wave, 2)[None], format='s16', layout='stereo'
                )
                frame.sample_rate = 48000
                frame.pts = 0
                container.mux(audio.encode(frame))
                container.mux(audio.encode())
        return path

    return write


def copy(source, path, **kwargs):
    reader = VideoReader(source)
    with VideoWriter(path, reader.fps, reader.size, source, **kwargs) as writer:
        for frame in reader:
            writer.write(frame.image, frame.time)
    return path


def sound_of(path):
    """Compressed sound, and when it begins and ends after decoding, in seconds."""
    with av.open(str(path)) as container:
        packets = [bytes(p) for p in container.demux(audio=0) if p.size]
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    first, last = frames[0], frames[-1]
    end = last.time + last.samples / last.sample_rate
    return packets, first.time, end


# --- reading


def test_frames_come_in_order_with_number_and_time(write_source):
    reader = VideoReader(write_source())
    assert (reader.fps, reader.size, reader.num_frames) == (NTSC, (WIDTH, HEIGHT), 12)
    assert not reader.has_audio
    frames = list(reader)
    assert [number_of(frame.image) for frame in frames] == list(range(12))
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame.time for frame in frames] == pytest.approx(
        [float(k / NTSC) for k in range(12)], abs=1e-4
    )
    image = frames[0].image
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    # Red is the third channel.
    assert image[8, 8].tolist() == pytest.approx([0, 0, 200], abs=12)
    # Again from the start.
    assert len(list(reader)) == 12


def test_goes_on_from_a_frame(write_source):
    path = write_source()
    rest = list(VideoReader(path, start=7))
    assert [frame.index for frame in rest] == [7, 8, 9, 10, 11]
    for ours, whole in zip(rest, list(VideoReader(path))[7:], strict=True):
        assert ours.time == whole.time
        np.testing.assert_array_equal(ours.image, whole.image)


@pytest.mark.parametrize(
    'case',
    [
        dict(name='in.webm', codec='libvpx', options={'auto-alt-ref': '1'}),
        dict(name='in.webm', codec='libvpx-vp9', fps=Fraction(25)),
        dict(name='in.avi', codec='mpeg4', fps=Fraction(25)),
        dict(name='in.avi', codec='libx264'),
        dict(name='in.mkv', codec='ffv1', pix_fmt='yuv444p'),
        dict(name='in.ts', codec='libx264', sound='aac'),
        dict(name='in.mpg', codec='mpeg2video', sound='mp2'),
        dict(name='in.mov', codec='mjpeg', pix_fmt='yuvj420p'),
        dict(name='in.mp4', pix_fmt='yuv420p10le'),
    ],
    ids=lambda case: f'{case["name"]}-{case.get("codec", "10bit")}',
)
def test_reads_what_people_have(write_source, case):
    reader = VideoReader(write_source(num_frames=14, **case))
    frames = list(reader)
    assert [frame.problem for frame in frames] == [None] * 14
    assert [number_of(frame.image) for frame in frames] == list(range(14))
    # An AVI tells when frames are decoded, not when they are shown.
    late = 1 / float(NTSC) if case['name'].endswith('avi') else 0
    assert -1e-3 < frames[0].time < late + 1e-3
    assert float(reader.fps) == pytest.approx(float(case.get('fps', NTSC)), rel=1e-3)


@pytest.mark.parametrize('degrees', [0, 90, 180, -90])
@pytest.mark.parametrize('mirrored', [False, True])
def test_images_are_upright(write_source, degrees, mirrored):
    plain = next(iter(VideoReader(write_source('plain.mp4'))))
    reader = VideoReader(write_source('turned.mp4', rotation=(degrees, mirrored)))
    image = next(iter(reader)).image
    assert reader.size == image.shape[1::-1]
    # PyAV and FFmpeg count degrees counterclockwise, as numpy does.
    expected = np.rot90(plain.image, degrees // 90)
    with av.open(str(reader.path)) as container:
        rotation = next(container.decode(video=0)).rotation
    if not mirrored:
        assert rotation % 360 == degrees % 360
        np.testing.assert_array_equal(image, expected)
    else:
        # Mirrored is mirrored: no turn makes it equal to the plain one.
        assert not any(
            np.array_equal(np.rot90(image, k), plain.image) for k in range(4)
        )
        assert any(
            np.array_equal(np.rot90(image, k), plain.image[:, ::-1]) for k in range(4)
        )


def spoil(path, number, part=None):
    """Overwrite the data of a frame, in the order of the file."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        place, size = packets[number].pos, packets[number].size
    data = bytearray(path.read_bytes())
    first, last = (0, size) if part is None else (size // part, size)
    data[place + first : place + last] = b'\xff' * (last - first)
    path.write_bytes(data)


@pytest.mark.parametrize('number', [5, 11])
@pytest.mark.parametrize('options', [{'bf': '0'}, {'bf': '2'}], ids=str)
def test_a_broken_frame_is_not_the_end(write_source, number, options):
    path = write_source(options=options | {'g': '1'})
    spoil(path, number)
    frames = list(VideoReader(path))
    assert [frame.index for frame in frames] == list(range(12))
    assert [k for k, frame in enumerate(frames) if frame.image is None] == [number]
    assert frames[number].problem == f'frame {number} of {path} is broken'
    for frame in frames:
        assert frame.time == pytest.approx(float(frame.index / NTSC), abs=1e-4)
        if frame.problem is None:
            assert number_of(frame.image) == frame.index


def test_numbers_hold_behind_a_broken_frame_that_others_build_on(write_source):
    path = write_source(num_frames=14, options={'bf': '2', 'g': '6'})
    spoil(path, 2)
    frames = list(VideoReader(path))
    assert [frame.index for frame in frames] == list(range(14))
    broken = [frame.index for frame in frames if frame.image is None]
    assert broken
    assert max(broken) < 6
    assert [number_of(frame.image) for frame in frames[6:]] == list(range(6, 14))


def test_concealed_errors_are_told(write_source):
    path = write_source(size=(320, 240), options={'g': '1', 'crf': '1'})
    spoil(path, 4, part=2)
    broken = [frame.index for frame in VideoReader(path) if frame.problem]
    assert broken == [4]


def test_a_video_that_is_cut_off_gives_what_it_has(write_source):
    path = write_source(
        num_frames=14, options={'g': '1'}, container_options={'movflags': 'faststart'}
    )
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
    path.write_bytes(path.read_bytes()[: packets[9].pos])
    *frames, last = VideoReader(path)
    assert [number_of(frame.image) for frame in frames] == list(range(9))
    assert (last.index, last.image) == (9, None)
    assert last.problem == (
        f'{path} is cut off after frame 8: about 5 frames are missing'
    )


def test_a_video_without_index_is_refused(write_source):
    path = write_source()
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b'moov') - 4])
    with pytest.raises(ValueError, match='in.mp4 cannot be read as a video .* export'):
        VideoReader(path)


def test_what_is_no_video_is_refused(tmp_path, write_source):
    with pytest.raises(FileNotFoundError, match='none.mp4'):
        VideoReader(tmp_path / 'none.mp4')
    (tmp_path / 'empty.mp4').touch()
    with pytest.raises(ValueError, match='empty.mp4 cannot be read'):
        VideoReader(tmp_path / 'empty.mp4')
    with av.open(str(tmp_path / 'sound.mp4'), 'w') as container:
        stream = container.add_stream('aac', rate=48000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), 's16')
        silence.sample_rate = 48000
        container.mux(stream.encode(silence))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match='sound.mp4 has no pictures'):
        VideoReader(tmp_path / 'sound.mp4')
    path = write_source('all.mp4', num_frames=2, options={'g': '1'})
    spoil(path, 0)
    spoil(path, 1)
    with pytest.raises(ValueError, match='all.mp4 has no frame that can be decoded'):
        VideoReader(path)


def test_a_camera_that_is_not_there(capfd):
    with pytest.raises(ValueError, match='camera 97 cannot be opened'):
        CameraReader(97)


def test_a_camera_is_read_and_freed(write_source, monkeypatch):
    source = cv2.VideoCapture(str(write_source()))
    monkeypatch.setattr(cv2, 'VideoCapture', lambda index: source)
    reader = CameraReader(0)
    assert reader.size == (WIDTH, HEIGHT)
    assert float(reader.fps) == pytest.approx(float(NTSC), rel=1e-3)
    assert [number_of(frame.image) for frame in reader] == list(range(12))
    assert not source.isOpened()


# --- writing


@pytest.mark.parametrize('fps', [NTSC, Fraction(24000, 1001), Fraction(25), 7.5])
def test_writes_what_browsers_play(tmp_path, fps):
    path = tmp_path / 'new' / 'out.mp4'
    with VideoWriter(path, fps, (WIDTH, HEIGHT)) as writer:
        for index in range(12):
            writer.write(frame_image(index))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.codec.canonical_name, stream.pix_fmt) == ('h264', 'yuv420p')
        assert (stream.frames, stream.average_rate) == (12, Fraction(fps))
        assert stream.start_time == 0
        assert float(stream.duration * stream.time_base) == pytest.approx(12 / fps)
        images = [f.to_ndarray(format='bgr24') for f in container.decode(stream)]
    assert [number_of(image) for image in images] == list(range(12))
    data = path.read_bytes()
    assert data.index(b'moov') < data.index(b'mdat')
    assert [file.name for file in path.parent.iterdir()] == ['out.mp4']


def test_colors_survive(tmp_path):
    colors = [(200, 30, 60), (30, 180, 40), (20, 60, 210), (142, 0, 0), (250, 250, 250)]
    path = tmp_path / 'out.mp4'
    with VideoWriter(path, 10, (32, 32)) as writer:
        for color in colors:
            writer.write(np.full((32, 32, 3), color, dtype=np.uint8))
    for frame, color in zip(VideoReader(path), colors, strict=True):
        assert frame.image[16, 16].tolist() == pytest.approx(color, abs=6)


def test_colors_are_those_of_bt709_and_said_to_be(tmp_path):
    path = tmp_path / 'out.mp4'
    with VideoWriter(path, 10, (32, 32)) as writer:
        writer.write(np.full((32, 32, 3), (0, 0, 200), dtype=np.uint8))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    planes = frame.to_ndarray(format='yuv420p')
    # Rec. ITU-R BT.709, 8 bits: luma in 16..235, chroma in 16..240.
    luma = 0.2126 * 200 / 255
    assert planes[16, 16] == pytest.approx(16 + 219 * luma, abs=2)
    chroma = 224 * (200 / 255 - luma) / 1.5748
    assert planes[-4, 8] == pytest.approx(128 + chroma, abs=2)
    assert (frame.colorspace, frame.color_range) == (1, 1)


def test_times_are_kept(write_source, tmp_path):
    times = [0, 30, 100, 110, 200, 500, 533, 566, 700, 701, 900, 1000]
    source = write_source(times=times, fps=Fraction(30))
    copied = VideoReader(copy(source, tmp_path / 'out.mp4'))
    assert [frame.time for frame in copied] == pytest.approx(
        [t / 1000 for t in times], abs=1e-3
    )


def test_milliseconds_of_webm_do_not_jitter(write_source, tmp_path):
    source = write_source('in.webm', codec='libvpx', fps=Fraction(30))
    copied = VideoReader(copy(source, tmp_path / 'out.mp4'))
    assert copied.fps == 30
    assert [frame.time for frame in copied] == [k / 30 for k in range(12)]


@pytest.mark.parametrize('size', [(63, 48), (64, 47), (63, 47)])
def test_the_last_line_of_an_odd_image_is_doubled(tmp_path, size):
    path = tmp_path / 'out.mp4'
    image = frame_image(3, size)
    with VideoWriter(path, 10, size) as writer:
        writer.write(image)
    (frame,) = VideoReader(path)
    assert frame.image.shape == (48, 64, 3)
    assert np.abs(frame.image[: size[1], : size[0]].astype(int) - image).mean() < 6
    assert frame.image[-1, -1].tolist() == pytest.approx([200, 0, 0], abs=25)


@pytest.mark.parametrize(
    ('name', 'sound'),
    [('in.mp4', 'aac'), ('in.mkv', 'libmp3lame'), ('in.webm', 'libopus')],
)
def test_sound_is_kept(write_source, tmp_path, name, sound):
    codec = 'libvpx' if name.endswith('webm') else 'libx264'
    source = write_source(name, 30, sound=sound, codec=codec)
    assert VideoReader(source).has_audio
    path = copy(source, tmp_path / 'out.mp4')
    theirs, *times = sound_of(source)
    ours, *our_times = sound_of(path)
    assert len(ours) > 30
    # The last packet may reach beyond the pictures.
    assert ours == theirs[: len(ours)]
    assert our_times == pytest.approx(times, abs=0.03)


def test_sound_stays_with_the_pictures(write_source, tmp_path):
    # A transport stream begins at 1.4 seconds.
    source = write_source('in.ts', 30, sound='aac')
    with av.open(str(source)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert video.start_time > 0
        lag = audio.start_time * audio.time_base - video.start_time * video.time_base
    path = copy(source, tmp_path / 'out.mp4')
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert float(video.start_time * video.time_base) == pytest.approx(0, abs=1e-3)
        ours = audio.start_time * audio.time_base - video.start_time * video.time_base
    assert float(ours) == pytest.approx(max(float(lag), 0), abs=0.03)


def test_sound_ends_with_the_pictures(write_source, tmp_path):
    source = write_source(num_frames=60, fps=Fraction(30), sound='aac')
    with VideoWriter(tmp_path / 'out.mp4', 30, (WIDTH, HEIGHT), source) as writer:
        for index in range(30):
            writer.write(frame_image(index))
    _, begin, end = sound_of(tmp_path / 'out.mp4')
    assert (begin, end) == pytest.approx((0, 1), abs=0.03)


def test_sound_that_mp4_cannot_hold_is_left_out(write_source, tmp_path):
    source = write_source('in.avi', sound='pcm_mulaw')
    with pytest.warns(UserWarning, match='no sound: an mp4 cannot hold pcm_mulaw'):
        path = copy(source, tmp_path / 'out.mp4')
    reader = VideoReader(path)
    assert not reader.has_audio
    assert len(list(reader)) == 12


def test_frames_of_another_size_are_refused(tmp_path):
    with (
        pytest.raises(ValueError, match=r'frame 0 for .*out.mp4 is \(48, 48, 3\)'),
        VideoWriter(tmp_path / 'out.mp4', 10, (WIDTH, HEIGHT)) as writer,
    ):
        writer.write(np.zeros((48, 48, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


def test_a_video_without_frames_is_not_written(tmp_path):
    with (
        pytest.raises(ValueError, match='without a frame'),
        VideoWriter(tmp_path / 'out.mp4', 10, (WIDTH, HEIGHT)),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match='name it so'):
        VideoWriter(tmp_path / 'out.avi', 10, (WIDTH, HEIGHT))


def test_an_error_leaves_the_former_file(tmp_path):
    path = tmp_path / 'out.mp4'
    path.write_bytes(b'former')

    def fail():
        with VideoWriter(path, 10, (WIDTH, HEIGHT)) as writer:
            writer.write(frame_image(0))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert path.read_bytes() == b'former'
    assert list(tmp_path.iterdir()) == [path]


def run_writer(folder, text):
    """Write noise in another process."""
    program = textwrap.dedent(
        """
        import resource, signal, sys
        import numpy as np
        from mmdet_efficientps.apis.video import VideoWriter
        rng = np.random.default_rng(0)
        def write(count):
            with VideoWriter(sys.argv[1] + '/out.mp4', 10, (320, 240)) as writer:
                for _ in range(count):
                    writer.write(rng.integers(0, 256, (240, 320, 3), dtype=np.uint8))
        """
    )
    return subprocess.Popen(
        [sys.executable, '-c', program + textwrap.dedent(text), str(folder)],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_full_disk_leaves_nothing(tmp_path):
    # What may be written is limited: the system refuses the rest, as a full disk does.
    # Once it is full at once, once while frames are written.
    process = run_writer(
        tmp_path,
        """
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        for limit in (10_000, 1_000_000):
            resource.setrlimit(
                resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)
            )
            try:
                write(40)
            except OSError as error:
                print(error.strerror)
        """,
    )
    out, err = process.communicate(timeout=240)
    assert out.splitlines() == ['File too large'] * 2, err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_killed_run_leaves_no_video(tmp_path):
    process = run_writer(
        tmp_path,
        """
        print('ready', flush=True)
        write(100000)
        """,
    )
    try:
        assert process.stdout.readline() == 'ready\n'
        while not any(path.stat().st_size for path in tmp_path.iterdir()):
            assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert [path.name[0] for path in tmp_path.iterdir()] == ['.']


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    program = textwrap.dedent(
        """
        import sys
        import numpy as np
        import psutil
        from mmdet_efficientps.apis.video import VideoReader, VideoWriter
        out, process, sizes = sys.argv[1], psutil.Process(), []
        with VideoWriter(out + '/a.mp4', 30, (640, 360)) as writer:
            image = np.zeros((360, 640, 3), np.uint8)
            for k in range(600):
                image[:, k:k + 30] = k % 255
                writer.write(image)
                sizes.append(process.memory_info().rss)
        print(max(sizes[500:]) - max(sizes[100:200]))
        sizes = []
        for frame in VideoReader(out + '/a.mp4'):
            sizes.append(process.memory_info().rss)
        print(max(sizes[500:]) - max(sizes[100:200]))
        """
    )
    run = subprocess.run(
        [sys.executable, '-c', program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    # A frame is 0.7 MB: three hundred held would be 200.
    written, read = map(int, run.stdout.split())
    assert written < 8e6
    assert read < 8e6


# --- a browser


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'sound', 'heard'),
    [
        ('in.mp4', None, False),
        ('in.mp4', 'aac', True),
        ('in.mov', 'pcm_s16le', True),
        # Sound that Chromium does not know, other players do: it plays the pictures.
        ('in.mp4', 'ac3', False),
    ],
)
def test_a_browser_plays_it(open_page, write_source, tmp_path, name, sound, heard):
    source = write_source(name, num_frames=30, fps=Fraction(10), sound=sound)
    copy(source, tmp_path / 'out.mp4')
    page = tmp_path / 'page.html'
    page.write_text('<link rel="icon" href="data:,"><video src="out.mp4"></video>')
    driver = open_page(page)
    driver.set_script_timeout(30)
    played = driver.execute_async_script(
        """
        const done = arguments[0], video = document.querySelector('video')
        video.muted = true
        video.playbackRate = 4
        video.onerror = () => done(video.error.message)
        video.onended = () => {
          video.onseeked = () => done([
            video.duration, video.videoWidth, video.videoHeight,
            video.webkitAudioDecodedByteCount > 0])
          video.currentTime = 0.75
        }
        video.play().catch(error => done(String(error)))
        """
    )
    assert played == [pytest.approx(3.0, abs=0.1), WIDTH, HEIGHT, heard]
    picture = driver.find_element('tag name', 'video').screenshot_as_png
    shown = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert number_of(shown) == 7
    # Chromium rounds blue 8 levels lower; with the matrix of BT.601 instead of 709 red
    # would be 17 lower.
    (read,) = (f.image for f in VideoReader(tmp_path / 'out.mp4') if f.index == 7)
    for place in ((8, 8), (-8, -8), (24, 32)):
        assert shown[place].tolist() == pytest.approx(read[place].tolist(), abs=12)
