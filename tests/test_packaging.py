# Licensed under the Apache License, Version 2.0. See LICENSE.
"""The distribution, from the sdist to `mim train` in an environment of its own."""

import functools
import http.server
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import threading
import venv
import zipfile
from collections import Counter
from contextlib import suppress
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from mmengine.config import Config
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mmdet_efficientps.utils.environment import STACKS

ROOT = Path(__file__).parents[1]
DEMO = 'efficientps_lite0-small_1xb2-760_toy-city-256x512'
UNREACHABLE = (
    'No matching distribution found|Temporary failure in name resolution|'
    'Connection refused|Max retries exceeded|Network is unreachable'
)
BUILD = 'import sys; from setuptools import build_meta as b; b.build_{}(sys.argv[1])'


def succeed(command, **kwargs):
    """Run a command that must succeed; gives what it prints."""
    result = subprocess.run(
        [str(part) for part in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **kwargs,
    )
    assert result.returncode == 0, result.stdout[-3000:]
    return result.stdout


def listed_models():
    """Models of all metafiles, as mim would find them."""
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())
    metafiles = [yaml.safe_load((ROOT / path).read_text()) for path in index['Import']]
    collections = {c['Name'] for meta in metafiles for c in meta['Collections']}
    return [model for meta in metafiles for model in meta['Models']], collections


def config_files():
    """Configs to be used, not inherited from."""
    files = (ROOT / 'configs').rglob('*.py')
    return [file for file in files if '_base_' not in file.parts]


def test_metafiles_list_every_config():
    models, collections = listed_models()
    named = {model['Name']: model['Config'] for model in models}
    files = {file.stem: str(file.relative_to(ROOT)) for file in config_files()}
    assert named == files
    assert len(named) == len(models)
    assert {model['In Collection'] for model in models} <= collections


def test_metafiles_name_the_data_set_of_the_config():
    datasets = {
        'CityscapesPanopticDataset': {'Cityscapes', 'toy_city'},
        'KITTIPanopticDataset': {'KITTI'},
        'IDDPanopticDataset': {'IDD'},
        'MapillaryVistasV1PanopticDataset': {'Mapillary Vistas v1.2'},
        'MapillaryVistasV2PanopticDataset': {'Mapillary Vistas v2.0'},
        'PanopticDataset': {'Pedestrian zone', 'COCO'},
    }
    for model in listed_models()[0]:
        dataset = Config.fromfile(ROOT / model['Config']).train_dataloader.dataset
        while 'dataset' in dataset:
            dataset = dataset.dataset
        training_data = model['Metadata']['Training Data']
        assert training_data in datasets[dataset.type], model['Name']


def test_file_names_of_configs_are_unique():
    # mim and get_config find configs by their file names alone.
    paths = [*(ROOT / 'configs').rglob('*.py'), *ROOT.glob('mmdet_efficientps/**/*.py')]
    counts = Counter(path.name for path in paths if '.mim' not in path.parts)
    assert not [file.name for file in config_files() if counts[file.name] > 1]


# From here on distributions are built and environments made.
slow = pytest.mark.slow


@pytest.fixture(scope='module')
def sdist(tmp_path_factory):
    """The unpacked sdist, built in a copy of what git has or could have."""
    checkout = tmp_path_factory.mktemp('checkout')
    outside = shutil.ignore_patterns('.*', 'data', 'work_dirs', 'build', 'dist')
    shutil.copytree(
        ROOT,
        checkout,
        ignore=lambda folder, names: (
            outside(folder, names)
            if Path(folder) == ROOT
            else shutil.ignore_patterns('__pycache__', '.mim')(folder, names)
        ),
        dirs_exist_ok=True,
    )
    # An editable installation: its links are no files of the package.
    (checkout / 'mmdet_efficientps' / '.mim').mkdir()
    for name in ('configs', 'model-index.yml'):
        link = checkout / 'mmdet_efficientps' / '.mim' / name
        link.symlink_to(checkout / name)
    out = tmp_path_factory.mktemp('sdist')
    succeed([sys.executable, '-c', BUILD.format('sdist'), out], cwd=checkout)
    with tarfile.open(next(out.glob('*.tar.gz'))) as archive:
        archive.extractall(out, filter='data')
    return next(path for path in out.iterdir() if path.is_dir())


