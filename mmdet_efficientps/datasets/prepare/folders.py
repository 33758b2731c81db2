# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Folders of downloads and of results."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from mmdet_efficientps.structures.panoptic import (
    check_output,
    path_inside,
    read_json,
)
from mmdet_efficientps.utils import ProblemList

from .jobs import Job, Split, png_name_of

# What OpenCV reads for training.
IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')


def image_job(
    path: Path,
    root: Path,
    problems: ProblemList,
    label_path: Path | None = None,
    **kwargs: Any,
) -> Job | None:
    """Say what is to be converted for an image that lies in a folder.

    Args:
        path (Path): The image.
        root (Path): The folder; file_name of the json is the path below it, and so is
            the id.
        problems (ProblemList): Gets images whose name is too long for a PNG.
        label_path (Path | None): See :class:`Job`. Defaults to None.
        **kwargs (Any): Other attributes of the job.

    Returns:
        Job | None: The job; None if there is a problem.
    """
    file_name = path.relative_to(root).as_posix()
    png_name = png_name_of(file_name)
    if png_name is None:
        problems.add('name is too long for a PNG', path)
        return None
    image = {'id': file_name, 'file_name': file_name}
    return Job(image, path, png_name, label_path, **kwargs)


def check_folders(folders: Mapping[Path, str]) -> None:
    """Check that a download is there and unpacked.

    Args:
        folders (Mapping[Path, str]): Folders or files that must exist and not be
            empty, and where to get each.

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


def check_sources(
    out: Path,
    files: Sequence[Path] = (),
    folders: Sequence[Path] = (),
    searched: Sequence[Path] = (),
) -> None:
    """Check the paths of a command that writes one json.

    Args:
        out (Path): Json to write.
        files (Sequence[Path]): Files that must exist. Defaults to ().
        folders (Sequence[Path]): Folders that must exist. Defaults to ().
        searched (Sequence[Path]): Folders that must exist and are searched with all
            folders below: the next run would find there what this one has written.
            Defaults to ().

    Raises:
        FileNotFoundError: If one does not exist.
        ValueError: If ``out`` is no json, or lies in a folder that is searched.
    """
    for path in files:
        if not path.is_file():
            raise FileNotFoundError(f'labels {path} do not exist')
    for path in (*folders, *searched):
        if path.is_file():
            raise ValueError(f'{path} is a file, but must be a folder; unpack archives')
        if not path.is_dir():
            raise FileNotFoundError(f'folder {path} does not exist')
    if out.suffix != '.json':
        raise ValueError(f'--out must be a .json file, got {out}')
    for path in searched:
        if path.resolve() in out.resolve().parents:
            raise ValueError(
                f'--out {out} lies in {path}, where images and labels are looked for: '
                'take another folder'
            )


def find_files(
    paths: Iterable[Path], ending: str, suffixes: Sequence[str], problems: ProblemList
) -> dict[str, Path]:
    """Find the files of a kind.

    Args:
        paths (Iterable[Path]): Paths to choose from.
        ending (str): What the names end with before the suffix.
        suffixes (Sequence[str]): Suffixes they may have, in small letters; those of
            the files may be in capitals.
        problems (ProblemList): Gets files that differ in their suffix alone.

    Returns:
        dict[str, Path]: The files by name without ending and suffix.
    """
    found: dict[str, Path] = {}
    for path in sorted(paths):
        fits = path.suffix.lower() in suffixes and path.stem.endswith(ending)
        if not fits or path.name.startswith('.'):
            continue
        name = path.stem.removesuffix(ending)
        if name in found:
            problems.add('file is there with two suffixes: remove one', path)
        found[name] = path
    return found


def find_tree(
    root: Path, ending: str, suffixes: Sequence[str], problems: ProblemList
) -> dict[str, Path]:
    """Find the files of a kind in a folder and all folders below.

    Hidden files and folders are passed over.

    Args:
        root (Path): The folder.
        ending (str): See :func:`find_files`.
        suffixes (Sequence[str]): See :func:`find_files`.
        problems (ProblemList): See :func:`find_files`.

    Returns:
        dict[str, Path]: The files by their path below ``root`` without ending and
        suffix, with slashes.
    """
    found = {}
    for folder, subfolders, names in os.walk(root, followlinks=True):
        here = Path(folder).resolve()
        subfolders[:] = sorted(
            name
            for name in subfolders
            # A link may lead up again.
            if not name.startswith('.')
            and (here / name).resolve() not in (here, *here.parents)
        )
        paths = (Path(folder, name) for name in names)
        below = PurePath(folder).relative_to(root)
        for name, path in find_files(paths, ending, suffixes, problems).items():
            found[(below / name).as_posix()] = path
    return found


def pair_files(
    images: Mapping[str, Path],
    labels: Mapping[str, Path],
    problems: ProblemList,
    hint: str,
) -> list[str]:
    """Match images with labels.

    Args:
        images (Mapping[str, Path]): Images by name.
        labels (Mapping[str, Path]): Label files by name.
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


