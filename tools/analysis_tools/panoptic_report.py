# Licensed under the Apache License, Version 2.0. See LICENSE.
r"""Make an HTML page of a test run, to see what the network gets wrong.

The page has tables and bars of panoptic quality, quality by size, the confusion between
classes, and all images with a slider between image, truth, prediction and errors. It is
one file and needs no network access. Truth and predictions are COCO-panoptic files, of
``tools/test.py --out-panoptic`` or of any framework.

Example::

    python tools/test.py CONFIG CHECKPOINT --out-panoptic work_dirs/predictions
    python tools/analysis_tools/panoptic_report.py \
        data/toy_city/gtFine/cityscapes_panoptic_val.json \
        work_dirs/predictions/panoptic.json \
        --images data/toy_city/leftImg8bit/val --out report.html
"""

import argparse
from functools import partial
from itertools import takewhile
from pathlib import Path

import cv2
import numpy as np
from mmengine.utils import track_progress_rich

from mmdet_efficientps.evaluation.panoptic_files import (
    PanopticFiles,
    pair_annotations,
    read_image,
)
from mmdet_efficientps.structures.panoptic import PanopticClasses, read_json
from mmdet_efficientps.utils import ProblemList, check_output_file, num_processors
from mmdet_efficientps.visualization.predicted_image import load_predicted_image
from mmdet_efficientps.visualization.report import (
    ImageReport,
    analyse_image,
    fit_width,
    write_report,
)

# From these the size of all pictures is estimated; one in ten is left for the rest.
NUM_PROBES = 8
IMAGE_SUFFIXES = {'.png', '.jpg', '.jpeg', '.webp', '.bmp', '.tif', '.tiff', '.ppm'}


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('gt', type=Path, metavar='GT.json', help='ground truth')
    parser.add_argument('pred', type=Path, metavar='PRED.json', help='predictions')
    parser.add_argument(
        '--images', type=Path, required=True, help='folder of the images'
    )
    parser.add_argument(
        '--gt-folder', type=Path, help='PNGs of the ground truth, by default GT/'
    )
    parser.add_argument(
        '--pred-folder', type=Path, help='PNGs of the predictions, by default PRED/'
    )
    parser.add_argument(
        '--metrics',
        type=Path,
        metavar='FILE.json',
        help='measures of the same run, such as AP and mIoU, to be shown too: '
        '<work folder>/<time>/<time>.json of tools/test.py',
    )
    parser.add_argument('--title', help='heading, by default the names of the files')
    parser.add_argument(
        '--out', type=Path, default=Path('report.html'), help='default: report.html'
    )
    parser.add_argument(
        '--max-mb',
        type=float,
        default=45,
        help='how large the page may get; with many images the pictures get smaller. '
        'Default: 45',
    )
    parser.add_argument(
        '--nproc', type=int, default=num_processors(), help='number of processes'
    )
    return parser.parse_args()


def find_images(
    folder: Path, annotations: list[dict], images: list[dict], problems: ProblemList
) -> list[Path]:
    """Find the image of every annotation.

    Looked for are, in this order: the path that the json gives; a file of that name
    in any folder below; and one of the name of the PNG or of the image id. Endings do
    not count, nor ``_gtFine``, ``_panoptic`` and ``_leftImg8bit``, of which Cityscapes'
    json and folders have different ones. Of several files, the one counts that has
    more of the path in common: the folders above it, then its ending.

    Args:
        folder (Path): Folder of the images.
        annotations (list[dict]): Annotations of the ground truth.
        images (list[dict]): ``images`` of the ground truth, which may be empty.
        problems (ProblemList): Gets the images that are missing or not unique.

    Returns:
        list[Path]: Path of every image that was found.
    """

    def key(name: str) -> str:
        name = Path(name).stem
        for part in ('_gtFine', '_panoptic', '_leftImg8bit'):
            name = name.replace(part, '')
        return name

    by_key = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            by_key.setdefault(key(path.name), []).append(path)
    file_name = {i['id']: i['file_name'] for i in images}
    found = []
    for annotation in annotations:
        image_id = annotation['image_id']
        name = file_name.get(image_id, annotation['file_name'])
        if (folder / name).is_file():
            found.append(folder / name)
            continue
        names = (name, annotation['file_name'], str(image_id))
        wanted = next((n for n in names if key(n) in by_key), name)
        paths = by_key.get(key(wanted), [])
        if image_id not in file_name:
            # The ending of a PNG of segments says nothing about that of the image.
            wanted = wanted.removesuffix(Path(wanted).suffix)
        in_common = [_in_common(path, wanted) for path in paths]
        best = [p for p, n in zip(paths, in_common, strict=True) if n == max(in_common)]
        if len(best) == 1:
            found.extend(best)
        elif best:
            problems.add(f'several images of one name in {folder}', name)
        else:
            problems.add(f'image not found in {folder} (--images)', name)
    return found


