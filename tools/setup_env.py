# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Makes the virtual environment that `make demo` and `make test` run in.

Installs the pinned requirements in the order that works: first what is prebuilt,
torch included, then mmcv with its ops and inplace-abn, both compiled against that
torch, then this project itself, editable. mmengine, mmcv and mmdet are those of one of
two stacks: OpenMMLab's or the forks named onedl-*. Needs nothing but Python 3.10-3.12
and a C++ compiler. Interrupted or failed, it goes on where it was when run again: pip
leaves alone what is there, and the file `.complete` in the environment, written last,
tells a finished one.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / 'requirements'
# constraints-STACK.txt has the packages of each. The first is the default.
STACKS = ('openmmlab', 'onedl')
PREBUILT = ('build', 'runtime', 'tests', 'docs', 'optional')
OLDEST, NEWEST = (3, 10), (3, 12)
NAME_PYTHON = 'make test PYTHON=/path/to/python3.11'
GIB = 2**30
NEEDED_DISK = 3 * GIB
MEMORY_PER_JOB = 2 * GIB
SECONDS_BETWEEN_LINES = 30

DESCRIBE_PYTHON = (
    "import sys, sysconfig; print(*sys.version_info[:2], sysconfig.get_path('include'))"
)
CHECK_MMCV = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0., 10., 10.], [1., 0., 10., 10.], [20., 20., 30., 30.]])
scores = torch.tensor([0.9, 0.8, 0.7])
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    kept = nms(boxes.to(device), scores.to(device), 0.5)[1].tolist()
    assert kept == [0, 2], f'nms on {device} keeps {kept} instead of [0, 2]'
"""
CHECK_INPLACE_ABN = 'import torch, inplace_abn'
CHECK_STRANGERS = """
import sys
from importlib.metadata import distributions
found = {{d.metadata['Name'] for d in distributions()}} & {strangers}
if found:
    sys.exit(', '.join(sorted(found)))
"""
CHECK_GPU = """
import os, sys, torch
hidden = os.environ.get('CUDA_VISIBLE_DEVICES') == ''
has_gpu = os.path.exists('/proc/driver/nvidia/version')
if has_gpu and not hidden and not torch.cuda.is_available():
    sys.exit(f'torch {torch.__version__}')
