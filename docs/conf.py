# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Builds the documentation site: `make docs`.

The pages are the Markdown files of this folder, which read on their own, too, and a few
that lie where people look for them in a checkout: CONTRIBUTING.md, the READMEs of the
configs. The reference comes from the docstrings.

DOCS_SOURCE_URL may name where the files of this checkout can be seen, as in
https://example.org/mmdet_efficientps/blob/main: links to scripts and configs then go
there. Without it the site brings copies of these files.
"""

import os
import re
import sys
from pathlib import Path

from mmcv.transforms.utils import cache_randomness
from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from mmdet_efficientps.version import __version__  # noqa: E402

project = 'mmdet_efficientps'
author = 'the authors of mmdet_efficientps'
copyright = author  # noqa: A001
release = __version__

extensions = [
    'myst_parser',
    'sphinx.ext.autodoc',
    'sphinx.ext.napoleon',
    'sphinx.ext.viewcode',
    'sphinx_copybutton',
    'sphinx_design',
]
exclude_patterns = ['_build']

myst_enable_extensions = ['colon_fence']
# Deep enough for every link to a heading, which are made as on GitHub.
myst_heading_anchors = 3

# Types are in the docstrings already, with shapes.
autodoc_typehints = 'none'
autodoc_default_options = {'members': True, 'show-inheritance': True}
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = 'furo'
html_title = f'mmdet_efficientps {release}'
html_static_path = ['_static']
html_css_files = ['site.css']
html_show_copyright = False
html_copy_source = False
# Without the prompt or what a command prints.
copybutton_exclude = '.linenos, .gp, .go'

# Pages that are a file from elsewhere in the checkout.
ELSEWHERE = {
    'ablations': ROOT / 'configs/ablations/README.md',
    'changelog': ROOT / 'CHANGELOG.md',
    'configs': ROOT / 'configs/efficientps/README.md',
    'contributing': ROOT / 'CONTRIBUTING.md',
}
LINK = re.compile(r'(!?)\[([^][]*)\]\(([^)\s:#]+)(#[^)\s]*)?\)')


def read_page(app: Sphinx, docname: str, source: list[str]) -> None:
    """Fetch pages from elsewhere, and mend links that leave this folder.

    Args:
        app (Sphinx): Not used.
        docname (str): The page, such as 'datasets/labels'.
        source (list[str]): Its text as the only item, which is replaced.
    """
    page = DOCS / f'{docname}.md'
    origin = ELSEWHERE.get(docname, page)
    pages = {path: DOCS / f'{name}.md' for name, path in ELSEWHERE.items()}
    url = os.environ.get('DOCS_SOURCE_URL', '').rstrip('/')

    def mend(link: re.Match) -> str:
        image, text, target, anchor = link.groups(default='')
        path = Path(os.path.normpath(origin.parent / target))
        inside = origin == page and path.is_relative_to(DOCS)
        path = pages.get(path, path)
        if inside or not path.exists():
            return link[0]
        if not path.is_relative_to(DOCS):
            if url:
                return f'{image}[{text}]({url}/{path.relative_to(ROOT)}{anchor})'
            if path.is_dir():
                return text
        return f'{image}[{text}]({os.path.relpath(path, page.parent)}{anchor})'

    source[0] = LINK.sub(mend, origin.read_text(encoding='utf-8'))


def setup(app: Sphinx) -> None:
    """Register the function above, and make mmcv fit to be documented."""
    app.connect('source-read', read_page)
    # mmcv's decorator fails where a method is looked at without an object.
    bound = cache_randomness.__get__
    cache_randomness.__get__ = lambda self, instance, owner: (
        self if instance is None else bound(self, instance, owner)
    )
