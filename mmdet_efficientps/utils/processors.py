# Licensed under the Apache License, Version 2.0. See LICENSE.
"""How many processors there are for this process."""

from __future__ import annotations

import os
from pathlib import Path


def num_processors(cgroup: str | Path = '/sys/fs/cgroup') -> int:
    """Count the processors that this process may use, which may not be all.

    A container may have a share of the time of all (``docker run --cpus``, the limits
    of a pod), a job of a cluster some of them.

    Args:
        cgroup (str | Path): Folder of the limits of a container. Defaults to where
            Linux has it.

    Returns:
        int: 1 or more; a share is rounded down.
    """
    there = len(os.sched_getaffinity(0))
    quota = _quota(Path(cgroup))
    return there if quota is None else max(1, min(there, int(quota)))


def _quota(cgroup: Path) -> float | None:
    """Read the seconds of processors in a second that a container is given."""
    # Version 2 of cgroups, then version 1; 'max' and -1 are no limit.
    for names in (('cpu.max',), ('cpu/cpu.cfs_quota_us', 'cpu/cpu.cfs_period_us')):
        try:
            words = ' '.join((cgroup / name).read_text() for name in names).split()
        except OSError:
            continue
        quota, period = words
        return int(quota) / int(period) if quota.isdigit() else None
    return None
