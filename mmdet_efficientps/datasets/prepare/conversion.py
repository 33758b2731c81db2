# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What all converters share: from labels of any kind to COCO-panoptic.

A converter lists the images of each split as :class:`Job` and gives a function that
turns the labels of one image into a :class:`Panoptic`. The rest is done here: work in
parallel, restart, collection of problems, the json and the summary.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image
from rich.progress import track
from terminaltables import AsciiTable

from mmdet_efficientps.structures.panoptic import VOID_ID, id2rgb
from mmdet_efficientps.structures.panoptic.index_map import measure_segments
from mmdet_efficientps.utils import ProblemList, atomic_path

# Part of the fingerprint of every PNG: raise it when a rule of conversion changes.
RULES_VERSION = 1
SHOWN_SIZES = 3
# What a label file raises whose fields are missing or of another type.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


class BadInputError(Exception):
    """An image that cannot be converted.

    Args:
        *problems (tuple[str, str | Path]): Kind of each problem and what it is wrong
            with, as :meth:`ProblemList.add` takes them.
    """

    def __init__(self, *problems: tuple[str, str | Path]) -> None:
        super().__init__(*problems)
        self.problems = [(kind, str(name)) for kind, name in problems]


@dataclass(frozen=True)
class Job:
    """One image to convert.

    Attributes:
        image (dict): Its entry in the json: id, file_name relative to the folder of
            the images; width and height are added if they are missing.
        image_path (Path): The image.
        png_name (str): Where the PNG goes, relative to the folder of the PNGs.
        label_path (Path | None): File with its labels, if it has one of its own.
        labels (Any): Labels that were read from a file for all images, as json.
    """

    image: dict
    image_path: Path
    png_name: str
    label_path: Path | None = None
    labels: Any = None


@dataclass
class Panoptic:
    """Labels of one image.

    Attributes:
        ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
        segments_info (list[dict]): As in the json: id, category_id, iscrowd, area and
            bbox (x, y, width, height in pixels).
        num_dropped (int): Annotations without a visible pixel.
        png_path (Path | None): A PNG that has exactly these ids: it is linked, not
            written again.
    """

    ids: np.ndarray
    segments_info: list[dict]
    num_dropped: int = 0
    png_path: Path | None = None


@dataclass
class Split:
    """Part of a data set that gets one json.

    Attributes:
        json_path (Path): The json; PNGs go into the folder of that name without
            suffix.
        categories (list[dict]): Categories for the json.
        jobs (list[Job]): The images.
        draw (Callable[[Job], Panoptic]): Makes the labels of an image; raises a
            :class:`BadInputError`. Runs in other processes.
        problems (ProblemList): Problems found while listing the images.
    """

    json_path: Path
    categories: list[dict]
    jobs: list[Job]
    draw: Callable[[Job], Panoptic]
    problems: ProblemList = field(default_factory=ProblemList)


@dataclass
class ConversionReport:
    """What a conversion did.

    Attributes:
        num_images (int): Images in the json.
        num_kept (int): Those of them that a former run had converted.
        segments (dict[str, int]): Segments per class, groups included.
        groups (Counter): Group (crowd) segments per class.
        pixels (Counter): Labelled pixels per class.
        sizes (Counter): Images per size (width, height).
        num_dropped (int): Annotations without a visible pixel.
        problems (ProblemList): What is wrong with the images left out.
    """

    num_images: int = 0
    num_kept: int = 0
    segments: dict[str, int] = field(default_factory=dict)
    groups: Counter = field(default_factory=Counter)
    pixels: Counter = field(default_factory=Counter)
    sizes: Counter = field(default_factory=Counter)
    num_dropped: int = 0
    problems: ProblemList = field(default_factory=ProblemList)

    @property
    def num_pixels(self) -> int:
        """All pixels of the images."""
        return sum(width * height * n for (width, height), n in self.sizes.items())

    @property
    def void_share(self) -> float:
        """Share of pixels without label, 0..1."""
        return 1 - self.pixels.total() / self.num_pixels if self.num_images else 0.0


def convert(splits: Iterable[Split], nproc: int) -> None:
    """Convert splits, print a table of each and all problems at the end.

    Args:
        splits (Iterable[Split]): The splits.
        nproc (int): Number of processes.

    Raises:
        SystemExit: With status 1 if there were problems.
    """
    problems = ProblemList()
    for split in splits:
        report = convert_split(split, nproc)
        print_report(report, split.json_path)
        problems.extend(report.problems)
    if problems:
        print(problems.summary())
        raise SystemExit(1)