@pytest.fixture(scope='module')
def wheel(sdist, tmp_path_factory):
    """The wheel, built from the sdist as `python -m build` does."""
    out = tmp_path_factory.mktemp('wheel')
    succeed([sys.executable, '-c', BUILD.format('wheel'), out], cwd=sdist)
    return next(out.glob('*.whl'))


@slow
def test_sdist_holds_sources_and_no_test_data(sdist):
    files = {str(p.relative_to(sdist)) for p in sdist.rglob('*') if p.is_file()}
    assert {'LICENSE', 'README.md', 'model-index.yml', 'tools/train.py'} <= files
    assert not [file for file in files if file.startswith(('tests', 'data'))]
    assert not [file for file in files if '.mim' in file]


@slow
def test_wheel_holds_what_the_package_and_mim_need(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())
    package = ROOT / 'mmdet_efficientps'
    for path in package.rglob('*'):
        own = path.relative_to(package)
        if path.is_file() and not {'__pycache__', '.mim'} & set(own.parts):
            assert f'mmdet_efficientps/{own}' in files
    for folder in ('configs', 'demo', 'tools'):
        for path in (ROOT / folder).rglob('*.[psym]*'):
            if '__pycache__' not in path.parts and not path.name.startswith('.'):
                assert f'mmdet_efficientps/.mim/{path.relative_to(ROOT)}' in files
    assert 'mmdet_efficientps/.mim/model-index.yml' in files
    # nothing but the package is installed
    tops = {file.split('/')[0].split('-')[0] for file in files}
    assert tops == {'mmdet_efficientps'}
    # whoever imports the package has its types checked
    assert 'mmdet_efficientps/py.typed' in files
    assert not [f for f in files if 'tests/' in f or f.endswith(('.npz', '.pyc'))]


def packages_for(wheel):
    """Names of all packages that pip takes for a wheel with all its extras.

    As far as they are installed here: what those ask for in turn is read from them.
    """
    with zipfile.ZipFile(wheel) as archive:
        (info,) = (
            p for p in zipfile.Path(archive).iterdir() if p.suffix == '.dist-info'
        )
        own = metadata.PathDistribution(info)
        pending = [(own, own.metadata.get_all('Provides-Extra'))]
        names = set()
        while pending:
            distribution, extras = pending.pop()
            for requirement in map(Requirement, distribution.requires or ()):
                marker = requirement.marker
                chosen = [{'extra': extra} for extra in ('', *extras)]
                if marker and not any(map(marker.evaluate, chosen)):
                    continue
                name = canonicalize_name(requirement.name)
                if name in names:
                    continue
                names.add(name)
                with suppress(metadata.PackageNotFoundError):
                    pending.append((metadata.distribution(name), requirement.extras))
    return names


@slow
def test_installing_the_wheel_brings_neither_stack(wheel):
    names = packages_for(wheel)
    # what it asks for, what that asks for, and what an extra asks for
    assert {'cityscapesscripts', 'pyquaternion', 'onnxscript'} <= names
    stacks = {p.name for packages in STACKS.values() for p in packages.values()}
    assert not names & {*stacks, 'mmcv-lite'}


@slow
@pytest.mark.parametrize('command', ['develop', 'editable_wheel'])
def test_an_editable_checkout_links_what_mim_looks_for(sdist, tmp_path, command):
    checkout = shutil.copytree(sdist, tmp_path / 'checkout')
    # --help: what is written is all that happens before the installation
    succeed([sys.executable, 'setup.py', command, '--help'], cwd=checkout)
    mim = checkout / 'mmdet_efficientps' / '.mim'
    assert (mim / 'configs').resolve() == checkout / 'configs'
    assert (mim / 'tools' / 'train.py').is_file()
    assert (mim / 'model-index.yml').is_file()
    # and again over the links, without following them
    succeed([sys.executable, 'setup.py', command, '--help'], cwd=checkout)
    assert (checkout / 'tools' / 'train.py').is_file()


