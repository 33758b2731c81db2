# Licensed under the Apache License, Version 2.0. See LICENSE.
"""One HTML file with data, pictures and all that is needed to look at them."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from mmdet_efficientps.utils import atomic_path

ASSETS = Path(__file__).parent / 'assets'


def read_assets(*names: str) -> str:
    """Join files of which pages are made.

    Args:
        *names (str): Names in ``assets``.

    Returns:
        str: Their text.
    """
    return ''.join((ASSETS / name).read_text(encoding='utf-8') for name in names)


def write_page(
    path: str | Path,
    script: str,
    data: Mapping,
    pictures: Iterable[Mapping[str, bytes]],
) -> None:
    """Write a page that opens from a file without any network access.

    The tables are drawn when the page opens. The pictures wait as text and are
    decoded one by one when they come near the window, so that a page of hundreds of
    images opens quickly.

    Args:
        path (str | Path): HTML file to write.
        script (str): Name in ``assets`` of the script that draws the page.
        data (Mapping): What the script draws, of JSON's types without nan:
            ``title``, ``subtitle``, ``classes`` (name and color of each),
            ``records`` (an entry per image: name, size as width and height, values,
            values per class, errors, notes) and ``gallery`` (``views``,
            ``values`` and ``filters`` with key and label, ``order``, ``legend``);
            and whatever else the script asks for.
        pictures (Iterable[Mapping[str, bytes]]): WebP file of every view, by its
            key, in the order of ``records``.

    Raises:
        ValueError: If there are more or fewer pictures than records, or if a
            number is nan or infinite.
    """
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(',', ':'))
    skeleton = Template(read_assets('page.html'))
    top = skeleton.substitute(
        title=html.escape(data['title']),
        style=read_assets('elements.css', 'page.css'),
        script=read_assets('elements.js', 'gallery.js', script),
        # A name with '</script>' would end the element early.
        data=text.replace('<', '\\u003c'),
    )
    with (
        atomic_path(path) as temporary,
        temporary.open('w', encoding='utf-8') as stream,
    ):
        stream.write(top)
        for number, (views, _) in enumerate(
            zip(pictures, data['records'], strict=True)
        ):
            for key, content in views.items():
                stream.write(
                    f'<script type="text/plain" id="picture-{number}-{key}">'
                    f'{base64.b64encode(content).decode()}</script>\n'
                )
        stream.write('</body>\n</html>\n')