def convert_split(split: Split, nproc: int = 1) -> ConversionReport:
    """Convert the images of a split and write its json.

    Images with a problem are left out; all others are written. Images that a former
    run has converted are taken from there unless image, labels or PNG have changed
    since: a hidden journal beside the json notes every finished one. Without a single
    good image there is no json.

    Args:
        split (Split): The split.
        nproc (int): Number of processes. Defaults to 1.

    Returns:
        ConversionReport: Counts and problems.

    Raises:
        ValueError: If two images would get one PNG.
    """
    shared = [
        n for n, count in Counter(j.png_name for j in split.jobs).items() if count > 1
    ]
    if shared:
        raise ValueError(
            f'{split.json_path}: several images would be labelled by {shared}'
        )
    png_dir = split.json_path.with_suffix('')
    png_dir.mkdir(parents=True, exist_ok=True)
    # Of a run that was killed outright; atomic_path cleans up after all others.
    for leftover in png_dir.rglob('.*.tmp.png'):
        leftover.unlink()

    journal = _Journal(split, png_dir)
    results = {}
    for job in split.jobs:
        finished = journal.find(job)
        if finished:
            results[job.png_name] = finished
    report = ConversionReport(num_kept=len(results))
    report.problems.extend(split.problems)
    pending = [job for job in split.jobs if job.png_name not in results]
    work = partial(_convert_image, draw=split.draw, png_dir=png_dir)
    description = f'Converting {split.json_path.stem}'
    with journal:
        for job, (result, problems) in track(
            _run_parallel(work, pending, nproc), description, total=len(pending)
        ):
            for kind, name in problems:
                report.problems.add(kind, name)
            if result:
                journal.note(job, result)
                results[job.png_name] = result

    panoptic = {'images': [], 'annotations': [], 'categories': split.categories}
    name_of = {c['id']: c['name'] for c in split.categories}
    report.segments = dict.fromkeys(name_of.values(), 0)
    for job in split.jobs:
        if job.png_name not in results:
            continue
        result = results[job.png_name]
        size = {'width': result['width'], 'height': result['height']}
        panoptic['images'].append(size | job.image)
        panoptic['annotations'].append(
            {
                'image_id': job.image['id'],
                'file_name': job.png_name,
                'segments_info': result['segments_info'],
            }
        )
        report.sizes[result['width'], result['height']] += 1
        report.num_dropped += result['num_dropped']
        for segment in result['segments_info']:
            name = name_of[segment['category_id']]
            report.segments[name] += 1
            report.groups[name] += segment['iscrowd']
            report.pixels[name] += segment['area']
    report.num_images = len(panoptic['images'])
    if report.num_images:
        with atomic_path(split.json_path) as temporary:
            temporary.write_text(json.dumps(panoptic), encoding='utf-8')
    return report


def print_report(report: ConversionReport, json_path: Path) -> None:
    """Print what a conversion did; its problems are left to the end of the run.

    Args:
        report (ConversionReport): The report.
        json_path (Path): The json it is about.
    """
    rows = [['class', 'segments', 'of them groups', '% of pixels']]
    for name, count in report.segments.items():
        if not count:
            continue
        share = 100 * report.pixels[name] / max(report.num_pixels, 1)
        rows.append([name, str(count), str(report.groups[name]), f'{share:.2f}'])
    print(AsciiTable(rows).table)
    absent = [name for name, count in report.segments.items() if not count]
    if absent:
        print(f'without segments: {", ".join(absent)}')
    sizes = [
        f'{width}x{height} ({count})'
        for (width, height), count in report.sizes.most_common(SHOWN_SIZES)
    ]
    if len(report.sizes) > SHOWN_SIZES:
        sizes.append(f'{len(report.sizes) - SHOWN_SIZES} more')
    print(
        f'{report.num_images} images, {100 * report.void_share:.1f} % void: '
        f'{json_path if report.num_images else "nothing to write"}'
    )
    if sizes:
        print(f'sizes: {", ".join(sizes)}')
    if report.num_images and report.num_kept == report.num_images:
        print(f'{json_path} is up to date')
    elif report.num_kept:
        print(f'{report.num_kept} images were there from a former run')
    if report.num_dropped:
        print(f'annotations without a visible pixel, dropped: {report.num_dropped}')


