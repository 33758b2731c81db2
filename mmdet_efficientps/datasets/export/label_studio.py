# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Segments as tasks with predictions, for Label Studio."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from mmdet_efficientps.structures.brush_masks import encode_brush_mask
from mmdet_efficientps.structures.panoptic import PanopticClasses
from mmdet_efficientps.utils import atomic_path

from .images import LabelledImage, check_file_name, is_text, score_of

# Where Label Studio has the files of its own machine.
LOCAL_FILES = '/data/local-files/?d='
# Names that the tags of the interface have.
LABELS, IMAGE = 'label', 'image'


def write_label_studio(
    out: str | Path,
    classes: PanopticClasses,
    images: Iterable[LabelledImage],
    prefix: str = LOCAL_FILES,
    version: str = 'mmdet_efficientps',
) -> None:
    """Write tasks whose predictions are brush masks, and the labelling interface.

    The interface goes into the file of the same name with the suffix ``.xml``: its text
    is what a project has under Settings, Labeling Interface, Code.

    Args:
        out (str | Path): Json of the tasks to write.
        classes (PanopticClasses): The classes.
        images (Iterable[LabelledImage]): The images.
        prefix (str): What makes an address of the name of an image. Defaults to that of
            files which lie in the folder that Label Studio was told of.
        version (str): Name of the predictions. Defaults to 'mmdet_efficientps'.

    Raises:
        FileExistsError: If one of the files is there.
        ValueError: If ``out`` is no json, or the name of a class or an image cannot be
            written.
    """
    for name in classes.names:
        if re.search(r'[\x00-\x1f\ufffe\uffff]', name):
            raise ValueError(
                f'XML cannot have a class {name!r}, for its control character: rename '
                'it'
            )
    out = Path(out)
    interface = out.with_suffix('.xml')
    check_file_name(out, '.json')
    check_file_name(interface, '.xml')
    name_of = {c.id: c.name for c in classes}
    with atomic_path(out) as temporary, temporary.open('w', encoding='utf-8') as stream:
        separator = '[\n'
        for image in images:
            task = _task(image, name_of, prefix, version)
            stream.write(separator + json.dumps(task))
            separator = ',\n'
        stream.write('\n]\n' if separator != '[\n' else '[]\n')
    with atomic_path(interface) as temporary:
        temporary.write_text(_interface(classes), encoding='utf-8')


def _task(
    image: LabelledImage, name_of: dict[int, str], prefix: str, version: str
) -> dict[str, Any]:
    """Give the task of an image."""
    if not is_text(image.name):
        raise ValueError(f'{image.name!r} is no text: give the image another name')
    height, width = image.ids.shape
    index = image.index()
    results: list[dict[str, Any]] = []
    for number, segment in enumerate(image.segments, start=1):
        result = {
            'id': f'segment{segment["id"]}',
            'type': 'brushlabels',
            'from_name': LABELS,
            'to_name': IMAGE,
            'original_width': width,
            'original_height': height,
            'image_rotation': 0,
            'value': {
                'format': 'rle',
                'rle': encode_brush_mask(index == number),
                'brushlabels': [name_of[segment['category_id']]],
            },
        }
        score = score_of(segment)
        results.append(result | ({} if score is None else {'score': score}))
    scores = [result['score'] for result in results if 'score' in result]
    prediction: dict[str, Any] = {'model_version': version, 'result': results}
    if scores:
        # Label Studio can show the least sure images first.
        prediction['score'] = sum(scores) / len(scores)
    data = {IMAGE: prefix + quote(image.name)}
    return {'data': data, 'predictions': [prediction]}


def _interface(classes: PanopticClasses) -> str:
    """Write the labelling interface."""
    labels = '\n'.join(
        f'    <Label value={quoteattr(c.name)} background="#{bytes(c.color).hex()}"/>'
        for c in classes
    )
    return (
        '<View>\n'
        f'  <Image name="{IMAGE}" value="${IMAGE}" zoom="true"/>\n'
        f'  <BrushLabels name="{LABELS}" toName="{IMAGE}">\n{labels}\n'
        '  </BrushLabels>\n</View>\n'
    )