def documented_pip_commands():
    """What docs/mim.md tells to install, as lists of arguments."""
    text = (ROOT / 'docs' / 'mim.md').read_text()
    lines = re.findall(r'^pip install .*', text, re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


@pytest.fixture(scope='module')
def mim(wheel, tmp_path_factory):
    """Run mim in an environment made as docs/mim.md tells, the wheel for the checkout.

    The environment finds torch, mmdet and the like where this Python has them.
    """
    folder = tmp_path_factory.mktemp('mim_environment')
    venv.create(folder, with_pip=True)
    paths = sysconfig.get_paths(vars={'base': str(folder), 'platbase': str(folder)})
    shared = {sysconfig.get_path(kind) for kind in ('purelib', 'platlib')}
    # As sites, since setuptools brings distutils to Python 3.12 by a file .pth.
    lines = [f'import site; site.addsitedir({path!r})' for path in shared]
    Path(paths['purelib'], 'shared.pth').write_text('\n'.join(lines))
    for command in documented_pip_commands():
        command = ['python', '-m', *command, '--quiet', '--no-compile']
        if '.' in command:
            # not once more from the checkout, and beside the editable one
            command[command.index('.')] = wheel
            command += ['--no-deps', '--ignore-installed']
        command[0] = folder / 'bin' / 'python'
        installed = subprocess.run(command, capture_output=True, text=True)
        if installed.returncode and re.search(UNREACHABLE, installed.stderr):
            pytest.skip('openmim cannot be installed: pip needs a package index')
        assert installed.returncode == 0, installed.stderr
    work = tmp_path_factory.mktemp('work')

    def run(*arguments):
        return succeed([folder / 'bin' / 'mim', *arguments], cwd=work)

    run.work = work
    run.installed = Path(paths['purelib'], 'mmdet_efficientps')
    return run


@slow
def test_mim_trains_and_tests_from_the_wheel(mim):
    # where the config looks for it, from the folder the commands run in
    small = ('--num-train', '2', '--num-val', '1', '--size', '64', '128')
    mim('run', 'mmdet_efficientps', 'prepare_dataset', 'toy-city', *small)
    options = [
        '--cfg-options',
        'model.backbone.init_cfg=None',
        'default_hooks.logger.interval=1',
    ]
    short = ['train_cfg.max_iters=2', 'train_cfg.val_interval=2']
    out = mim(
        *('train', 'mmdet_efficientps', f'{DEMO}.py', '--work-dir', 'out'),
        *(*options, *short),
    )
    assert f'.mim/configs/efficientps/{DEMO}.py' in out
    losses = [float(loss) for loss in re.findall(r' loss: ([\d.]+)', out)]
    assert len(losses) == 2
    assert np.isfinite(losses).all()
    (checkpoint,) = (mim.work / 'out').glob('best_*.pth')
    assert torch.load(checkpoint, weights_only=True)['state_dict']
    out = mim(
        *('test', 'mmdet_efficientps', f'{DEMO}.py', '--checkpoint', checkpoint),
        *options,
    )
    assert re.search(r'panoptic/PQ: [\d.]+', out)


@slow
def test_mim_lists_the_package(mim):
    # It needs pkg_resources, which not every setuptools has on every Python.
    assert re.search(r'^mmdet[_-]efficientps ', mim('list'), re.MULTILINE)


@slow
def test_mim_searches(mim):
    out = mim('search', 'mmdet_efficientps', '--dataset', 'toy_city')
    assert f'config id: {DEMO}\n' in out
    assert 'cityscapes-1024x2048' not in out
    # it prints the ids of all
    out = mim('search', 'mmdet_efficientps', '--valid-config')
    assert all(repr(model['Name']) in out for model in listed_models()[0])


@slow
def test_mim_downloads_weights_that_a_metafile_names(mim, tmp_path):
    (tmp_path / 'demo.pth').write_bytes(b'weights')
    handler = functools.partial(
        http.server.SimpleHTTPRequestHandler, directory=tmp_path
    )
    metafile = mim.installed / '.mim' / 'configs' / 'efficientps' / 'metafile.yml'
    text = metafile.read_text()
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/demo.pth'
        name = f'  - Name: {DEMO}\n'
        metafile.write_text(text.replace(name, f'{name}    Weights: {url}\n'))
        arguments = ('--config', DEMO, '--dest', tmp_path / 'out')
        mim('download', 'mmdet_efficientps', *arguments)
        server.shutdown()
    metafile.write_text(text)
    assert (tmp_path / 'out' / 'demo.pth').read_bytes() == b'weights'
    config = Config.fromfile(tmp_path / 'out' / f'{DEMO}.py')
    assert config.model.type == 'EfficientPS'