def collect_segments(
    values: np.ndarray, describe: Callable[[int], tuple[int, int, int] | None]
) -> tuple[np.ndarray, list[dict]]:
    """Make segments of the regions of equal value.

    Args:
        values (np.ndarray): Shape (H, W), integers 0..2**24 - 1.
        describe (Callable[[int], tuple[int, int, int] | None]): Gives segment id,
            category id and iscrowd of a value that occurs; None makes it void.

    Returns:
        tuple[np.ndarray, list[dict]]: Segment ids, shape (H, W), int32, 0 = void, and
        their segments_info in the order of the values.
    """
    # A table of flags and a look-up need two passes over the pixels, where sorting
    # them or comparing them with every value would need many.
    occurs = np.zeros(int(values.max(initial=0)) + 1, dtype=bool)
    occurs[values] = True
    numbers = np.zeros(len(occurs), dtype=np.int32)
    segments = []
    for value in np.flatnonzero(occurs).tolist():
        described = describe(value)
        if described:
            keys = ('id', 'category_id', 'iscrowd')
            segments.append(dict(zip(keys, described, strict=True)))
            numbers[value] = len(segments)
    index = numbers[values]
    areas, boxes = measure_segments(index, len(segments) + 1)
    for segment, area, box in zip(
        segments, areas[1:].tolist(), boxes[1:].tolist(), strict=True
    ):
        x1, y1, x2, y2 = box
        segment['area'] = area
        segment['bbox'] = [x1, y1, x2 - x1, y2 - y1]
    ids = np.array([VOID_ID, *(s['id'] for s in segments)], dtype=np.int32)
    return ids[index], segments


def read_image_size(path: Path) -> tuple[int, int]:
    """Check that an image can be read to its end and give its size.

    Args:
        path (Path): The image.

    Returns:
        tuple[int, int]: Width and height in pixels, turned as its EXIF data say: so
        do the decoders for training.

    Raises:
        BadInputError: If it is missing or damaged.
    """
    if not path.is_file():
        raise BadInputError(('image is missing', path))
    try:
        with Image.open(path) as picture:
            size = picture.size
            exif = Image.Exif()
            exif.load(picture.info.get('exif', b''))
            if picture.format == 'PNG':
                # Compares the checksum of every chunk, which is faster than decoding.
                picture.verify()
            else:
                # A JPEG is read to its end but decoded at an eighth of its size.
                picture.draft('L', (1, 1))
                picture.load()
    except (OSError, SyntaxError) as error:
        raise BadInputError(
            (f'image cannot be read ({_reason(error)})', path)
        ) from error
    return size[::-1] if exif.get(ExifTags.Base.Orientation, 1) >= 5 else size


