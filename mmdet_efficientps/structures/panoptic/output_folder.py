# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Folders of results: nothing is overwritten, and a stopped run can continue."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from mmdet_efficientps.utils import path_inside

from .annotations import ImageId, segments_info, write_json
from .classes import PanopticClasses
from .png import write_panoptic_png


class Journal:
    """What a run has finished, one line of json each, to continue after a stop.

    Args:
        path (str | Path): The file; it and its folder are made with the first line.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Give the lines written so far.

        Yields:
            dict[str, Any]: The content of a line; lines cut short are skipped.
        """
        if not self.path.is_file():
            return
        for line in self.path.read_text(encoding='utf-8').split('\n'):
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                yield entry

    def append(self, entry: dict[str, Any]) -> None:
        """Write a line.

        Args:
            entry (dict[str, Any]): What json can hold.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open('a', encoding='utf-8') as stream:
            # The line break comes first: the line before may be half a line.
            stream.write(f'\n{json.dumps(entry)}')


class PanopticOutput:
    """Folder of predictions that a stopped run can continue.

    Files::

        panoptic/<image id>.png   segment ids
        panoptic.json             written last, when all images are there
        progress/run.json         which run this is; gone when it is complete
        progress/rank<r>.jsonl    entries for the json so far, one line an image

    Args:
        folder (str | Path): The folder, shared by all processes of a run.
        run (str): Identifies the run, such as a hash of checkpoint and config:
            predictions of two runs are not mixed.

    Raises:
        FileExistsError: If the folder has complete predictions, or some of another
            run.
        NotADirectoryError: If it is a file.
    """

    def __init__(self, folder: str | Path, run: str) -> None:
        self.folder = Path(folder)
        self.json_file = self.folder / 'panoptic.json'
        self.progress = self.folder / 'progress'
        run_file = self.progress / 'run.json'
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(
                f'{self.folder} is a file, and results need a folder: give another name'
            )
        if self.json_file.exists():
            raise FileExistsError(
                f'{self.json_file} exists: these predictions are complete. Give '
                'another folder, or remove it to predict again'
            )
        annotations = self.annotations()
        self._image_of = {a['file_name']: a['image_id'] for a in annotations.values()}
        if run_file.exists() and json.loads(run_file.read_text())['run'] == run:
            return
        # A run that failed before its first image, say because of a wrong path, does
        # not count.
        if annotations:
            raise FileExistsError(
                f'{self.folder} has predictions of a run that was stopped, with '
                'another checkpoint or config, or of other images. Give another '
                'folder, or remove it'
            )
        write_json(run_file, {'run': run})

    def annotations(self) -> dict[ImageId, dict[str, Any]]:
        """Give what has been written so far, by any process.

        Returns:
            dict[ImageId, dict[str, Any]]: Entries for the json by image id.
        """
        return {
            entry['image_id']: entry
            for path in sorted(self.progress.glob('rank*.jsonl'))
            for entry in Journal(path).entries()
        }

    @staticmethod
    def stem(image_id: ImageId) -> str:
        """Give the name, relative and without suffix, of the files of an image.

        Args:
            image_id (ImageId): Id of the image in the ground truth.

        Returns:
            str: The id without ``.png``. If that is no path inside a folder, as with
            an absolute path, what leads out is left away and a hash of the id is
            added.
        """
        text = str(image_id).removesuffix('.png')
        parts = [p for p in PurePath(text).parts if p not in ('/', '//', '..')]
        name = '/'.join(parts).replace('\0', '')
        if name != text:
            digest = hashlib.sha256(text.encode()).hexdigest()[:8]
            name = f'{name or "image"}-{digest}'
        return name

    def add(
        self,
        image_id: ImageId,
        ids: np.ndarray,
        segments: Sequence[dict[str, Any]],
        category_ids: Sequence[int],
        rank: int = 0,
    ) -> None:
        """Write the prediction of an image.

        Args:
            image_id (ImageId): Id of the image in the ground truth.
            ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
            segments (Sequence[dict[str, Any]]): ``id`` and ``category`` (label) of
                each.
            category_ids (Sequence[int]): Category id of each label.
            rank (int): Number of the process. Defaults to 0.

        Raises:
            ValueError: If another image has the same file name.
        """
        self.write(image_id, ids, segments_info(ids, segments, category_ids), rank)

    def write(
        self,
        image_id: ImageId,
        ids: np.ndarray,
        entries: Sequence[dict[str, Any]],
        rank: int = 0,
        image: dict[str, Any] | None = None,
    ) -> None:
        """Write the prediction of an image of which the segments are listed already.

        Args:
            image_id (ImageId): Id of the image.
            ids (np.ndarray): Segment ids, shape (H, W), integers, 0 = void.
            entries (Sequence[dict[str, Any]]): ``segments_info`` of a panoptic json.
            rank (int): Number of the process. Defaults to 0.
            image (dict[str, Any], optional): Entry of the image for ``images`` of the
                json. Defaults to None, for predictions of a data set, whose json has
                them.

        Raises:
            ValueError: If another image has the same file name.
        """
        file_name = f'{self.stem(image_id)}.png'
        other = self._image_of.setdefault(file_name, image_id)
        if other != image_id:
            raise ValueError(
                f'the images {other!r} and {image_id!r} would both be written to '
                f'{file_name}: give them ids that differ in more than .png'
            )
        folder = self.json_file.with_suffix('')
        write_panoptic_png(path_inside(folder, file_name), ids)
        entry: dict[str, Any] = {
            'image_id': image_id,
            'file_name': file_name,
            'segments_info': list(entries),
        }
        if image is not None:
            entry['image'] = image
        Journal(self.progress / f'rank{rank}.jsonl').append(entry)

    def finish(self, classes: PanopticClasses | Sequence[dict[str, Any]]) -> None:
        """Write the json and remove the records of the progress.

        Args:
            classes (PanopticClasses | Sequence[dict[str, Any]]): Classes, or
                categories for the json.
        """
        if isinstance(classes, PanopticClasses):
            classes = classes.categories()
        # The order does not depend on which process made which.
        annotations = sorted(
            self.annotations().values(), key=lambda entry: entry['file_name']
        )
        content = {'annotations': annotations, 'categories': list(classes)}
        images = [entry.pop('image') for entry in annotations if 'image' in entry]
        if images:
            content = {'images': images} | content
        write_json(self.json_file, content)
        for path in self.progress.iterdir():
            path.unlink()
        self.progress.rmdir()
