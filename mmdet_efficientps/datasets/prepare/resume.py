# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Finished images of a run that was stopped, and whether they are still right."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from mmdet_efficientps.structures.panoptic import Journal

from .jobs import Job, Split

# Part of the fingerprint of every PNG: raise it when a rule of conversion changes.
RULES_VERSION = 3


class FinishedImages:
    """The finished images of a split, noted in its journal.

    A line has the result for the json, a fingerprint of all the PNG was made from, and
    size and time of the PNG.

    Args:
        split (Split): The split.
    """

    def __init__(self, split: Split) -> None:
        self.png_dir = split.png_dir
        self.journal = Journal(split.journal_path)
        settings = getattr(split.draw, 'keywords', {})
        self.rules = _digest([RULES_VERSION, split.classes.categories(), settings])
        self.entries = {entry.get('png'): entry for entry in self.journal.entries()}

    def find(self, job: Job) -> dict[str, Any] | None:
        """Give the result of a job that was finished and is still up to date.

        Args:
            job (Job): The job.

        Returns:
            dict[str, Any] | None: What :meth:`note` got; None if the job is to be done.
        """
        entry = self.entries.get(job.png_name)
        is_current = entry and entry == self._entry(job, entry.get('result'))
        return entry['result'] if entry and is_current else None

    def note(self, job: Job, result: dict[str, Any]) -> None:
        """Add a finished job.

        Args:
            job (Job): The job; its PNG is there.
            result (dict[str, Any]): What json can hold.
        """
        self.journal.append(self._entry(job, result))

    def _entry(self, job: Job, result: dict[str, Any] | None) -> dict[str, Any]:
        sources = [_stamp(job.image_path), _stamp(job.label_path)]
        if job.object_path:
            sources.append(_stamp(job.object_path))
        return {
            'png': job.png_name,
            'stamp': _stamp(self.png_dir / job.png_name),
            'fingerprint': _digest([self.rules, job.image, job.labels, sources]),
            'result': result,
        }


def _digest(content: list[Any]) -> str:
    """Give a fingerprint of anything json can hold, other things by their text."""
    text = json.dumps(content, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamp(path: Path | None) -> list[int] | None:
    """Size and time of a file; None if there is none."""
    if path is None or not path.is_file():
        return None
    stat = path.stat()
    return [stat.st_size, stat.st_mtime_ns]