def read_json(path: Path, fields: dict[str, Sequence[str]], hint: str) -> dict:
    """Read a json of lists of entries, as COCO and COCO-panoptic are.

    Args:
        path (Path): The json.
        fields (dict[str, Sequence[str]]): The lists it must have, and the keys that
            every entry of each must have.
        hint (str): How to get a right one.

    Returns:
        dict: Its content.

    Raises:
        ValueError: If it is no json or lacks any of it.
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f'{path} is damaged or no json ({error}): {hint}') from error
    lists = content if isinstance(content, dict) else {}
    missing = [name for name in fields if not isinstance(lists.get(name), list)]
    if missing:
        raise ValueError(f'{path} lacks the lists {missing}: {hint}')
    for name, keys in fields.items():
        lacking = [
            entry
            for entry in content[name]
            if not (isinstance(entry, dict) and entry.keys() >= set(keys))
        ]
        if lacking:
            raise ValueError(
                f'{path}: {len(lacking)} entries of {name} lack some of '
                f'{", ".join(keys)}, the first is {lacking[0]}: {hint}'
            )
    return content


def read_label_png(path: Path, mode: str) -> np.ndarray:
    """Read a label PNG.

    Args:
        path (Path): The PNG.
        mode (str): What it must be: '16-bit' or '8-bit RGB'.

    Returns:
        np.ndarray: Shape (H, W), uint16 or int32, or (H, W, 3), uint8.

    Raises:
        BadInputError: If it is missing, damaged or of another kind.
    """
    if not path.is_file():
        raise BadInputError(('label PNG is missing', path))
    try:
        with Image.open(path, formats=['PNG']) as picture:
            # Pillow turns 16-bit RGB into 8-bit RGB: only the raw mode tells.
            raw_mode = picture.tile[0][3]
            picture.load()
    except (OSError, SyntaxError) as error:
        raise BadInputError(
            (f'label PNG cannot be decoded ({_reason(error)})', path)
        ) from error
    if raw_mode != {'16-bit': 'I;16B', '8-bit RGB': 'RGB'}[mode]:
        raise BadInputError((f'label PNG is not {mode} but of mode {raw_mode}', path))
    return np.asarray(picture)


def check_same_size(
    image_size: tuple[int, int], label_size: tuple[int, int], image_path: Path
) -> None:
    """Check that image and label have one size.

    Args:
        image_size (tuple[int, int]): Width and height of the image.
        label_size (tuple[int, int]): Width and height of the label.
        image_path (Path): The image, to be named.

    Raises:
        BadInputError: If they differ.
    """
    if tuple(image_size) != tuple(label_size):
        raise BadInputError(
            (
                'image and label differ in size (width, height)',
                f'{image_path}: {tuple(image_size)} and {tuple(label_size)}',
            )
        )


def check_same_view(
    image_size: tuple[int, int], label_size: tuple[int, int], image_path: Path
) -> None:
    """Check that image and label have one aspect ratio, within two per cent.

    For data sets that are brought to one size: those of KITTI images differ by one
    per cent among each other.

    Args:
        image_size (tuple[int, int]): Width and height of the image.
        label_size (tuple[int, int]): Width and height of the label.
        image_path (Path): The image, to be named.

    Raises:
        BadInputError: If they differ more.
    """
    products = image_size[0] * label_size[1], image_size[1] * label_size[0]
    if min(products) <= 0.98 * max(products):
        check_same_size(image_size, label_size, image_path)


def resize_values(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a map of ids to the nearest values: ids in between mean other things.

    Args:
        values (np.ndarray): Shape (H, W), integers below 2**31.
        size (tuple[int, int]): Width and height wanted.

    Returns:
        np.ndarray: Shape (height, width), int32.
    """
    picture = Image.fromarray(values.astype(np.int32))
    return np.asarray(picture.resize(size, Image.Resampling.NEAREST))


def pair_files(
    images: dict[str, Path], labels: dict[str, Path], problems: ProblemList, hint: str
) -> list[str]:
    """Match images with labels.

    Args:
        images (dict[str, Path]): Images by name.
        labels (dict[str, Path]): Label files by name.
        problems (ProblemList): Gets those without a partner.
        hint (str): How to get missing files.

    Returns:
        list[str]: The names of both, sorted.
    """
    for name in sorted(labels.keys() - images.keys()):
        problems.add(f'image is missing, its label is there: {hint}', labels[name])
    for name in sorted(images.keys() - labels.keys()):
        problems.add(f'label is missing, its image is there: {hint}', images[name])
    return sorted(images.keys() & labels.keys())


def check_folders(folders: dict[Path, str]) -> None:
    """Check that a download is there and unpacked.

    Args:
        folders (dict[Path, str]): Folders or files that must exist and not be empty,
            and where to get each.

    Raises:
        FileNotFoundError: If some do not; names them all.
    """
    missing = [
        f'{path} {"is empty" if path.is_dir() else "does not exist"}: {hint}'
        for path, hint in folders.items()
        if not (path.is_file() or (path.is_dir() and any(path.iterdir())))
    ]
    if missing:
        raise FileNotFoundError('\n'.join(missing))


def output_folder(src: Path, out: Path | None, image_dirs: Sequence[str]) -> Path:
    """Give the folder to write to, with the images in it.

    With another folder than that of the download, the image folders are linked into
    it, so that it is a whole data set and the download is only read.

    Args:
        src (Path): Folder of the download.
        out (Path | None): Folder to write to; None for that of the download.
        image_dirs (Sequence[str]): Folders of images, relative to it.

    Returns:
        Path: Folder to write to; it is the ``data_root`` of a config.

    Raises:
        FileExistsError: If other images are in the way.
        PermissionError: If it is read-only.
    """
    out = out or src
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(
            f'{existing} cannot be written to: give another folder with --out; '
            'the images are linked into it'
        )
    for name in image_dirs:
        target, link = (src / name).resolve(), out / name
        if link.exists() and link.samefile(target):
            continue
        if link.exists() or link.is_symlink():
            raise FileExistsError(
                f'{link} exists and is not the folder {target}: take another --out'
            )
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target, target_is_directory=True)
    return out


