# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The folder that predictions of a user's images go into."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from mmdet_efficientps.structures.panoptic import (
    Journal,
    PanopticClasses,
    PanopticOutput,
    path_inside,
    read_panoptic_png,
)
from mmdet_efficientps.utils import atomic_path

from .panoptic_result import PanopticResult, Segment

# Pixels of a side.
_LARGEST_JPEG = 65500


class PredictionFolder:
    """Results of a run, as files; a run that was killed can go on.

    Files, beside those of :class:`PanopticOutput`::

        panoptic/<name>.png   segment ids
        panoptic.json         written last: images, segments and categories
        overlay/<name>        the image with its segments over it, if asked for
        instances.json        all detections as COCO results, if asked for

    Names are those of the images, folders included; what is no PNG has ``.png`` after
    it, and so has an overlay of what is neither PNG nor JPEG.

    Args:
        folder (str | Path): The folder.
        run (str): Identifies network and settings: results of two runs are not mixed.
        classes (PanopticClasses): Classes in label order.
        overlay (bool): Whether to draw. Defaults to False.
        instances (bool): Whether to write all detections. Defaults to False.

    Raises:
        FileExistsError: If the folder has complete predictions, or some of another
            run.
    """

    def __init__(
        self,
        folder: str | Path,
        run: str,
        classes: PanopticClasses,
        overlay: bool = False,
        instances: bool = False,
    ) -> None:
        self.output = PanopticOutput(folder, f'{run} {overlay} {instances}')
        self.classes = classes
        self.overlay = overlay
        self.instances = instances
        self._instances = Journal(self.output.progress / 'instances.jsonl')
        self._done = self.output.annotations()

    @property
    def folder(self) -> Path:
        """The folder."""
        return self.output.folder

    def __contains__(self, name: str) -> bool:
        """Whether the image of this name was predicted before."""
        return name in self._done

    def __len__(self) -> int:
        """Number of images that were predicted before."""
        return len(self._done)

    def read(self, name: str) -> PanopticResult | None:
        """Give a result that was written before.

        Args:
            name (str): Name of the image.

        Returns:
            PanopticResult | None: The result; None if there is none yet.
        """
        entry = self._done.get(name)
        if entry is None:
            return None
        png = self.output.json_file.with_suffix('') / entry['file_name']
        label_of = self.classes.label_of
        segments = tuple(
            Segment(
                segment['id'],
                label_of[segment['category_id']],
                segment['area'],
                tuple(segment['bbox']),
                segment.get('score'),
                segment.get('track_id'),
            )
            for segment in entry['segments_info']
        )
        return PanopticResult(read_panoptic_png(png), segments, self.classes, name=name)

    def write(self, result: PanopticResult, image: np.ndarray | None = None) -> None:
        """Write a result; it counts as done when all of its files are there.

        Args:
            result (PanopticResult): The result, with the name of the image.
            image (np.ndarray, optional): The image for the overlay, (H, W, 3), BGR,
                where one is drawn. Defaults to None.

        Raises:
            OSError: If a file cannot be written. None has its name then.
            ValueError: If the name leads out of the folder.
        """
        name = result.name
        if self.overlay and image is not None:
            suffix = Path(name).suffix.lower()
            # A JPEG has no room for longer sides.
            fits = suffix in ('.jpg', '.jpeg') and max(image.shape) <= _LARGEST_JPEG
            drawn = name if fits or suffix == '.png' else f'{name}.png'
            path = path_inside(self.folder / 'overlay', drawn)
            with atomic_path(path) as temporary:
                _, content = cv2.imencode(
                    path.suffix, result.draw(image.astype(np.uint8))
                )
                temporary.write_bytes(content.tobytes())
        if self.instances:
            self._instances.append(
                {'image_id': name, 'instances': result.instances_to_coco(name)}
            )
        height, width = result.shape
        self.output.write(
            name,
            result.ids,
            result.to_coco(),
            image={'id': name, 'file_name': name, 'width': width, 'height': height},
        )

    def finish(self) -> None:
        """Write the jsons and remove the records of the progress.

        Raises:
            OSError: If a file cannot be written: the run can go on.
        """
        if self.instances:
            self._write_instances()
        self.output.finish(self.classes)

    def _write_instances(self) -> None:
        """Join the detections of all images into one list."""
        seen: set[str] = set()
        separator = '\n'
        with (
            atomic_path(self.folder / 'instances.json') as temporary,
            temporary.open('w', encoding='utf-8') as stream,
        ):
            stream.write('[')
            for entry in self._instances.entries():
                # A run that was killed in between has written them twice.
                if entry['image_id'] not in seen:
                    seen.add(entry['image_id'])
                    for instance in entry['instances']:
                        stream.write(separator + json.dumps(instance))
                        separator = ',\n'
            stream.write('\n]\n')