"""

ON_CPU = (
    'To use the CPU alone instead, put CUDA_VISIBLE_DEVICES= before this and every '
    'later command.'
)
# What Python, pip, torch and the compiler write when something is wrong, and what to
# do then.
KNOWN_FAILURES = (
    (
        r'No space left on device',
        'The disk is full. Free some space (a CPU torch needs about 3 GB, a CUDA '
        'torch about 10 GB); TMPDIR says where packages are unpacked.',
    ),
    (
        r'No module named \W?(venv|ensurepip)|ensurepip is not available',
        'This Python cannot make virtual environments. On Debian and Ubuntu: '
        f"'apt-get install python3-venv'. Or name another Python: {NAME_PYTHON}",
    ),
    (
        r'fatal error: Python\.h',
        'The headers of Python are missing. On Debian and Ubuntu: '
        "'apt-get install python3-dev' (python3.11-dev and so on for another Python "
        'than the default one).',
    ),
    (
        r'Killed signal terminated program|internal compiler error: Killed',
        'The compiler ran out of memory. Run the command again with MAX_JOBS=1 '
        'before it.',
    ),
    (
        r'CUDA_HOME environment variable is not set',
        'torch sees a GPU, but there is no CUDA compiler (nvcc): the ops of mmcv would '
        'be missing on the GPU. Install the CUDA toolkit of the CUDA version of torch '
        f'and set CUDA_HOME to its folder. {ON_CPU}',
    ),
    (
        r'The detected CUDA version .* mismatches',
        'torch was built for another CUDA than the installed compiler (nvcc). Set '
        'CUDA_HOME to a toolkit of the CUDA version of torch, or install a build of '
        'the same torch for the CUDA of the compiler into the environment and run the '
        f'command again. {ON_CPU}',
    ),
    (
        r'lib(GL|gthread)\S*: cannot open shared object',
        'OpenCV needs a library of the system. On Debian and Ubuntu: '
        "'apt-get install libgl1 libglib2.0-0'.",
    ),
    (
        r'Temporary failure in name resolution|Connection refused|ReadTimeout'
        r'|Max retries exceeded|Network is unreachable',
        'The package index could not be reached. Check the network and the '
        'settings of pip (pip config list), then run the command again.',
    ),
    (
        r'No matching distribution found',
        'The package index that pip uses does not have a pinned version for this '
        'Python. Check the settings of pip (pip config list), or try another '
        'Python: put PYTHON=python3.11 behind the command.',
    ),
)


class SetupError(Exception):
    """Something the user has to mend; the message says what and how."""


def explain_failure(log: str) -> str:
    """What to do about a failure, if its cause is a known one; else ''."""
    for pattern, advice in KNOWN_FAILURES:
        if re.search(pattern, log):
            return advice
    return ''


def failure(what: str, log: str, lines: int = 25) -> SetupError:
    """An error with the end of what a command said, and what to do about it."""
    end = [f'    {line}' for line in log.strip().splitlines()[-lines:]]
    return SetupError('\n'.join([what, *end, explain_failure(log)]).rstrip())


def check_version(version: Sequence[int], executable: Path | str) -> None:
    """Raises SetupError for a Python that torch and mmcv were not tried with.

    Args:
        version (Sequence[int]): Version of the Python, major and minor first.
        executable (Path | str): Its path, for the message.
    """
    if not OLDEST <= tuple(version[:2]) <= NEWEST:
        raise SetupError(
            f'{executable} is Python {version[0]}.{version[1]}; 3.10, 3.11 or 3.12 '
            f'is needed. Install one of them and name it: {NAME_PYTHON}'
        )


def check_compiler(include: str) -> None:
    """Raises SetupError unless C++ extensions of Python can be compiled.

    Args:
        include (str): Folder that should hold Python.h.
    """
    compiler = os.environ.get('CXX', 'c++')
    source = '#include <Python.h>\n#include <optional>\nint main() { return 0; }\n'
    options = ['-std=c++17', '-fsyntax-only', '-I', include, '-x', 'c++', '-']
    try:
        trial = subprocess.run(
            [*compiler.split(), *options], input=source, capture_output=True, text=True
        )
    except OSError as error:
        raise SetupError(
            f'There is no C++ compiler ({compiler} cannot be started: {error}); mmcv '
            "is compiled here. On Debian and Ubuntu: 'apt-get install g++'. Elsewhere "
            'install GCC 9 or later and, if it is not called c++, name it: CXX=g++'
        ) from error
    if trial.returncode:
        raise failure(
            f'{compiler} does not compile a small C++17 program that includes '
            'Python.h; GCC 9 or later and the headers of Python are needed. It says:',
            trial.stderr,
        )


def check_disk(folder: Path) -> None:
    """Raises SetupError where the environment or its builds cannot fit."""
    for place in (folder, Path(tempfile.gettempdir())):
        free = shutil.disk_usage(place).free
        if free < NEEDED_DISK:
            raise SetupError(
                f'Only {free / GIB:.1f} GB are free on the disk of {place}; at least '
                f'{NEEDED_DISK / GIB:.0f} GB are needed (10 GB where torch comes with '
                'CUDA). Free some space, or point VENV and TMPDIR to another disk.'
            )


def build_jobs(processors: int, memory: int) -> int:
    """Number of compilers to run at once, for a number of bytes of memory."""
    return max(1, min(processors, memory // MEMORY_PER_JOB))


def available_memory() -> int:
    """Bytes of memory that this process may still use."""
    text = Path('/proc/meminfo').read_text()
    available = int(re.search(r'MemAvailable:\s+(\d+) kB', text)[1]) * 1024
    limit = Path('/sys/fs/cgroup/memory.max')
    if limit.is_file() and limit.read_text().strip() != 'max':
        available = min(available, int(limit.read_text()))
    return available


def ninja_progress(log: str) -> str:
    """The last '[23/77]' of a build log as ', 23 of 77 files'; '' without one."""
    steps = re.findall(r'^\s*\[(\d+)/(\d+)\]', log, re.MULTILINE)
    return ', {} of {} files'.format(*steps[-1]) if steps else ''


def duration(seconds: float) -> str:
    """A time for people: '12 s' or '3 min 10 s'."""
    minutes, seconds = divmod(int(seconds), 60)
    return f'{minutes} min {seconds} s' if minutes else f'{seconds} s'


def constraints(stack: str) -> Path:
    """The file with the versions of mmengine, mmcv and mmdet of a stack."""
    return REQUIREMENTS / f'constraints-{stack}.txt'


def packages(stack: str) -> tuple[str, str, str]:
    """The packages that bring mmengine, mmcv and mmdet in a stack."""
    text = constraints(stack).read_text()
    mmengine, mmcv, mmdet = re.findall(r'^([\w-]+)==', text, re.MULTILINE)
    return mmengine, mmcv, mmdet


def fingerprint(stack: str) -> str:
    """Changes with everything that decides what is installed."""
    others = {constraints(other) for other in STACKS if other != stack}
    required = set(REQUIREMENTS.glob('*.txt')) - others
    files = [*sorted(required), Path(__file__)]
    return hashlib.sha256(b'\0'.join(f.read_bytes() for f in files)).hexdigest()


def say(text: str) -> None:
    """Prints a line at once, also into a pipe."""
    print(text, flush=True)


class Environment:
    """A virtual environment and the log of what was done to it.

    Args:
        folder (Path): Where it is or shall be.
        stack (str): Whose mmdet it has, one of ``STACKS``.
    """

    def __init__(self, folder: Path, stack: str = STACKS[0]) -> None:
        self.folder = folder
        self.stack = stack
        self.python = folder / 'bin' / 'python'
        self.stamp = folder / '.complete'
        self.log = folder / 'setup.log'
        jobs = build_jobs(len(os.sched_getaffinity(0)), available_memory())
        # Read by the setup.py of what is compiled and by pip; the user's own MAX_JOBS
        # goes first, mmcv without ops is never wanted.
        self.variables = {
            'MAX_JOBS': str(jobs),
            **os.environ,
            # Without what only a debugger needs, files compile in half the time.
            'CFLAGS': f'-g0 {os.environ.get("CFLAGS", "")}'.strip(),
            'MMCV_WITH_OPS': '1',
            'PIP_NO_INPUT': '1',
            'PIP_DISABLE_PIP_VERSION_CHECK': '1',
            'PIP_PROGRESS_BAR': 'off',
            'PYTHONUNBUFFERED': '1',
        }

    def is_complete(self) -> bool:
        """Whether a set-up like this one was finished, and its Python runs."""
        expected = fingerprint(self.stack)
        finished = self.stamp.is_file() and self.stamp.read_text() == expected
        return finished and not self.problem_of('pass')

    def create(self) -> None:
        """Makes the folder, its Python and pip, unless they are there and work."""
        if not self.problem_of('import pip'):
            return
        is_environment = (self.folder / 'pyvenv.cfg').is_file()
        if self.folder.exists() and any(self.folder.iterdir()) and not is_environment:
            raise SetupError(
                f'{self.folder} exists and is no virtual environment. Name another '
                'folder: make test VENV=.venv'
            )
        check_version(sys.version_info, sys.executable)
        check_disk(self.folder.parent)
        say(f'Making the virtual environment {self.folder} ...')
        made = self._run(sys.executable, '-m', 'venv', '--clear', self.folder)
        if made.returncode:
            raise failure(
                f'{sys.executable} could not make the virtual environment '
                f'{self.folder}:',
                made.stdout + made.stderr,
            )

    def problem_of(self, code: str) -> str:
        """The last line of the error of a piece of Python; '' if it runs here."""
        # A Python that was removed leaves a broken link behind.
        if not self.python.exists():
            return f'there is no {self.python}'
        result = self._run(self.python, '-c', code)
        if result.returncode == 0:
            return ''
        # A crash prints nothing: then its exit status has to do.
        lines = result.stderr.strip().splitlines()
        return lines[-1] if lines else f'exit status {result.returncode}'

    def check_python(self) -> None:
        """Raises SetupError unless its Python fits and extensions can be compiled."""
        described = self._run(self.python, '-c', DESCRIBE_PYTHON).stdout
        major, minor, include = described.strip().split(' ', maxsplit=2)
        check_version((int(major), int(minor)), self.python)
        check_compiler(include)

    def check_stack(self) -> None:
        """Raises SetupError if it has packages of another stack.

        The modules have the same names: one would be written over the other.
        """
        others = [stack for stack in STACKS if stack != self.stack]
        strangers = {name for stack in others for name in packages(stack)}
        if found := self.problem_of(CHECK_STRANGERS.format(strangers=strangers)):
            raise SetupError(
                f'{self.folder} has packages of another stack than {self.stack}: '
                f'{found}. Name another folder (VENV=.venv-{self.stack}), or remove '
                'this one.'
            )

    def pip_install(self, title: str, *arguments: str | Path) -> None:
        """Runs pip install with everything it says in the log, and shows progress.

        Raises:
            SetupError: If pip fails; with what to do where the cause is known.
        """
        command = [str(self.python), '-m', 'pip', 'install', *map(str, arguments)]
        begin = time.monotonic()
        say(f'{title} ...')
        with self.log.open('ab') as log:
            log.write(f'\n$ {" ".join(command)}\n'.encode())
            log.flush()
            start = log.tell()

            def said() -> str:
                return self.log.read_bytes()[start:].decode(errors='replace')

            with subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            ) as process:
                while True:
                    try:
                        status = process.wait(SECONDS_BETWEEN_LINES)
                        break
                    except subprocess.TimeoutExpired:
                        spent = duration(time.monotonic() - begin)
                        say(f'  {title}{ninja_progress(said())}, {spent}')
                    except BaseException:
                        process.terminate()
                        raise
        if status:
            raise failure(f'pip failed while {title}. The end of {self.log}:', said())
        say(f'  done in {duration(time.monotonic() - begin)}')

    def _run(self, *command: str | Path) -> subprocess.CompletedProcess:
        """Runs a command and keeps what it prints."""
        return subprocess.run(
            list(map(str, command)),
            env=self.variables,
            capture_output=True,
            text=True,
        )


def install_compiled(
    environment: Environment, name: str, pins: Path, check: str
) -> None:
    """Installs a package that compiles against torch, and checks that it works.

    A wheel in pip's cache, which does not know what torch it was compiled against,
    and an earlier installation may not fit: the package is then compiled anew, once.

    Args:
        environment (Environment): Where to.
        name (str): The package.
        pins (Path): The file of requirements/ that has its version.
        check (str): Python code that fails if it does not work.

    Raises:
        SetupError: If it cannot be compiled or does not work.
    """
    pinned = ('-v', '--no-build-isolation', '-c', pins, name)
    anew = ('--no-cache-dir', '--force-reinstall', '--no-deps')
    environment.pip_install(f'building {name}', *pinned)
    if problem := environment.problem_of(check):
        say(
            f'{name} does not work ({problem}). It may come from the cache of pip, '
            'compiled against another torch, so it is compiled anew.'
        )
        environment.pip_install(f'building {name} again', *anew, *pinned)
        problem = environment.problem_of(check)
    if problem:
        raise SetupError(
            f'{name} was built, but does not work: {problem}\n'
            f'The log of the build is {environment.log}.'
        )


def set_up(environment: Environment) -> None:
    """Brings an environment to what requirements/ says.

    Raises:
        SetupError: If that cannot be done; the message says what to mend.
    """
    environment.create()
    # Known in seconds, so said before the minutes of downloading and compiling.
    environment.check_python()
    environment.check_stack()
    environment.stamp.unlink(missing_ok=True)
    mmengine, mmcv, mmdet = packages(environment.stack)
    pins = constraints(environment.stack)
    environment.pip_install(
        'installing torch and what else is prebuilt',
        *(f'-r{REQUIREMENTS / name}.txt' for name in PREBUILT),
        *('-c', pins, mmengine, mmdet),
    )
    if problem := environment.problem_of('import cv2'):
        raise failure('OpenCV cannot be loaded:', problem)
    if problem := environment.problem_of(CHECK_GPU):
        say(
            f'Note: there is an NVIDIA GPU, but {problem} cannot use it (is it a build '
            'without CUDA, is the driver new enough?): everything runs on the CPU.'
        )
    say(
        f'Next {mmcv} is compiled with its ops: about 10 minutes on two processors, '
        f'seconds if it or its wheel is there already. Details: {environment.log}'
    )
    install_compiled(environment, mmcv, pins, CHECK_MMCV)
    try:
        compiled = REQUIREMENTS / 'compiled.txt'
        install_compiled(environment, 'inplace-abn', compiled, CHECK_INPLACE_ABN)
    except SetupError as error:
        say(
            f'Warning: {error}\nGoing on without inplace-abn: its place is taken by '
            'the engine in plain PyTorch, which gives the same numbers. To try again '
            f'later, remove {environment.stamp}.'
        )
    environment.pip_install(
        'installing what the tests compare with',
        *('--no-deps', '-r', REQUIREMENTS / 'tests_no_deps.txt'),
    )
    environment.pip_install(
        'installing mmdet_efficientps itself',
        *('--no-deps', '--no-build-isolation', '--use-pep517', '-e', ROOT),
    )
    environment.stamp.write_text(fingerprint(environment.stack))


def main() -> int:
    """Runs the set-up; the exit status is 1 if the user has to mend something."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--venv', type=Path, default=ROOT / '.venv', help='the environment (.venv)'
    )
    parser.add_argument(
        '--stack', choices=STACKS, default=STACKS[0], help='whose mmdet (%(default)s)'
    )
    arguments = parser.parse_args()
    environment = Environment(arguments.venv.absolute(), arguments.stack)
    try:
        if environment.is_complete():
            environment.stamp.touch()
            return 0
        begin = time.monotonic()
        set_up(environment)
    except SetupError as error:
        print(f'\nThe set-up stopped. {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('\nInterrupted; the same command goes on with it.', file=sys.stderr)
        return 130
    say(f'{environment.folder} is complete ({duration(time.monotonic() - begin)}).')
    return 0


if __name__ == '__main__':
    sys.exit(main())
