# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Makes the virtual environment that `make demo` and `make test` run in.

Installs the pinned requirements in the order that works: first what is prebuilt,
torch included, then mmcv with its ops and inplace-abn, both compiled against that
torch, then this project itself, editable. Needs nothing but Python 3.10-3.12 and
a C++ compiler. Interrupted or failed, it goes on where it was when run again: the
file `.complete` in the environment, written last, tells a finished one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import json
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
PREBUILT = ('build', 'runtime', 'tests', 'optional')
OLDEST, NEWEST = (3, 10), (3, 12)
NAME_PYTHON = 'make test PYTHON=/path/to/python3.11'
GIB = 2**30
NEEDED_DISK = 3 * GIB
MEMORY_PER_JOB = 2 * GIB
# Extra pip options that make a rebuild use neither pip's cache, which does not
# know what torch a wheel was compiled against, nor what is installed.
REBUILD = ('--no-cache-dir', '--force-reinstall', '--no-deps')

CHECK_MMCV = """
import torch
from mmcv.ops import nms
boxes = torch.tensor([[0., 0., 10., 10.], [1., 0., 10., 10.], [20., 20., 30., 30.]])
scores = torch.tensor([0.9, 0.8, 0.7])
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    kept = nms(boxes.to(device), scores.to(device), 0.5)[1].tolist()
    assert kept == [0, 2], f'nms on {device} keeps {kept} instead of [0, 2]'
"""
DESCRIBE_PYTHON = """
import json, sys, sysconfig
print(json.dumps({
    'version': sys.version_info[:2],
    'include': sysconfig.get_path('include'),
}))
"""
CHECK_INPLACE_ABN = 'import torch, inplace_abn'
DESCRIBE_TORCH = """
import json, torch
from torch.utils.cpp_extension import CUDA_HOME
print(json.dumps({
    'version': torch.__version__,
    'cuda': torch.version.cuda,
    'sees_gpu': torch.cuda.is_available(),
    'cuda_home': CUDA_HOME,
}))
"""

