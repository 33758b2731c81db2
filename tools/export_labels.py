# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Write predictions as labels that people correct in a labelling tool.

PANOPTIC is a folder of ``tools/predict.py``, or any panoptic json with its folder of
PNGs. FORMAT is one of

    coco-masks      COCO instances with run-length masks: CVAT, FiftyOne, pycocotools
    coco-polygons   COCO instances with polygons: the same and most others
    cvat-masks      archive that CVAT imports as "Segmentation mask 1.1"
    label-studio    tasks with predictions, and the labelling interface beside them

Stuff is exported as things are, a segment for each class. What people have corrected
comes back by ``tools/prepare_dataset.py``. See docs/labelling_loop.md.

Example::

    python tools/export_labels.py results --format cvat-masks --out labels.zip
"""

import argparse
from pathlib import Path

from rich.progress import track

from mmdet_efficientps.datasets import export
from mmdet_efficientps.datasets.export.label_studio import LOCAL_FILES
from mmdet_efficientps.structures.panoptic import (
    PanopticAnnotations,
    default_png_folder,
)
from mmdet_efficientps.utils import ProblemList, check_output_file

FORMATS = ('coco-masks', 'coco-polygons', 'cvat-masks', 'label-studio')


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        'panoptic', type=Path, help='folder of tools/predict.py, or a panoptic json'
    )
    parser.add_argument('--format', required=True, choices=FORMATS)
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE',
        help='file to write: a .zip for cvat-masks, a .json for all others',
    )
    parser.add_argument(
        '--tolerance',
        type=float,
        metavar='PIXELS',
        help='coco-polygons: how far outlines may be from the segments, by default 1',
    )
    parser.add_argument(
        '--image-prefix',
        metavar='TEXT',
        help='label-studio: what makes an address of the name of an image, by default '
        f'{LOCAL_FILES}',
    )
    args = parser.parse_args()
    args.options = {}
    for option, key, kind in (
        ('tolerance', 'tolerance', 'coco-polygons'),
        ('image_prefix', 'prefix', 'label-studio'),
    ):
        value = getattr(args, option)
        if value is not None:
            if args.format != kind:
                name = option.replace('_', '-')
                parser.error(f'--{name} is for --format {kind}')
            args.options[key] = value
    return args


def main() -> None:
    """Export.

    Raises:
        SystemExit: With a message if nothing can be exported, with status 1 if some
            images could not.
    """
    args = parse_args()
    path = args.panoptic / 'panoptic.json' if args.panoptic.is_dir() else args.panoptic
    problems = ProblemList()
    content = PanopticAnnotations.read(path, problems)
    if problems or not content.annotations:
        raise SystemExit(
            f'error: {path} cannot be exported. '
            f'{problems.summary() or "it has no annotations"}'
        )
    options = args.options
    if args.format == 'cvat-masks':
        options['problems'] = problems
    write = getattr(export, f'write_{args.format.replace("-", "_")}')
    images = export.panoptic_images(content, problems)
    folder = default_png_folder(path)
    pngs = [folder / a['file_name'] for a in content.annotations.values()]
    try:
        for out in (args.out, args.out.with_suffix('.xml')):
            check_output_file(out, [path, *pngs], '--out')
        write(
            args.out,
            content.classes,
            track(images, f'exporting {args.format}', total=len(content.images)),
            **options,
        )
    except (OSError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    if problems:
        print(problems.summary())
        raise SystemExit(1)
    print(f'{len(content.annotations)} images are in {args.out}')


if __name__ == '__main__':
    main()
