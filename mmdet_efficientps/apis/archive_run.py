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
import pickle
import tarfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import torch

from mmdet_efficientps.utils import ProblemList, check_output, num_processors

from .archive import Archive, TakenOverError, error_row, result_row, rows_to_table
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


class WorkersFailedError(RuntimeError):
    """Ray has given up: workers do not start, or fail time after time."""


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
        OSError: If the archive cannot be written.
        TakenOverError: If another run begins to write there.
        ValueError: If an argument or a list is not what it should be, or the archive
            would be in the folder of the images.
        WorkersFailedError: If Ray has given up.
    """
    try:
        import ray
        from ray.exceptions import RayError
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
    done = ArchiveRun(damaged=archive.set_aside_damaged())
    total = None if source.paths is None else len(source.paths)
    source.leave_out(archive.done(model, with_errors=not retry_errors))
    if source.is_done:
        done.num_known, done.num_missing = total or 0, 0
        return done
    # Content is read by tasks of their own, which need a CPU that no worker has.
    readers = 0 if total is not None else 1
    with _started(address, readers):
        workers, threads, gpus = _share(workers, threads, gpus, readers, _computers())
        # What can be wrong with the command was checked: now others may be ended.
        run = archive.begin()
        if retry_errors:
            archive.drop_errors(model)
        # They may have written something since.
        known = archive.done(model)
        source.leave_out(known)
        if source.paths is None:
            done.num_known = len(known)
        else:
            done.num_known = (total or 0) - len(source.paths)
        if source.is_done:
            done.num_missing = 0
            return done
        context = ray.data.DataContext.get_current()
        # There is one bar, ours. Of plans it tells in its log; failures are errors.
        context.enable_progress_bars = False
        logging.getLogger('ray.data').setLevel(logging.ERROR)
        context.target_max_block_size = _CONTENT_PER_TASK
        # What such a task had can be counted only where the input has been.
        context.max_errored_blocks = 0 if total is None else _FAILED_TASKS
        # Without it the message of the exception is lost.
        context.raise_original_map_exception = True
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
        try:
            with show_progress(total, done.num_known) as advance:
                for row in written.iter_rows():
                    if row['stopped'] is not None:
                        raise pickle.loads(row['stopped'])
                    _check_shared(archive.folder / row['file'])
                    done.num_predicted += row['rows']
                    advance(row['rows'])
                    for path, text in zip(row['failed'], row['errors'], strict=True):
                        done.problems.add(text.replace(f'{path} ', '', 1), path)
        except RayError as error:
            # What a task raised has Ray's advice after it; of a worker that did not
            # start there is a traceback as text, with what it was in the last line.
            cause = getattr(error, 'cause', None)
            lines = str(cause or error).strip().splitlines() or [type(error).__name__]
            reason = lines[-1 if cause is None else 0].strip()
            raise WorkersFailedError(
                f'the workers failed: {reason}\nThe same command goes on with '
                f'what is in {archive.folder}'
            ) from error
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
        if '://' in str(inputs):
            raise ValueError(
                f'{inputs} is an address: give a list of addresses, as .txt or .parquet'
            )
        suffix = Path(inputs).suffix.lower()
        self.paths: pa.Array | None = None
        self.is_tar = suffix == '.tar'
        if suffix == '.txt':
            self.files = [str(inputs)]
            self._take(_read_list(Path(inputs)), inputs)
        elif suffix in ('.parquet', '.tar'):
            self.files = _match(inputs)
            if self.is_tar:
                _check_tars(self.files)
            else:
                self._take_parquet(inputs)
        else:
            # What is in the archive is none of the images.
            found = [path for _, path in list_images(inputs, out)]
            for path in found:
                if not _is_image(path.name):
                    raise ValueError(
                        f'{path} does not end as an image does: give images, lists of '
                        'paths (.txt or .parquet), or images as .parquet or .tar; '
                        'a .txt may name images with any ending'
                    )
            self._take([str(path) for path in found], inputs)
            self.files = self.paths.to_pylist() if self.paths is not None else []

    def _take(self, paths: Sequence[str], inputs: str | Path) -> None:
        import pyarrow as pa

        if not len(paths):
            raise FileNotFoundError(f'{inputs} lists no image')
        places = [p if '://' in p else os.path.abspath(p) for p in paths]
        self.paths = pa.array(places, pa.string()).unique()

    def _take_parquet(self, inputs: str | Path) -> None:
        import pyarrow.parquet as pq

        columns = {file: _check_parquet(file) for file in self.files}
        first = self.files[0]
        for file in self.files:
            if columns[file] != columns[first]:
                raise ValueError(
                    f'{file} has {columns[file]} and {first} has {columns[first]}: '
                    'they cannot be read together'
                )
        if 'bytes' in columns[first]:
            return
        paths: list[str] = []
        for file in self.files:
            folder = Path(file).parent
            column = pq.read_table(file, columns=['path'])['path']
            paths += [_below(folder, path) for path in column.to_pylist()]
        self._take(paths, inputs)

    @property
    def is_done(self) -> bool:
        """Whether it is known that no image is left."""
        return self.paths is not None and not len(self.paths)

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
            # A task for each. Ray's own reader takes names apart at their first dot.
            tars = [pa.table({'tar': [file]}) for file in self.files]
            data = ray.data.from_arrow(tars).map_batches(
                _read_tars, batch_format='pyarrow'
            )
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


def _check_parquet(file: str) -> dict[str, str]:
    """Check the columns of a parquet file, and give the types of those that count."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        opened = pq.ParquetFile(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f'{file} is no parquet file: {error}') from error
    with opened:
        schema = opened.schema_arrow
        if 'path' not in schema.names:
            raise ValueError(
                f"{file} has no column 'path', the path of each image; it has "
                f'{", ".join(schema.names)}'
            )
        kinds = {
            'path': ('string', 'large_string'),
            'bytes': ('binary', 'large_binary'),
        }
        columns = {
            name: str(schema.field(name).type) for name in kinds if name in schema.names
        }
        for name, kind in columns.items():
            if kind not in kinds[name]:
                raise ValueError(
                    f"{file} has {kind} in its column '{name}', must be "
                    f'{kinds[name][0]}'
                )
        for batch in opened.iter_batches(columns=['path']):
            if batch.column(0).null_count:
                raise ValueError(
                    f"{file} has a row without a path: each needs one in column 'path'"
                )
    return columns