# What pip and the compiler write when something is wrong, and what to do then.
KNOWN_FAILURES = (
    (
        r'No space left on device',
        'The disk is full. Free some space (a CPU torch needs about 3 GB, a CUDA '
        'torch about 10 GB); TMPDIR says where packages are unpacked.',
    ),
    (
        r'fatal error: Python\.h',
        'The headers of Python are missing. On Debian and Ubuntu: '
        "'apt-get install python3-dev'.",
    ),
    (
        r'Killed signal terminated program|internal compiler error: Killed',
        'The compiler ran out of memory. Run the command again with MAX_JOBS=1 '
        'before it.',
    ),
    (
        r'The detected CUDA version .* mismatches',
        'torch was built for another CUDA than the installed compiler (nvcc). Set '
        'CUDA_HOME to a toolkit of the CUDA version of torch, or use the CPU '
        'alone: put CUDA_VISIBLE_DEVICES= before the command.',
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


def check_venv_modules() -> None:
    """Raises SetupError unless this Python can make virtual environments."""
    for module in ('venv', 'ensurepip'):
        if importlib.util.find_spec(module) is None:
            raise SetupError(
                f'{sys.executable} cannot make virtual environments: it has no '
                f"module {module}. On Debian and Ubuntu: 'apt-get install "
                f"python3-venv'. Or name another Python: {NAME_PYTHON}"
            )


def check_compiler(include: str) -> None:
    """Raises SetupError unless C++ extensions of Python can be compiled.

    Args:
        include (str): Folder that should hold Python.h.
    """
    compiler = os.environ.get('CXX', 'c++').split()
    if shutil.which(compiler[0]) is None:
        raise SetupError(
            f'There is no C++ compiler ({compiler[0]} is not found); mmcv is compiled '
            "here. On Debian and Ubuntu: 'apt-get install g++'. Elsewhere install "
            'GCC 9 or later and, if it is not called c++, name it: CXX=g++'
        )
    if not Path(include, 'Python.h').is_file():
        raise SetupError(
            f'The headers of Python are missing: no Python.h in {include}. On Debian '
            "and Ubuntu: 'apt-get install python3-dev' (python3.11-dev and so on for "
            'another Python than the default one).'
        )
    source = '#include <Python.h>\n#include <optional>\nint main() { return 0; }\n'
    trial = subprocess.run(
        [*compiler, '-std=c++17', '-fsyntax-only', '-I', include, '-x', 'c++', '-'],
        input=source,
        capture_output=True,
        text=True,
    )
    if trial.returncode:
        raise SetupError(
            f'{compiler[0]} does not compile a small C++17 program that includes '
            f'Python.h; install GCC 9 or later. It says:\n{trial.stderr.strip()}'
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


def cuda_advice(torch: dict, nvcc: str | None, has_gpu: bool) -> tuple[bool, str]:
    """Tells whether mmcv can be compiled for the GPU of this machine.

    Args:
        torch (dict): What DESCRIBE_TORCH printed.
        nvcc (str | None): Release of the CUDA compiler, '13.0'; None without one.
        has_gpu (bool): Whether the driver of an NVIDIA GPU is loaded.

    Returns:
        tuple[bool, str]: Whether to go on, and what the user should know ('' if
        all is well).
    """
    cuda = torch['cuda']
    on_cpu = (
        'To use the CPU alone instead, put CUDA_VISIBLE_DEVICES= before this and '
        'every later command.'
    )
    if not torch['sees_gpu']:
        if not has_gpu or os.environ.get('CUDA_VISIBLE_DEVICES') == '':
            return True, ''
        if cuda is None:
            reason = f'torch {torch["version"]} is a build without CUDA'
        else:
            reason = f'torch cannot use it (is its driver new enough for CUDA {cuda}?)'
        return (
            True,
            f'There is an NVIDIA GPU, but {reason}: everything runs on the CPU.',
        )
    if nvcc is None:
        return False, (
            f'torch sees a GPU, but there is no CUDA compiler (nvcc): the ops of mmcv '
            f'would be missing on the GPU. Install the CUDA toolkit {cuda} and set '
            f'CUDA_HOME to its folder. {on_cpu}'
        )
    if nvcc.split('.')[0] != cuda.split('.')[0]:
        return False, (
            f'torch {torch["version"]} was built for CUDA {cuda}, but the CUDA '
            f'compiler (nvcc) in {torch["cuda_home"]} is {nvcc}. Set CUDA_HOME to a '
            f'CUDA toolkit {cuda}, or install a build of the same torch for CUDA '
            f'{nvcc} into the environment and run the command again. {on_cpu}'
        )
    return True, ''


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


def explain_failure(log: str) -> str:
    """What to do about a failure, if its cause is a known one; else ''."""
    for pattern, advice in KNOWN_FAILURES:
        if re.search(pattern, log):
            return advice
    return ''


def pinned(name: str) -> list[str]:
    """The requirements in a file of requirements/, without its comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def fingerprint() -> str:
    """Changes with everything that decides what is installed."""
    files = [*sorted((ROOT / 'requirements').glob('*.txt')), Path(__file__)]
    return hashlib.sha256(b'\0'.join(f.read_bytes() for f in files)).hexdigest()


def say(text: str = '') -> None:
    """Prints a line at once, also into a pipe."""
    print(text, flush=True)


class Environment:
    """A virtual environment and the log of what was done to it.

    Args:
        folder (Path): Where it is or shall be.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / 'bin' / 'python'
        self.stamp = folder / '.complete'
        self.log = folder / 'setup.log'
        # Names of this environment are for setup.py files of what is compiled;
        # the user's own MAX_JOBS goes first, mmcv without ops is never wanted.
        self.variables = {
            'MAX_JOBS': str(
                build_jobs(len(os.sched_getaffinity(0)), available_memory())
            ),
            **os.environ,
            'MMCV_WITH_OPS': '1',
            'PIP_NO_INPUT': '1',
            'PIP_DISABLE_PIP_VERSION_CHECK': '1',
            'PYTHONUNBUFFERED': '1',
        }

    def is_complete(self) -> bool:
        """Whether a set-up like this one was finished, and its Python runs."""
        return (
            self.stamp.is_file()
            and self.stamp.read_text() == fingerprint()
            and self.runs('pass')
        )

    def create(self) -> None:
        """Makes the folder, its Python and pip, unless they are there and work."""
        if self.runs('import pip'):
            return
        if (
            self.folder.exists()
            and any(self.folder.iterdir())
            and not (self.folder / 'pyvenv.cfg').is_file()
        ):
            raise SetupError(
                f'{self.folder} exists and is no virtual environment. Name another '
                'folder: make test VENV=.venv'
            )
        check_version(sys.version_info, sys.executable)
        check_venv_modules()
        check_disk(self.folder.parent)
        say(f'Making the virtual environment {self.folder} ...')
        made = subprocess.run(
            [sys.executable, '-m', 'venv', '--clear', str(self.folder)],
            capture_output=True,
            text=True,
        )
        if made.returncode:
            raise SetupError(
                f'{sys.executable} could not make the virtual environment '
                f'{self.folder}:\n{(made.stdout + made.stderr).strip()}'
            )

    def runs(self, code: str) -> bool:
        """Whether a piece of Python runs in the environment."""
        # A Python that was removed leaves a broken link behind.
        return self.python.exists() and self._python('-c', code).returncode == 0

    def ask(self, code: str) -> dict:
        """The JSON object that a piece of Python prints in the environment."""
        return json.loads(self._python('-c', code, check=True).stdout)

    def check(self, code: str) -> str:
        """The last line of the error of a piece of Python; '' if it runs."""
        result = self._python('-c', code)
        if result.returncode == 0:
            return ''
        # A crash prints nothing: then its exit status has to do.
        lines = result.stderr.strip().splitlines()
        return lines[-1] if lines else f'exit status {result.returncode}'

    def has(self, requirement: str) -> bool:
        """Whether a requirement, 'name==version', is installed."""
        name, version = requirement.split('==')
        return self.runs(
            'from importlib.metadata import version; '
            f'assert version({name!r}) == {version!r}'
        )

    def pip_install(self, title: str, *arguments: str) -> None:
        """Runs pip install with everything it says in the log, and shows progress.

        Raises:
            SetupError: If pip fails; with what to do where the cause is known.
        """
        command = [str(self.python), '-m', 'pip', 'install', '--progress-bar', 'off']
        command += arguments
        with self.log.open('ab') as log:
            log.write(f'\n$ {" ".join(command)}\n'.encode())
            log.flush()
            start = log.tell()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                self._show_progress(process, title, start)
            except BaseException:
                process.terminate()
                process.wait()
                raise
        if process.returncode:
            text = self._log_since(start)
            raise SetupError(
                f'pip failed while {title}. The end of its log, {self.log}:\n'
                + '\n'.join(f'    {line}' for line in text.splitlines()[-25:])
                + f'\n{explain_failure(text)}'
            )

    def _python(
        self, *arguments: str, check: bool = False
    ) -> subprocess.CompletedProcess:
        """Runs the Python of the environment and keeps what it prints."""
        return subprocess.run(
            [str(self.python), *arguments],
            env=self.variables,
            capture_output=True,
            text=True,
            check=check,
        )

    def _log_since(self, start: int) -> str:
        """The log from a byte on."""
        with self.log.open('rb') as log:
            log.seek(start)
            return log.read().decode(errors='replace')

    def _show_progress(self, process: subprocess.Popen, title: str, start: int) -> None:
        """Tells every second (a terminal) or half minute that pip is at work."""
        begin = time.monotonic()
        terminal = sys.stdout.isatty()
        wait = 1 if terminal else 30
        say(f'{title} ...')
        while True:
            try:
                process.wait(wait)
                break
            except subprocess.TimeoutExpired:
                progress = ninja_progress(self._log_since(start))
                line = f'  {title}{progress}, {duration(time.monotonic() - begin)}'
                print(f'\r{line}\033[K' if terminal else line, flush=True, end='')
                if not terminal:
                    say()
        outcome = 'failed' if process.returncode else 'done'
        say(
            ('\r\033[K' if terminal else '')
            + f'  {outcome} in {duration(time.monotonic() - begin)}'
        )


def check_cuda(environment: Environment) -> None:
    """Says or raises what stands between mmcv and the GPU of this machine."""
    torch = environment.ask(DESCRIBE_TORCH)
    nvcc = None
    if torch['cuda_home'] and Path(torch['cuda_home'], 'bin/nvcc').is_file():
        version = subprocess.run(
            [f'{torch["cuda_home"]}/bin/nvcc', '--version'],
            capture_output=True,
            text=True,
            check=True,
        )
        nvcc = re.search(r'release (\d+\.\d+)', version.stdout)[1]
    has_gpu = Path('/proc/driver/nvidia/version').is_file()
    go_on, advice = cuda_advice(torch, nvcc, has_gpu)
    if not go_on:
        raise SetupError(advice)
    if advice:
        say(f'Note: {advice}')


def install_compiled(environment: Environment, requirement: str, check: str) -> None:
    """Installs a package that compiles against torch, and checks that it works.

    A wheel in pip's cache may have been compiled against another torch; it is then
    compiled anew, once.

    Args:
        environment (Environment): Where to.
        requirement (str): The package and its version, 'mmcv==2.1.0'.
        check (str): Python code that fails if it does not work.

    Raises:
        SetupError: If it cannot be compiled or does not work.
    """
    name = requirement.split('==')[0]
    if environment.has(requirement) and not environment.check(check):
        return
    arguments = ['-v', '--no-build-isolation', requirement]
    environment.pip_install(f'building {requirement}', *arguments)
    if problem := environment.check(check):
        say(
            f'{name} does not work ({problem}). It may come from the cache of pip, '
            'compiled against another torch, so it is compiled anew.'
        )
        environment.pip_install(f'building {requirement} again', *REBUILD, *arguments)
        problem = environment.check(check)
    if problem:
        raise SetupError(
            f'{requirement} was built, but does not work: {problem}\n'
            f'The log of the build is {environment.log}.'
        )


def set_up(environment: Environment) -> None:
    """Brings an environment to what requirements/ says.

    Raises:
        SetupError: If that cannot be done; the message says what to mend.
    """
    environment.create()
    # Known in seconds, so said before the minutes of downloading and compiling.
    python = environment.ask(DESCRIBE_PYTHON)
    check_version(python['version'], environment.python)
    check_compiler(python['include'])
    environment.stamp.unlink(missing_ok=True)
    files = [
        argument
        for name in PREBUILT
        for argument in ('-r', str(ROOT / 'requirements' / f'{name}.txt'))
    ]
    environment.pip_install('installing torch and what else is prebuilt', *files)
    if 'libGL' in (problem := environment.check('import cv2')):
        raise SetupError(
            f'OpenCV cannot be loaded ({problem}). On Debian and Ubuntu: '
            "'apt-get install libgl1 libglib2.0-0'."
        )
    check_cuda(environment)
    mmcv, inplace_abn = pinned('compiled')
    if not environment.has(mmcv):
        say(
            'Next mmcv is compiled with its ops: about 10 minutes on two processors, '
            f'seconds if pip has it in its cache. Details: {environment.log}'
        )
    install_compiled(environment, mmcv, CHECK_MMCV)
    try:
        install_compiled(environment, inplace_abn, CHECK_INPLACE_ABN)
    except SetupError as error:
        say(
            f'Warning: {error}\nGoing on without {inplace_abn}: its place is taken '
            'by the engine in plain PyTorch, which gives the same numbers. To try '
            f'again later, remove {environment.stamp}.'
        )
    environment.pip_install(
        'installing what the tests compare with',
        *('--no-deps', '-r', str(ROOT / 'requirements' / 'tests_no_deps.txt')),
    )
    environment.pip_install(
        'installing mmdet_efficientps itself',
        *('--no-deps', '--no-build-isolation', '--use-pep517', '-e', str(ROOT)),
    )
    environment.stamp.write_text(fingerprint())


def main() -> int:
    """Runs the set-up; the exit status is 1 if the user has to mend something."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument(
        '--venv', type=Path, default=ROOT / '.venv', help='the environment (.venv)'
    )
    environment = Environment(parser.parse_args().venv.absolute())
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
