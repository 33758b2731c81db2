# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Predictions of very many images, as rows of parquet files in one folder."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmdet_efficientps.structures.panoptic import (
    encode_panoptic_png,
    write_json,
)
from mmdet_efficientps.utils import atomic_path

from .panoptic_result import PanopticResult

if TYPE_CHECKING:
    import pyarrow as pa

# Key of the metadata of a file.
_METADATA_KEY = b'mmdet_efficientps'


class TakenOverError(RuntimeError):
    """Another run writes into the archive."""


class Archive:
    """A folder of parquet files with one row for each image and network.

    ======== ======= ===================================================
    column   type
    ======== ======= ===================================================
    path     string  of the image, as a reader of the folder finds it
    width    int32   in pixels, as height; null if there is an error
    height   int32
    segments string  ``segments_info`` of COCO's panoptic format, as json
    png      binary  the panoptic PNG
    model    string  hash of the network, its weights and settings
    error    string  why there is no prediction, else null
    ======== ======= ===================================================

    A file has its name once it is whole, and no file is written twice: rows that are
    there stay as they are. The classes are in the metadata of each file, so that files
    can be moved from folder to folder.

    Args:
        folder (str | Path): The folder; it need not exist.

    Raises:
        ImportError: If pyarrow is not installed.
        NotADirectoryError: If it is a file.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            import pyarrow  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "archives need the package pyarrow: pip install 'ray[data]'"
            ) from error
        self.folder = Path(folder)
        self._run_file = self.folder / 'run.json'
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(
                f'{self.folder} is a file, and an archive is a folder: give another '
                'name'
            )

    @property
    def files(self) -> list[Path]:
        """The parquet files, by name."""
        return sorted(self.folder.glob('part-*.parquet'))

    def begin(self) -> str:
        """Begin to write, and end every other run's right to do so.

        A run whose command was killed may live on elsewhere in a cluster for a while;
        what it would still write, this one predicts.

        Returns:
            str: Name of the run, for :meth:`write`.

        Raises:
            OSError: If nothing can be written there.
        """
        run = uuid.uuid4().hex
        write_json(self._run_file, {'run': run})
        for path in self.folder.glob('.part-*.tmp.parquet'):
            path.unlink(missing_ok=True)
        return run

    def write(
        self, table: pa.Table, classes: Sequence[dict[str, Any]], run: str
    ) -> Path:
        """Write rows into a file of their own.

        The same rows go into the same file: what is written again because nobody heard
        that it was written is there once.

        Args:
            table (pa.Table): Rows of :func:`rows_to_table`.
            classes (Sequence[dict[str, Any]]): Categories of the network.
            run (str): What :meth:`begin` gave.

        Returns:
            Path: The file.

        Raises:
            TakenOverError: If another run has begun since.
            OSError: If the file cannot be written.
        """
        import pyarrow.parquet as pq

        keys = table.select(['model', 'path']).to_pylist()
        digest = hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:32]
        path = self.folder / f'part-{digest}.parquet'
        metadata = {_METADATA_KEY: json.dumps({'categories': list(classes)}).encode()}
        with atomic_path(path) as temporary:
            pq.write_table(
                table.replace_schema_metadata(metadata),
                temporary,
                # A PNG is compressed already.
                compression={
                    name: 'none' if name == 'png' else 'zstd'
                    for name in table.column_names
                },
                use_dictionary=['model'],
            )
            if json.loads(self._run_file.read_text())['run'] != run:
                raise TakenOverError(
                    f'another command has begun to write into {self.folder} and does '
                    'what is missing there: this one ends'
                )
        return path

    def set_aside_damaged(self) -> list[Path]:
        """Rename files that are cut off or overwritten, whose rows count as missing.

        A computer that lost its power may leave one, or a copy that was stopped.

        Returns:
            list[Path]: Their new names, which end in ``.damaged``.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        damaged = []
        for path in self.files:
            try:
                pq.read_metadata(path)
            except pa.ArrowInvalid:
                damaged.append(path.rename(path.with_suffix('.parquet.damaged')))
        return damaged

    def drop_errors(self, model: str) -> int:
        """Remove the rows that have an error, so that they count as missing.

        Args:
            model (str): Hash of the network.

        Returns:
            int: How many there were.
        """
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        dropped = 0
        for path in self.files:
            read = _read_table(path, ['model', 'error'])
            kept = pc.invert(
                pc.and_(pc.equal(read['model'], model), pc.is_valid(read['error']))
            )
            if pc.all(kept).as_py():
                continue
            table = _read_table(path).filter(kept)
            dropped += len(read) - len(table)
            if len(table):
                with atomic_path(path) as temporary:
                    pq.write_table(table, temporary)
            else:
                path.unlink()
        return dropped

    def done(self, model: str) -> pa.Array:
        """List the images that have a row, be it an error.

        Args:
            model (str): Hash of the network.

        Returns:
            pa.Array: Their paths, (N, ), string.
        """
        import pyarrow as pa
        import pyarrow.compute as pc

        found = [pa.chunked_array([], pa.string())]
        for path in self.files:
            table = _read_table(path, ['path', 'model'])
            found.append(table.filter(pc.equal(table['model'], model))['path'])
        chunks = [chunk for column in found for chunk in column.chunks]
        return pa.concat_arrays([pa.array([], pa.string()), *chunks])

    def models(self) -> dict[str, int]:
        """Count the rows of each network.

        Returns:
            dict[str, int]: Number of rows by the hash of the network.
        """
        counts: dict[str, int] = {}
        for path in self.files:
            column = _read_table(path, ['model'])['model']
            for entry in column.value_counts().to_pylist():
                name = entry['values']
                counts[name] = counts.get(name, 0) + entry['counts']
        return counts

    def categories(self, model: str) -> list[dict[str, Any]]:
        """Give the classes of a network.

        Args:
            model (str): Its hash.

        Returns:
            list[dict[str, Any]]: Categories for a panoptic json.

        Raises:
            ValueError: If it has no row here.
        """
        import pyarrow.parquet as pq

        for path in self.files:
            if model in _read_table(path, ['model'])['model'].unique().to_pylist():
                metadata = pq.read_schema(path).metadata or {}
                return json.loads(metadata[_METADATA_KEY])['categories']
        raise ValueError(f'{self.folder} has no row of the network {model}')

    def rows(
        self, model: str, columns: Sequence[str], batch_size: int = 64
    ) -> Iterator[dict[str, Any]]:
        """Give row after row, in the order of the files; few are in memory at once.

        Args:
            model (str): Hash of the network.
            columns (Sequence[str]): What a row shall have.
            batch_size (int): How many are read at once. Defaults to 64.

        Yields:
            dict[str, Any]: A row.
        """
        import pyarrow.parquet as pq

        for path in self.files:
            with pq.ParquetFile(path) as file:
                wanted = sorted({*columns, 'model'})
                for batch in file.iter_batches(batch_size, columns=wanted):
                    for row in batch.to_pylist():
                        if row['model'] == model:
                            yield {name: row[name] for name in columns}