def _is_image(name: str) -> bool:
    """Whether a file is an image by its name; those that systems hide are none."""
    path = PurePosixPath(name)
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith('.')


def _check_tars(files: Sequence[str]) -> None:
    """Check that there is an image in each; that is known at the first."""
    for file in files:
        try:
            with tarfile.open(file) as tar:
                found = any(part.isreg() and _is_image(part.name) for part in tar)
        except tarfile.TarError as error:
            raise ValueError(f'{file} is no tar file, or cut off: {error}') from error
        if not found:
            raise ValueError(
                f'there is no image in {file}: names end in one of '
                f'{", ".join(IMAGE_SUFFIXES)}'
            )


def _read_tars(table: pa.Table) -> Iterator[pa.Table]:
    """Give ``path`` and ``bytes`` of each image in files, which may be large."""
    import pyarrow as pa

    schema = pa.schema([('path', pa.string()), ('bytes', pa.binary())])
    for file in table['tar'].to_pylist():
        try:
            with tarfile.open(file) as tar:
                for part in tar:
                    wanted = part.isreg() and _is_image(part.name)
                    content = tar.extractfile(part) if wanted else None
                    if content is not None:
                        row = {'path': f'{file}/{part.name}', 'bytes': content.read()}
                        yield pa.Table.from_pylist([row], schema=schema)
                    # It would remember all parts.
                    tar.members = []  # type: ignore[attr-defined]
        except tarfile.TarError as error:
            raise tarfile.ReadError(f'{file} is cut off: {error}') from error


