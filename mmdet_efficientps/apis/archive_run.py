# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Very many images into an archive, on the cores of a machine or of a cluster.

Ray Data hands out the work, starts workers again that died, and reads no further
ahead than they need. Here is what it calls: a class that predicts some images and
writes their rows.
"""

from __future__ import annotations

import glob
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import torch

from mmdet_efficientps.utils import ProblemList, check_output

from .archive import Archive, error_row, result_row, rows_to_table
from .image_inputs import IMAGE_SUFFIXES, InputImage, decode_image, list_images
from .panoptic_inferencer import PanopticInferencer
from .prediction_run import show_progress

if TYPE_CHECKING:
    import pyarrow as pa
    from ray.data import Dataset

# Attempts that a worker may die of before its images are left out of the run.
_RETRIES = 3
# Tasks that may fail in spite of that, before the run ends: it is the machine then.
_FAILED_TASKS = 8
# Of images that come with their content: what a worker is given at once, in bytes.
_CONTENT_PER_TASK = 16 * 2**20


@dataclass
class ArchiveRun:
    """What a run has done.

    Attributes:
        num_predicted (int): Rows that were added.
        num_known (int): Images that had a row before; all such rows of the archive if
            the input does not tell how many images it has.
        num_missing (int | None): Images that have none after it, because workers died
            of them; None if the input does not tell how many it has.
        problems (ProblemList): Added rows that have an error.
        damaged (list[Path]): Files of the archive that were set aside.
    """

    num_predicted: int = 0
    num_known: int = 0
    num_missing: int | None = None
    problems: ProblemList = field(default_factory=ProblemList)
    damaged: list[Path] = field(default_factory=list)


def predict_to_archive(
    inputs: str | Path,
    out: str | Path,
    settings: dict[str, Any],
    workers: int | None = None,
    threads: int | None = None,
    gpus: float | None = None,
    rows_per_file: int = 64,
    retry_errors: bool = False,
    address: str | None = None,
) -> ArchiveRun:
    """Predict images into an archive, with a progress bar.

    What has a row of this network is left alone, so that the same call goes on where
    a run was stopped or killed, and adds nothing to a complete archive.

    Args:
        inputs (str | Path): Image, folder or pattern; list of paths, ``.txt``, one a
            line; ``.parquet``, with a column ``path`` and maybe one ``bytes``; or
            ``.tar`` in WebDataset's layout. The last two may be patterns.
        out (str | Path): Folder of the archive; see :class:`Archive`. All computers
            that work on it must have it in the same place.
        settings (dict[str, Any]): Arguments of :class:`PanopticInferencer`, without
            ``device``.
        workers (int, optional): Processes that predict. Defaults to as many as there
            are GPUs, or else CPUs divided by ``threads``.
        threads (int, optional): CPU threads of each. Defaults to the CPUs divided by
            ``workers``; to 1 if neither is given.
        gpus (float, optional): GPUs of each; 0.5 lets two share one. Defaults to 1 if
            there are any.
        rows_per_file (int): Images that a worker is given at once, and whose
            rows are a file. What it has of them is lost with it. Defaults to 64.
        retry_errors (bool): Whether images whose row has an error are predicted again.
            Defaults to False.
        address (str, optional): Of a Ray cluster. Defaults to what ``RAY_ADDRESS``
            says, else to this machine.

    Returns:
        ArchiveRun: What was done.

    Raises:
        FileNotFoundError: If there is nothing to predict.
        ImportError: If Ray is not installed.
        TakenOverError: If another run begins to write there.
        ValueError: If an argument or a list is not what it should be, or the archive
            would be in the folder of the images.
    """
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'archives need Ray Data: pip install "mmdet_efficientps[archive]"'
        ) from error
    for name, value in (('workers', workers), ('threads', threads)):
        if value is not None and value < 1:
            raise ValueError(f'{name} is {value}, must be 1 or more')
    if rows_per_file < 1:
        raise ValueError(f'rows_per_file is {rows_per_file}, must be 1 or more')
    archive = Archive(out)
    source = _Source(inputs, archive.folder)
    check_output(out, source.files, '--out')
    # Says what is wrong with the network before anything is started.
    inferencer = PanopticInferencer(**settings, device='cpu')
    model = inferencer.fingerprint()
    del inferencer
    run = archive.begin()
    done = ArchiveRun(damaged=archive.set_aside_damaged())
    if retry_errors:
        archive.drop_errors(model)
    known = archive.done(model)
    if source.paths is not None:
        total = len(source.paths)
        source.leave_out(known)
        done.num_known = total - len(source.paths)
        if not len(source.paths):
            done.num_missing = 0
            return done
    else:
        total, done.num_known = None, len(known)
    # Content is read by tasks of their own, which need a CPU that no worker has.
    readers = 0 if source.paths is not None else 1
    with _started(address, readers):
        workers, threads, gpus = _share(workers, threads, gpus, readers)
        context = ray.data.DataContext.get_current()
        # There is one bar, ours. Of plans it tells in its log; failures are errors.
        context.enable_progress_bars = False
        logging.getLogger('ray.data').setLevel(logging.ERROR)
        context.target_max_block_size = _CONTENT_PER_TASK
        # What such a task had can be counted only where the input has been.
        context.max_errored_blocks = _FAILED_TASKS if source.paths is not None else 0
        # Ray 2.60 says to name them otherwise, and has no other name for this one.
        warnings.filterwarnings('ignore', '.*ray_remote_args', module=__name__)
        written = source.dataset(known, rows_per_file).map_batches(
            _Worker,
            fn_constructor_args=(
                *(settings, threads, gpus > 0, model),
                *(archive.folder.absolute(), run),
            ),
            compute=ray.data.ActorPoolStrategy(size=workers),
            batch_size=rows_per_file,
            batch_format='pyarrow',
            num_cpus=threads,
            num_gpus=gpus,
            # One that dies is started again, as often as it dies.
            max_task_retries=_RETRIES,
        )
        with show_progress(total, done.num_known) as advance:
            for row in written.iter_rows():
                _check_shared(archive.folder / row['file'])
                done.num_predicted += row['rows']
                advance(row['rows'])
                for path, text in zip(row['failed'], row['errors'], strict=True):
                    done.problems.add(text.replace(f'{path} ', '', 1), path)
    if source.paths is not None:
        source.leave_out(archive.done(model))
        done.num_missing = len(source.paths)
    return done


class _Source:
    """Where images come from.

    Attributes:
        files (list[str]): Files that are read, or the lists of them.
        paths (pa.Array | None): The images, each once; None if they come with their
            content and are not known beforehand.
    """

    def __init__(self, inputs: str | Path, out: Path) -> None:
        suffix = Path(inputs).suffix.lower()
        self.paths: pa.Array | None = None
        self.is_tar = suffix == '.tar'
        if suffix == '.txt':
            self.files = [str(inputs)]
            self._take(_read_list(Path(inputs)), inputs)
        elif suffix in ('.parquet', '.tar'):
            self.files = _match(inputs)
            if not self.is_tar:
                self._take_parquet(inputs)
        else:
            # What is in the archive is none of the images.
            self._take([str(path) for _, path in list_images(inputs, out)], inputs)
            self.files = self.paths.to_pylist() if self.paths is not None else []

    def _take(self, paths: Sequence[str], inputs: str | Path) -> None:
        import pyarrow as pa

        if not len(paths):
            raise FileNotFoundError(f'{inputs} lists no image')
        places = [p if '://' in p else os.path.abspath(p) for p in paths]
        self.paths = pa.array(places, pa.string()).unique()

    def _take_parquet(self, inputs: str | Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        paths: list[str] = []
        for file in self.files:
            try:
                schema = pq.read_schema(file)
            except pa.ArrowInvalid as error:
                raise ValueError(f'{file} is no parquet file: {error}') from error
            if 'path' not in schema.names:
                raise ValueError(
                    f"{file} has no column 'path', the path of each image; it has "
                    f'{", ".join(schema.names)}'
                )
            if 'bytes' in schema.names:
                return
            folder = Path(file).parent
            column = pq.read_table(file, columns=['path'])['path']
            paths += [_below(folder, path) for path in column.to_pylist()]
        self._take(paths, inputs)

    def leave_out(self, known: pa.Array) -> None:
        """Leave out images that have a row, if they are known."""
        import pyarrow.compute as pc

        if self.paths is not None:
            self.paths = self.paths.filter(
                pc.invert(pc.is_in(self.paths, value_set=known))
            )

    def dataset(self, known: pa.Array, rows_per_file: int) -> Dataset:
        """Give the images as a data set: ``path``, and ``bytes`` if they are there.

        Args:
            known (pa.Array): Paths that need not be predicted.
            rows_per_file (int): Images in a block, where they can be counted.
        """
        import pyarrow as pa
        import ray

        if self.paths is not None:
            table = pa.table({'path': self.paths})
            return ray.data.from_arrow(
                [
                    table.slice(start, rows_per_file)
                    for start in range(0, len(table), rows_per_file)
                ]
            )
        if self.is_tar:
            data = ray.data.read_webdataset(
                self.files,
                decoder=None,
                fileselect=[f'*{suffix}' for suffix in IMAGE_SUFFIXES],
                include_paths=True,
            ).map_batches(_from_webdataset, batch_format='pyarrow')
        else:
            data = ray.data.read_parquet(self.files, columns=['path', 'bytes'])
        return data.map_batches(
            partial(_leave_out, known=ray.put(known)),
            batch_format='pyarrow',
        )


def _match(inputs: str | Path) -> list[str]:
    """List the files of a path or pattern, absolute."""
    found = sorted(glob.glob(str(Path(inputs).expanduser()), recursive=True))
    files = [os.path.abspath(file) for file in found if os.path.isfile(file)]
    if not files:
        raise FileNotFoundError(f'{inputs} does not exist: give a file or a pattern')
    return files


def _below(folder: Path, path: str) -> str:
    """Place a path of a list beside the list, if it is relative."""
    return path if '://' in path else str(folder / path)


def _read_list(file: Path) -> list[str]:
    """Read the paths of a text file; relative ones are those beside it."""
    lines = file.expanduser().read_text(encoding='utf-8-sig').splitlines()
    return [_below(file.parent, line.strip()) for line in lines if line.strip()]


def _from_webdataset(table: pa.Table) -> pa.Table:
    """Give ``path`` and ``bytes`` of samples that have a column for each suffix."""
    import pyarrow as pa

    rows = [
        {'path': f'{row["path"]}/{row["__key__"]}.{name}', 'bytes': content}
        for row in table.to_pylist()
        for name, content in row.items()
        if f'.{name.lower()}' in IMAGE_SUFFIXES and content is not None
    ]
    schema = pa.schema([('path', pa.string()), ('bytes', pa.binary())])
    return pa.Table.from_pylist(rows, schema=schema)


def _leave_out(table: pa.Table, known: Any) -> pa.Table:
    """Leave out rows whose path is known."""
    import pyarrow.compute as pc
    import ray

    return table.filter(pc.invert(pc.is_in(table['path'], value_set=ray.get(known))))


@contextmanager
def _started(address: str | None, readers: int) -> Iterator[None]:
    """Have Ray running, and end it if it was started for this.

    Readers mostly wait: on this machine they are let in beside a worker on every CPU.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    # It would tell its makers about the cluster.
    os.environ.setdefault('RAY_USAGE_STATS_ENABLED', '0')
    address = address or os.environ.get('RAY_ADDRESS') or 'local'
    ray.init(
        address=address,
        num_cpus=(os.cpu_count() or 1) + readers if address == 'local' else None,
        include_dashboard=False if address == 'local' else None,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _share(
    workers: int | None, threads: int | None, gpus: float | None, readers: int
) -> tuple[int, int, float]:
    """Share the CPUs and GPUs that there are among workers.

    Raises:
        ValueError: If there are not as many as asked for: Ray would wait for them.
    """
    import ray

    there = ray.cluster_resources()
    num_cpus = max(int(there.get('CPU', 1)) - readers, 1)
    num_gpus = there.get('GPU', 0.0)
    if gpus is None:
        gpus = 1.0 if num_gpus else 0.0
    if workers is None:
        workers = int(num_gpus / gpus) if gpus else num_cpus // (threads or 1)
        workers = max(workers, 1)
    if threads is None:
        threads = max(num_cpus // workers, 1)
    if workers * threads > num_cpus or workers * gpus > num_gpus:
        raise ValueError(
            f'{workers} workers with {threads} threads and {gpus:g} GPUs each need '
            f'more than there is: {num_cpus} CPUs and {num_gpus:g} GPUs'
        )
    return workers, threads, gpus


class _Worker:
    """Predicts images in a process of its own, and writes their rows.

    Args:
        settings (dict[str, Any]): Arguments of the inferencer.
        threads (int): CPU threads.
        on_gpu (bool): Whether it has a GPU.
        model (str): Hash that the network must have.
        folder (Path): The archive.
        run (str): What :meth:`Archive.begin` gave.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        threads: int,
        on_gpu: bool,
        model: str,
        folder: Path,
        run: str,
    ) -> None:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        device = 'cuda' if on_gpu else 'cpu'
        self.inferencer = PanopticInferencer(**settings, device=device)
        self.model = model
        self.archive = Archive(folder)
        self.run = run
        if self.inferencer.fingerprint() != model:
            raise RuntimeError(
                f'{settings["model"]} is another network here than where the command '
                'was given, or was changed since: give the command again'
            )

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Predict images and write a file.

        Ray's own writer of parquet gives a file its name before it is whole, and
        PNGs would be copied from process to process on the way there.

        Args:
            batch (pa.Table): ``path``, and maybe ``bytes``.

        Returns:
            pa.Table: A row: the name of the ``file``, how many ``rows`` it has, and of
            which images (``failed``) there are ``errors`` instead of predictions.
        """
        import pyarrow as pa

        if not len(batch):
            return pa.table({})
        rows: dict[str, dict[str, Any]] = {}
        problems: dict[str, str] = {}

        def problem(image: InputImage, error: Exception) -> None:
            rows[image.name] = error_row(image.name, self.model, error)
            problems[image.name] = rows[image.name]['error']

        images = (_read(**row) for row in batch.to_pylist())
        for image, result in self.inferencer.stream_images(images, problem):
            rows[image.name] = result_row(image.name, self.model, result)
        file = self.archive.write(
            # In the order they came; a path that came twice is one row.
            rows_to_table([rows[path] for path in batch['path'].unique().to_pylist()]),
            self.inferencer.classes.categories(),
            self.run,
        )
        texts = pa.list_(pa.string())
        return pa.table(
            {
                'file': [file.name],
                'rows': [len(rows)],
                'failed': pa.array([list(problems)], texts),
                'errors': pa.array([list(problems.values())], texts),
            }
        )


def _read(path: str, bytes: bytes | None = None) -> InputImage:  # noqa: A002
    """Read an image, or say why it cannot be."""
    try:
        content = _content(path) if bytes is None else bytes
        return InputImage(path, decode_image(content, path))
    except (OSError, ValueError, MemoryError) as error:
        return InputImage(path, problem=error)


def _content(path: str) -> bytes:
    """Read a file, or what is at an address that Arrow has a file system for."""
    if '://' not in path:
        return Path(path).read_bytes()
    from pyarrow import fs

    system, place = fs.FileSystem.from_uri(path)
    with system.open_input_stream(place) as stream:
        return stream.read()


def _check_shared(file: Path) -> None:
    """Check that what a worker has written is seen here."""
    if not file.exists():
        raise FileNotFoundError(
            f'{file} was written, but not into the folder that is seen here: --out '
            'must be in a place that all computers of the cluster share'
        )
