# Licensed under the Apache License, Version 2.0. See LICENSE.
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest
from mmdet.utils import register_all_modules

import mmdet_efficientps  # noqa: F401
from mmdet_efficientps.testing.data_set_trees import WRITERS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope='session', autouse=True)
def _default_scope():
    """The scope configs are read in: every one of them sets default_scope."""
    register_all_modules(init_default_scope=True)


@pytest.fixture(scope='session')
def prepare():
    """Run tools/prepare_dataset.py in this process."""
    spec = importlib.util.spec_from_file_location(
        'prepare_dataset', ROOT / 'tools/prepare_dataset.py'
    )
    prepare_dataset = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare_dataset)

    def _prepare(*arguments):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, 'argv', ['prepare_dataset.py', *map(str, arguments)])
            prepare_dataset.main()

    return _prepare


@pytest.fixture
def load_tool(monkeypatch):
    """Import a script of tools/ for one test; scripts it imports go first."""

    def _load_tool(path):
        spec = importlib.util.spec_from_file_location(
            Path(path).stem, ROOT / 'tools' / path
        )
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        return module

    return _load_tool


@pytest.fixture
def write_tree(tmp_path):
    """Write the miniature of a kind; gives what to spoil and what to expect."""

    def _write_tree(kind, folder='download', **kwargs):
        return WRITERS[kind](tmp_path / folder, **kwargs)

    return _write_tree


@pytest.fixture(params=WRITERS)
def tree(request, write_tree):
    """The miniature of each kind."""
    return write_tree(request.param)


@pytest.fixture(scope='session')
def chromium():
    """A headless Chromium, driven by selenium."""
    webdriver = pytest.importorskip(
        'selenium.webdriver', reason='needs selenium: pip install selenium'
    )
    paths = [
        next(filter(None, map(shutil.which, names)), None)
        for names in (('chromium', 'chromium-browser', 'chrome'), ('chromedriver',))
    ]
    if None in paths:
        pytest.skip(
            'needs Chromium and its driver: apt-get install chromium chromium-driver'
        )
    options = webdriver.ChromeOptions()
    options.binary_location = paths[0]
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-dev-shm-usage',
        '--window-size=1300,900',
        # Whatever a page would fetch fails and is logged.
        '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost',
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(paths[1])
    )
    yield driver
    driver.quit()


@pytest.fixture
def open_page(chromium):
    """Open a file; at the end of the test nothing may be on the console."""

    def open_file(path):
        chromium.get(path.as_uri())
        return chromium

    yield open_file
    assert chromium.get_log('browser') == []