def plan_links(src: Path, out: Path, image_dirs: Sequence[str]) -> dict[Path, Path]:
    """Say which links make a folder of results a whole data set.

    With another folder than that of the download, the image folders are linked into
    it; the download is only read.

    Args:
        src (Path): Folder of the download.
        out (Path): Folder to write to.
        image_dirs (Sequence[str]): Folders of images, relative to ``src``.

    Returns:
        dict[Path, Path]: Links that are to be made, and where they lead to.

    Raises:
        FileExistsError: If other images are in the way.
        PermissionError: If ``out`` is read-only.
        ValueError: If ``out`` lies in a folder of images.
    """
    existing = next(p for p in (out, *out.absolute().parents) if p.exists())
    if not os.access(existing, os.W_OK):
        raise PermissionError(
            f'{existing} cannot be written to: give another folder with --out; '
            'the images are linked into it'
        )
    links = {}
    for name in image_dirs:
        target, link = (src / name).resolve(), out / name
        if target in (out.resolve(), *out.resolve().parents):
            raise ValueError(
                f'--out {out} is in {target}, a folder of images: take a folder of its '
                'own'
            )
        if link.exists() and link.samefile(target):
            continue
        if link.exists() or link.is_symlink():
            raise FileExistsError(
                f'{link} exists and is not the folder {target}: take another --out'
            )
        links[link] = target
    return links


def check_outputs(splits: Sequence[Split]) -> None:
    """Check that nothing that is there is lost when splits are written.

    Args:
        splits (Sequence[Split]): The splits.

    Raises:
        FileExistsError: If there is something that no such conversion has written.
        ValueError: If an input would be overwritten, a PNG would leave its folder, or
            two images would get one PNG.
    """
    labels = {
        path
        for split in splits
        for path in (
            *split.sources,
            *(job.label_path for job in split.jobs),
            *(job.object_path for job in split.jobs),
        )
    }
    images = [job.image_path for split in splits for job in split.jobs]
    for split in splits:
        check_output(split.png_dir, [*labels, *images], 'folder of the PNGs')
        for path in (split.json_path, split.journal_path):
            check_output(path, labels, 'output')
        times = Counter(job.png_name for job in split.jobs)
        shared = [name for name, count in times.items() if count > 1]
        if shared:
            raise ValueError(
                f'{split.json_path}: several images would be labelled by {shared}: '
                'their file names must differ in more than the suffix'
            )
        for folder in {PurePath(name).parent for name in times}:
            path_inside(split.png_dir, folder / 'name')
        _check_origin(split)


def _check_origin(split: Split) -> None:
    """Check that what is in the place of a split was written as panoptic labels."""
    if split.journal_path.is_file():
        return
    if split.json_path.exists():
        content: Any = read_json(split.json_path)
        annotations = content.get('annotations') if isinstance(content, dict) else None
        if not (annotations and isinstance(annotations, list)) or not all(
            isinstance(a, dict) and 'segments_info' in a for a in annotations
        ):
            raise FileExistsError(
                f'{split.json_path} exists and is no panoptic json: take another --out'
            )
    elif split.png_dir.is_file() or any(split.png_dir.glob('*')):
        raise FileExistsError(
            f'{split.png_dir} exists and has files that are no panoptic labels of '
            f'{split.json_path.name}, which is missing: take another --out, or remove '
            'the folder'
        )
