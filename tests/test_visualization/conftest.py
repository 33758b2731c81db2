# Licensed under the Apache License, Version 2.0. See LICENSE.
import shutil

import pytest


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