def _reason(error: Exception) -> str:
    """Say what an error is without the name of the file, to group equal ones."""
    text = str(error)
    if text.startswith('cannot identify image file'):
        return 'empty, damaged or no image'
    return text


def _run_parallel(
    work: Callable[[Job], tuple], jobs: Sequence[Job], nproc: int
) -> Iterator[tuple[Job, tuple]]:
    """Give every job and its outcome as they are finished."""
    if nproc <= 1:
        for job in jobs:
            yield job, work(job)
        return
    # Forked workers have what is imported: another start takes seconds for each.
    executor = ProcessPoolExecutor(nproc, mp_context=get_context('fork'))
    try:
        futures = {executor.submit(work, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        executor.shutdown(cancel_futures=True)


def _convert_image(
    job: Job, draw: Callable[[Job], Panoptic], png_dir: Path
) -> tuple[dict | None, list[tuple[str, str]]]:
    """Make the PNG of one image.

    Returns:
        tuple[dict | None, list[tuple[str, str]]]: What the json needs, None if there
        are problems; the problems.
    """
    try:
        panoptic = draw(job)
    except BadInputError as error:
        return None, error.problems
    except MALFORMED as error:
        kind = f'labels have another form ({type(error).__name__}: {error})'
        return None, [(kind, str(job.label_path or job.image_path))]
    with atomic_path(png_dir / job.png_name) as temporary:
        if panoptic.png_path:
            # Relative, so that the data set can be moved as a whole.
            shipped = os.path.relpath(
                panoptic.png_path.resolve(), temporary.parent.resolve()
            )
            temporary.symlink_to(shipped)
        else:
            Image.fromarray(id2rgb(panoptic.ids)).save(temporary)
    height, width = panoptic.ids.shape
    result = {
        'width': width,
        'height': height,
        'segments_info': panoptic.segments_info,
        'num_dropped': panoptic.num_dropped,
    }
    return result, []


class _Journal:
    """The finished images of a split, one line of json each.

    A line also has a fingerprint of all the PNG was made from, and size and time of
    the PNG. A line that was cut short counts as not written.
    """

    def __init__(self, split: Split, png_dir: Path) -> None:
        self.path = split.json_path.with_name(f'.{split.json_path.stem}.journal')
        self.png_dir = png_dir
        settings = getattr(split.draw, 'keywords', {})
        self.rules = _digest([RULES_VERSION, split.categories, settings])
        self.lines = {}
        if self.path.is_file():
            for line in self.path.read_text(encoding='utf-8').split('\n'):
                with suppress(json.JSONDecodeError):
                    entry = json.loads(line)
                    self.lines[entry['png']] = entry

    def __enter__(self) -> _Journal:
        self.stream = self.path.open('a', encoding='utf-8')
        # A line that was cut short must not be continued.
        self.stream.write('\n')
        return self

    def __exit__(self, *_: object) -> None:
        self.stream.close()

    def find(self, job: Job) -> dict | None:
        """Give the result of a job that was finished and is still up to date."""
        entry = self.lines.get(job.png_name)
        is_current = (
            entry
            and entry['stamp'] == _stamp(self.png_dir / job.png_name)
            and entry['fingerprint'] == self._fingerprint(job)
        )
        return entry['result'] if is_current else None

    def note(self, job: Job, result: dict) -> None:
        """Add a finished job."""
        entry = {
            'png': job.png_name,
            'stamp': _stamp(self.png_dir / job.png_name),
            'fingerprint': self._fingerprint(job),
            'result': result,
        }
        self.stream.write(json.dumps(entry) + '\n')
        self.stream.flush()

    def _fingerprint(self, job: Job) -> str:
        stamps = [_stamp(job.image_path), _stamp(job.label_path)]
        return _digest([self.rules, job.image, job.labels, stamps])


def _digest(content: list) -> str:
    """Give a fingerprint of anything json can hold, other things by their text."""
    text = json.dumps(content, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path | None) -> list[int] | None:
    """Size and time of a file; None if there is none."""
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
