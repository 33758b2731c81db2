# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The set-up finds what is missing before it starts, and says what to do."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import cpp_extension

from mmdet_efficientps.utils.environment import installed_version

ROOT = Path(__file__).parents[2]
GIB = 2**30
PINS = Path('constraints-openmmlab.txt')


@pytest.fixture(scope='module')
def setup_env():
    spec = importlib.util.spec_from_file_location(
        'setup_env', ROOT / 'tools' / 'setup_env.py'
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('version', [(3, 10, 0), (3, 11, 7), (3, 12, 9)])
def test_supported_python_passes(setup_env, version):
    setup_env.check_version(version, 'python3')


@pytest.mark.parametrize('version', [(2, 7, 18), (3, 9, 18), (3, 13, 0)])
def test_unsupported_python_is_named(setup_env, version):
    with pytest.raises(setup_env.SetupError, match=f'3.{version[1]}|2.7') as caught:
        setup_env.check_version(version, '/usr/bin/python3')
    assert '/usr/bin/python3' in str(caught.value)
    assert 'PYTHON=' in str(caught.value)


def test_missing_compiler_says_what_to_install(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('PATH', str(tmp_path))
    monkeypatch.delenv('CXX', raising=False)
    with pytest.raises(setup_env.SetupError, match=r'no C\+\+ compiler') as caught:
        setup_env.check_compiler(str(tmp_path))
    assert 'g++' in str(caught.value)


@pytest.fixture
def compiler(monkeypatch, tmp_path):
    """Makes a compiler of a shell command and chooses it."""

    def make(command):
        path = tmp_path / 'compiler'
        path.write_text(f'#!/bin/sh\n{command}\n')
        path.chmod(0o755)
        monkeypatch.setenv('CXX', str(path))

    return make


def test_missing_headers_say_what_to_install(setup_env, tmp_path):
    # The real compiler, without the folder of the headers.
    if shutil.which('c++') is None:
        pytest.skip('there is no C++ compiler')
    with pytest.raises(setup_env.SetupError, match='Python.h') as caught:
        setup_env.check_compiler(str(tmp_path))
    assert 'python3-dev' in str(caught.value)


def test_compiler_that_fails_is_quoted(setup_env, compiler, tmp_path):
    compiler('cat >/dev/null; echo unknown option -std=c++17 >&2; exit 1')
    with pytest.raises(setup_env.SetupError, match='unknown option'):
        setup_env.check_compiler(str(tmp_path))


def test_compiler_that_works_passes(setup_env, compiler, tmp_path):
    compiler('cat >/dev/null')
    setup_env.check_compiler(str(tmp_path))


def test_full_disk_is_found_before_anything_is_installed(
    setup_env, monkeypatch, tmp_path
):
    usage = setup_env.shutil._ntuple_diskusage(100 * GIB, 99 * GIB, GIB)
    monkeypatch.setattr(setup_env.shutil, 'disk_usage', lambda place: usage)
    with pytest.raises(setup_env.SetupError, match='Only 1.0 GB'):
        setup_env.check_disk(tmp_path)


@pytest.mark.parametrize(
    ('processors', 'gib', 'jobs'), [(2, 24, 2), (16, 8, 4), (8, 1, 1), (64, 128, 64)]
)
def test_compilers_fit_processors_and_memory(setup_env, processors, gib, jobs):
    assert setup_env.build_jobs(processors, gib * GIB) == jobs


def test_progress_is_the_last_step_of_ninja(setup_env):
    log = '  [1/77] c++ a.cpp\n  warning: x[3/4]\n  [23/77] c++ b.cpp\n  note\n'
    assert setup_env.ninja_progress(log) == ', 23 of 77 files'
    assert setup_env.ninja_progress('Collecting mmcv==2.1.0\n') == ''


def test_duration_is_for_people(setup_env):
    assert setup_env.duration(12.7) == '12 s'
    assert setup_env.duration(190) == '3 min 10 s'


@pytest.mark.parametrize(
    ('log', 'advice'),
    [
        ("OSError: [Errno 28] No space left on device: '/tmp/x'", 'disk is full'),
        ('a.cpp:1:10: fatal error: Python.h: No such file', 'python3-dev'),
        ('c++: fatal error: Killed signal terminated program cc1plus', 'MAX_JOBS=1'),
        ('No module named venv', 'python3-venv'),
        ('virtual environment was not created: ensurepip is not available', 'PYTHON='),
        ('ImportError: libGL.so.1: cannot open shared object file', 'libgl1'),
        ('Temporary failure in name resolution', 'network'),
        ('ERROR: No matching distribution found for torch==2.13.0', 'PYTHON='),
        ('error: something nobody has seen before', ''),
    ],
)
def test_known_failure_is_explained(setup_env, log, advice):
    explanation = setup_env.explain_failure(f'Collecting x\n{log}\n')
    assert advice in explanation
    assert bool(explanation) is bool(advice)


def test_missing_cuda_compiler_is_explained_in_torchs_words(setup_env, monkeypatch):
    monkeypatch.setattr(cpp_extension, 'CUDA_HOME', None)
    with pytest.raises(OSError, match='CUDA_HOME') as caught:
        cpp_extension.library_paths('cuda')
    assert 'no CUDA compiler' in setup_env.explain_failure(str(caught.value))


def test_cuda_compiler_of_another_version_is_explained_in_torchs_words(setup_env):
    error = RuntimeError(cpp_extension.CUDA_MISMATCH_MESSAGE, '12.4', '13.0')
    explanation = setup_env.explain_failure(str(error))
    assert 'another CUDA' in explanation
    assert 'CUDA_VISIBLE_DEVICES=' in explanation


@pytest.fixture
def half_made(setup_env, tmp_path):
    """An environment whose set-up was cut off before the end."""
    environment = setup_env.Environment(tmp_path / 'venv')
    environment.python.parent.mkdir(parents=True)
    environment.python.symlink_to(sys.executable)
    return environment


def test_half_made_environment_is_not_complete(setup_env, half_made):
    assert not half_made.is_complete()
    half_made.stamp.write_text(setup_env.fingerprint(half_made.stack))
    assert half_made.is_complete()


def test_environment_of_another_stack_is_not_complete(setup_env, half_made):
    half_made.stamp.write_text(setup_env.fingerprint('openmmlab'))
    half_made.stack = 'onedl'
    assert not half_made.is_complete()


def test_stack_is_not_installed_over_the_other(setup_env, half_made):
    # what is on the path of the tests is one of them
    installed = {'openmmlab': 'mmdet', 'onedl': 'onedl-mmdetection'}
    (own,) = (s for s, name in installed.items() if installed_version(name))
    (other,) = set(setup_env.STACKS) - {own}
    half_made.python = Path(sys.executable)
    half_made.stack = own
    half_made.check_stack()
    half_made.stack = other
    with pytest.raises(setup_env.SetupError, match=installed[own]) as caught:
        half_made.check_stack()
    assert f'VENV=.venv-{other}' in str(caught.value)


@pytest.mark.parametrize(
    ('options', 'venv'),
    [
        ((), '.venv --stack openmmlab'),
        (('STACK=onedl',), '.venv-onedl --stack onedl'),
        (('STACK=onedl', 'VENV=mine'), 'mine --stack onedl'),
    ],
)
def test_each_stack_has_a_folder_of_its_own(options, venv):
    command = ['make', '--dry-run', '--always-make', 'setup', *options]
    # What `make test STACK=onedl` hands down to a make of its own is not asked for.
    handed_down = {'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'STACK', 'VENV', 'ENV_PYTHON'}
    env = {name: v for name, v in os.environ.items() if name not in handed_down}
    out = subprocess.run(
        command, cwd=ROOT, env=env, capture_output=True, text=True, check=True
    )
    assert out.stdout.rstrip().endswith(f'tools/setup_env.py --venv {venv}')


def test_environment_of_other_requirements_is_not_complete(half_made):
    half_made.stamp.write_text('the requirements of last month')
    assert not half_made.is_complete()


def test_environment_without_its_python_is_not_complete(setup_env, half_made):
    half_made.stamp.write_text(setup_env.fingerprint(half_made.stack))
    half_made.python.unlink()
    assert not half_made.is_complete()


def test_folder_that_is_no_environment_is_left_alone(setup_env, tmp_path):
    (tmp_path / 'thesis.tex').write_text('years of work')
    with pytest.raises(setup_env.SetupError, match='no virtual environment'):
        setup_env.Environment(tmp_path).create()
    assert (tmp_path / 'thesis.tex').read_text() == 'years of work'


def test_own_max_jobs_is_kept(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('MAX_JOBS', '7')
    assert setup_env.Environment(tmp_path).variables['MAX_JOBS'] == '7'


@pytest.mark.parametrize(('own', 'flags'), [(None, '-g0'), ('-g -O1', '-g0 -g -O1')])
def test_nothing_is_compiled_for_a_debugger(
    setup_env, monkeypatch, tmp_path, own, flags
):
    monkeypatch.delenv('CFLAGS', raising=False)
    if own:
        monkeypatch.setenv('CFLAGS', own)
    assert setup_env.Environment(tmp_path).variables['CFLAGS'] == flags


def test_mmcv_is_never_built_without_ops(setup_env, monkeypatch, tmp_path):
    monkeypatch.setenv('MMCV_WITH_OPS', '0')
    assert setup_env.Environment(tmp_path).variables['MMCV_WITH_OPS'] == '1'


class FakeEnvironment:
    """Answers like an environment in which a package works after n builds."""

    log = 'setup.log'

    def __init__(self, works_after):
        self.works_after = works_after
        self.builds = []

    def problem_of(self, code):
        works = len(self.builds) >= self.works_after
        return '' if works else 'ImportError: _ext.so: undefined symbol: _ZN3c10'

    def pip_install(self, title, *arguments):
        self.builds.append(arguments)


def test_build_that_works_is_not_repeated(setup_env):
    environment = FakeEnvironment(works_after=1)
    setup_env.install_compiled(environment, 'mmcv', PINS, 'import mmcv.ops')
    (arguments,) = environment.builds
    assert '--no-build-isolation' in arguments
    # the version is a constraint from the file of requirements
    assert arguments[-3:] == ('-c', PINS, 'mmcv')


def test_cached_build_for_another_torch_is_built_anew_without_cache(setup_env):
    environment = FakeEnvironment(works_after=2)
    setup_env.install_compiled(environment, 'mmcv', PINS, 'import mmcv.ops')
    assert '--no-cache-dir' not in environment.builds[0]
    assert {'--no-cache-dir', '--force-reinstall'} <= set(environment.builds[1])


def test_build_that_never_works_stops_after_two(setup_env):
    environment = FakeEnvironment(works_after=3)
    with pytest.raises(setup_env.SetupError, match='undefined symbol'):
        setup_env.install_compiled(environment, 'mmcv', PINS, 'import mmcv.ops')
    assert len(environment.builds) == 2


def test_pip_that_fails_is_quoted(setup_env, half_made, tmp_path):
    half_made.python = Path(sys.executable)
    with pytest.raises(setup_env.SetupError) as caught:
        half_made.pip_install('installing nothing', '-r', tmp_path / 'missing.txt')
    message = str(caught.value)
    assert 'pip failed while installing nothing' in message
    assert 'missing.txt' in message
    assert str(half_made.log) in message
    # the whole command, to try it oneself
    assert f'-m pip install -r {tmp_path / "missing.txt"}' in half_made.log.read_text()


def test_requirements_are_pinned():
    for file in (ROOT / 'requirements').glob('*.txt'):
        lines = file.read_text().splitlines()
        assert all('==' in line for line in lines if not line.startswith('#')), file


def test_everything_required_is_installed_by_the_set_up(setup_env):
    named = {*setup_env.PREBUILT, 'compiled', 'tests_no_deps'}
    named |= {setup_env.constraints(stack).stem for stack in setup_env.STACKS}
    assert {file.stem for file in (ROOT / 'requirements').glob('*.txt')} == named


class Recorder:
    """An environment that only notes what it is to install."""

    def __init__(self, setup_env, folder, stack):
        self.stack = stack
        self.log = folder / 'setup.log'
        self.stamp = folder / '.complete'
        self.installed = []

    def create(self):
        """It is there."""

    check_python = check_stack = create

    def problem_of(self, code):
        return ''

    def pip_install(self, title, *arguments):
        self.installed += [str(argument) for argument in arguments]


@pytest.mark.parametrize(
    ('stack', 'names'),
    [
        ('openmmlab', ['mmengine', 'mmdet', 'mmcv']),
        ('onedl', ['onedl-mmengine', 'onedl-mmdetection', 'onedl-mmcv']),
    ],
)
def test_set_up_installs_the_packages_of_one_stack(
    setup_env, tmp_path, capsys, stack, names
):
    environment = Recorder(setup_env, tmp_path, stack)
    setup_env.set_up(environment)
    pinned = [name for name in environment.installed if 'mm' in Path(name).name[:8]]
    assert pinned == names
    assert str(setup_env.constraints(stack)) in environment.installed
    assert f'Next {names[-1]} is compiled' in capsys.readouterr().out
    # and this is a finished environment
    assert environment.stamp.read_text() == setup_env.fingerprint(stack)
