# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Problems of many files, collected and told at the end of a run."""

from __future__ import annotations

from pathlib import Path

from .counted import counted


class ProblemList:
    """What went wrong with which file, grouped by kind of problem.

    A run over thousands of files should not stop at the first bad one, nor print a
    page for each: problems are added as they are met, and :meth:`summary` counts each
    kind and names the first few.

    Example::

        problems = ProblemList()
        problems.add('PNG cannot be decoded', 'a.png')
        if problems:
            raise SystemExit(problems.summary())

    Args:
        shown (int | None): How many names of each kind the summary gives, None for
            all. Defaults to 5.
    """

    def __init__(self, shown: int | None = 5) -> None:
        self.shown = shown
        self.names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str | Path) -> None:
        """Add one problem.

        Args:
            kind (str): What is wrong and what to do, the same text for all names.
            name (str | Path): The file, image id or segment it is wrong with.
        """
        self.names.setdefault(kind, []).append(str(name))

    def extend(self, other: ProblemList) -> None:
        """Add all problems of another list, for instance of a worker process.

        Args:
            other (ProblemList): The other list.
        """
        for kind, names in other.names.items():
            self.names.setdefault(kind, []).extend(names)

    def __len__(self) -> int:
        """Number of problems of all kinds."""
        return sum(len(names) for names in self.names.values())

    def summary(self) -> str:
        """Give the problems as text.

        Returns:
            str: One paragraph per kind, the most frequent first; empty if there are
            no problems.
        """
        lines = []
        for kind, names in sorted(self.names.items(), key=lambda kv: -len(kv[1])):
            lines.append(f'{len(names)} x {kind}')
            lines += [f'    {name}' for name in names[: self.shown]]
            left = len(names[self.shown :]) if self.shown is not None else 0
            if left:
                lines.append(f'    ... and {left} more')
        if lines:
            lines.insert(0, f'{counted(len(self), "problem")}:')
        return '\n'.join(lines)