def _in_common(path: Path, name: str) -> tuple[int, bool]:
    """How many folders above two files are called alike, and whether endings are."""
    above = zip(path.parts[-2::-1], Path(name).parts[-2::-1], strict=False)
    alike = takewhile(lambda pair: pair[0] == pair[1], above)
    return len(list(alike)), path.suffix == Path(name).suffix


def report_image(
    gt_annotation: dict,
    pred_annotation: dict,
    path: Path,
    folders: tuple[Path, Path],
    label_of: dict[int, int],
    classes: PanopticClasses,
    width: int,
) -> tuple[ProblemList, ImageReport | None]:
    """Read an image and its segmentations, and find the errors.

    Args:
        gt_annotation (dict): Entry of the image in the json of the ground truth.
        pred_annotation (dict): The same for the prediction.
        path (Path): The image.
        folders (tuple[Path, Path]): Folders of the PNGs, true and predicted.
        label_of (dict[int, int]): Label of each category id.
        classes (PanopticClasses): The classes.
        width (int): Width of the pictures in pixels at most.

    Returns:
        tuple[ProblemList, ImageReport | None]: Problems, and the report of the image
        if there are none.
    """
    # The processes share the processors already.
    cv2.setNumThreads(1)
    problems = ProblemList()
    maps = read_image(gt_annotation, pred_annotation, folders, label_of, problems)
    if maps is None:
        return problems, None
    try:
        image = load_predicted_image(str(path), maps[0].shape)
    except ValueError:
        problems.add('image cannot be decoded', path)
        return problems, None
    name = str(gt_annotation['image_id'])
    return problems, analyse_image(name, image, *maps, classes, width)


def main() -> None:
    """Read the files and write the page.

    Raises:
        SystemExit: With status 1 if something is wrong with the files.
    """
    args = parse_args()
    problems = ProblemList(shown=None)
    gt = PanopticFiles.load('ground truth', args.gt, args.gt_folder, problems)
    pred = PanopticFiles.load('prediction', args.pred, args.pred_folder, problems)
    pairs = pair_annotations(gt, pred, problems)
    if problems or not pairs:
        raise SystemExit(f'no report was made. {problems.summary()}')
    annotations = [annotation for annotation, _ in pairs]
    paths = find_images(args.images, annotations, gt.content.images, problems)
    if problems:
        raise SystemExit(f'no report was made. {problems.summary()}')
    inputs = [args.gt, args.pred, args.metrics, *paths]
    inputs += [
        files.folder / annotation['file_name']
        for files, annotations in zip((gt, pred), zip(*pairs, strict=True), strict=True)
        for annotation in annotations
    ]
    try:
        check_output_file(args.out, inputs, '--out')
        metrics = read_json(args.metrics) if args.metrics else {}
        if not isinstance(metrics, dict):
            raise ValueError(
                f'{args.metrics} (--metrics) is no object of names and values: give '
                '<work folder>/<time>/<time>.json of a test'
            )
    except (OSError, ValueError) as error:
        raise SystemExit(f'no report was made. {error}') from error

    classes = gt.content.classes
    make = partial(
        report_image,
        folders=(gt.folder, pred.folder),
        label_of=classes.label_of,
        classes=classes,
    )
    jobs = [(*pair, path) for pair, path in zip(pairs, paths, strict=True)]
    probes = [jobs[k] for k in np.linspace(0, len(jobs) - 1, NUM_PROBES).astype(int)]

    def bytes_per_image(width: int) -> float:
        reports = [make(*job, width=width)[1] for job in probes]
        sizes = [
            sum(map(len, report.pictures.values())) for report in reports if report
        ]
        return sum(sizes) / max(len(sizes), 1)

    width = fit_width(bytes_per_image, len(jobs), 0.9 * args.max_mb * 2**20)
    results = track_progress_rich(
        partial(make, width=width),
        jobs,
        nproc=args.nproc,
        description=f'looking at {len(jobs)} images',
    )
    for found, _ in results:
        problems.extend(found)
    if problems:
        raise SystemExit(f'no report was made. {problems.summary()}')
    write_report(
        args.out,
        [report for _, report in results],
        classes,
        title=args.title or f'{args.pred.parent.name}/{args.pred.name}',
        subtitle=f'{len(jobs)} images. Predictions: {args.pred}. Truth: {args.gt}.',
        metrics=metrics,
    )
    size = args.out.stat().st_size / 2**20
    print(f'{args.out}: {len(jobs)} images, {size:.1f} MB, pictures {width} wide')


if __name__ == '__main__':
    main()