def _leave_out(table: pa.Table, known: Any) -> pa.Table:
    """Leave out rows whose path is known."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import ray

    paths = table['path'].cast(pa.string())
    return table.filter(pc.invert(pc.is_in(paths, value_set=ray.get(known))))


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
        num_cpus=num_processors() + readers if address == 'local' else None,
        include_dashboard=False if address == 'local' else None,
        logging_level=logging.ERROR,
        log_to_driver=False,
    )
    try:
        yield
    finally:
        ray.shutdown()


def _computers() -> list[tuple[int, int]]:
    """Give the CPUs and GPUs of each computer that Ray has."""
    import ray

    there = [node['Resources'] for node in ray.nodes() if node['Alive']]
    return [(int(one.get('CPU', 0)), int(one.get('GPU', 0))) for one in there]


def _share(
    workers: int | None,
    threads: int | None,
    gpus: float | None,
    readers: int,
    computers: Sequence[tuple[int, int]],
) -> tuple[int, int, float]:
    """Share CPUs and GPUs among workers, each of which is on one computer.

    Args:
        workers (int, optional): As for :func:`predict_to_archive`, also the next two.
        threads (int, optional): CPUs of each.
        gpus (float, optional): GPUs of each.
        readers (int): CPUs that must be left.
        computers (Sequence[tuple[int, int]]): CPUs and GPUs of each.

    Returns:
        tuple[int, int, float]: The first three.

    Raises:
        ValueError: If there are not as many as asked for: Ray would wait for them.
    """
    num_cpus, num_gpus = (sum(column) for column in zip(*computers, strict=True))
    each = gpus if gpus is not None else 1.0 if num_gpus else 0.0

    def room(threads: int) -> int:
        """How many workers there is room for."""
        fitting = 0
        for own_cpus, own_gpus in computers:
            here = own_cpus // threads
            if each:
                # What is less than a GPU is a part of one, not of two.
                of_gpus = own_gpus * int(1 / each) if each <= 1 else own_gpus // each
                here = min(here, int(of_gpus))
            fitting += here
        return min(fitting, (num_cpus - readers) // threads)

    if workers is None:
        workers = max(room(threads or 1), 1)
    if threads is None:
        most = max(own_cpus for own_cpus, _ in computers)
        fitting = [n for n in range(1, most + 1) if room(n) >= workers]
        threads = max(fitting, default=1)
    if room(threads) < workers:
        beside = (
            ' One CPU must be left to read what is in the files.' if readers else ''
        )
        raise ValueError(
            f'{workers} workers with {threads} threads and {each:g} GPUs each do not '
            f'fit: there is room for {room(threads)}, with {num_cpus} CPUs and '
            f'{num_gpus} GPUs on {len(computers)} computers.{beside}'
        )
    return workers, threads, each


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
            which images (``failed``) there are ``errors`` instead of predictions. If
            nothing can be written, no file but the exception (``stopped``), pickled:
            were it raised, Ray would go on, as after a worker that died.
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
        file: str | None = None
        stopped: bytes | None = None
        try:
            file = self.archive.write(
                # As they came; a path that came twice is one row.
                rows_to_table(
                    [rows[path] for path in batch['path'].unique().to_pylist()]
                ),
                self.inferencer.classes.categories(),
                self.run,
            ).name
        except (OSError, TakenOverError) as error:
            stopped = pickle.dumps(error)
        texts = pa.list_(pa.string())
        return pa.table(
            {
                'file': pa.array([file], pa.string()),
                'rows': [len(rows)],
                'failed': pa.array([list(problems)], texts),
                'errors': pa.array([list(problems.values())], texts),
                'stopped': pa.array([stopped], pa.binary()),
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
