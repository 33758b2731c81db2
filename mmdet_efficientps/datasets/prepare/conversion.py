# Licensed under the Apache License, Version 2.0. See LICENSE.
"""What all converters share: work in parallel, restart, the json and the report."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.progress import track

from mmdet_efficientps.structures.panoptic import (
    default_png_folder,
    write_json,
    write_panoptic_png,
)
from mmdet_efficientps.utils import ProblemList, atomic_path

from .folders import check_outputs
from .jobs import BadInputError, Job, Panoptic, Split
from .resume import FinishedImages
from .summary import ConversionReport

# What a label file raises whose fields are missing or of another type.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def convert(
    splits: Sequence[Split], nproc: int = 1, links: Mapping[Path, Path] | None = None
) -> list[ConversionReport]:
    """Convert the images of splits and write the json of each, with a progress bar.

    Images with a problem are left out; all others are written. Images that a former
    run has converted are taken from there unless image, labels or PNG have changed
    since: a hidden journal beside the json notes every finished one. A json of a
    former run is removed before the first PNG is replaced. A split without a single
    good image gets no json.

    Args:
        splits (Sequence[Split]): The splits.
        nproc (int): Number of processes. Defaults to 1.
        links (Mapping[Path, Path] | None): Links to make, and where they lead to.
            Defaults to None.

    Returns:
        list[ConversionReport]: Counts and problems of each split.

    Raises:
        FileExistsError: If there is something that no such conversion has written.
        ValueError: If an input would be overwritten, a PNG would leave its folder, or
            two images would get one PNG. Nothing is written then.
    """
    check_outputs(splits)
    for link, target in (links or {}).items():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target, target_is_directory=True)
    return [_convert_split(split, nproc) for split in splits]


def _convert_split(split: Split, nproc: int) -> ConversionReport:
    """Convert the images of a split and write its json."""
    split.png_dir.mkdir(parents=True, exist_ok=True)
    # What is in the folder from now on, if only half a PNG, is ours.
    split.journal_path.touch()
    # Of a run that was killed outright; atomic_path cleans up after all others.
    for leftover in split.png_dir.rglob('.*.tmp.png'):
        leftover.unlink()

    finished = FinishedImages(split)
    results = {}
    for job in split.jobs:
        if result := finished.find(job):
            results[job.png_name] = result
    report = ConversionReport(
        split.json_path,
        num_kept=len(results),
        segments=dict.fromkeys(split.classes.names, 0),
        notes=split.notes,
    )
    report.problems.extend(split.problems)
    pending = [job for job in split.jobs if job.png_name not in results]
    work = partial(_convert_image, draw=split.draw, json_path=split.json_path)
    for job, outcome in track(
        _run_parallel(work, pending, nproc),
        f'Converting {escape(split.json_path.stem)}',
        total=len(pending),
    ):
        if isinstance(outcome, ProblemList):
            report.problems.extend(outcome)
        else:
            finished.note(job, outcome)
            results[job.png_name] = outcome

    name_of = {c.id: c.name for c in split.classes}
    images, annotations = [], []
    for job in split.jobs:
        if job.png_name not in results:
            continue
        result = results[job.png_name]
        report.count(result, name_of)
        for kind, names in result['problems'].items():
            for name in names:
                report.problems.add(kind, name)
        size = {'width': result['width'], 'height': result['height']}
        images.append(size | job.image)
        annotations.append(
            {
                'image_id': job.image['id'],
                'file_name': job.png_name,
                'segments_info': result['segments_info'],
            }
        )
    if images:
        categories = split.classes.categories()
        write_json(
            split.json_path,
            {'images': images, 'annotations': annotations, 'categories': categories},
        )
    return report


def _run_parallel(
    work: Callable[[Job], Any], jobs: Sequence[Job], nproc: int
) -> Iterator[tuple[Job, Any]]:
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
    job: Job, draw: Callable[[Job], Panoptic], json_path: Path
) -> dict[str, Any] | ProblemList:
    """Make the PNG of one image.

    Returns:
        dict[str, Any] | ProblemList: What json and report need; the problems if the
        image is left out.
    """
    problems = ProblemList()
    label_path = job.label_path or job.image_path
    try:
        panoptic = draw(job)
    except BadInputError as error:
        return error.problems
    except MALFORMED as error:
        kind = f'labels have another form ({type(error).__name__}: {error})'
        problems.add(kind, label_path)
        return problems
    except OSError as error:
        kind = f'file cannot be read ({error.strerror or error})'
        problems.add(kind, error.filename or label_path)
        return problems
    except MemoryError:
        problems.add('image is too large for the memory there is', job.image_path)
        return problems
    path = default_png_folder(json_path) / job.png_name
    # A json of a former run does not fit the new PNG, and this run may be stopped.
    json_path.unlink(missing_ok=True)
    if panoptic.png_path:
        with atomic_path(path) as temporary:
            # Relative, so that the data set can be moved as a whole.
            temporary.symlink_to(
                os.path.relpath(panoptic.png_path.resolve(), path.parent.resolve())
            )
    else:
        write_panoptic_png(path, panoptic.ids)
    height, width = panoptic.ids.shape
    return {
        'width': width,
        'height': height,
        'segments_info': panoptic.segments_info,
        'num_dropped': panoptic.num_dropped,
        'problems': panoptic.problems.names,
    }