def _read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """Read a file alone: a folder named a=b above it is no column of it."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        return file.read(columns if columns is None else list(columns))


def result_row(path: str, model: str, result: PanopticResult) -> dict[str, Any]:
    """Give the row of an image that was predicted.

    Args:
        path (str): Of the image.
        model (str): Hash of the network.
        result (PanopticResult): What was predicted.

    Returns:
        dict[str, Any]: The row.
    """
    height, width = result.shape
    return {
        'path': path,
        'width': width,
        'height': height,
        'segments': json.dumps(result.to_coco()),
        'png': encode_panoptic_png(result.ids),
        'model': model,
    }


def error_row(path: str, model: str, error: Exception) -> dict[str, Any]:
    """Give the row of an image that cannot be predicted.

    Args:
        path (str): Of the image.
        model (str): Hash of the network.
        error (Exception): Why.

    Returns:
        dict[str, Any]: The row.
    """
    text = str(error) or type(error).__name__
    return {'path': path, 'model': model, 'error': text}


def rows_to_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Make a table of rows.

    Args:
        rows (Sequence[dict[str, Any]]): Of :func:`result_row` and :func:`error_row`.

    Returns:
        pa.Table: With the columns of :class:`Archive`.
    """
    import pyarrow as pa

    schema = pa.schema(
        {
            'path': pa.string(),
            'width': pa.int32(),
            'height': pa.int32(),
            'segments': pa.string(),
            'png': pa.binary(),
            'model': pa.string(),
            'error': pa.string(),
        }.items()
    )
    return pa.Table.from_pylist(list(rows), schema=schema)
