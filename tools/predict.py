# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Predict images or a video: ``python tools/predict.py INPUT MODEL [CHECKPOINT]``.

INPUT is an image, a folder with all folders below it, a pattern in quotes, a video, or
the number of a camera. MODEL is a checkpoint of a training run or an exported .onnx; or
a config, and then CHECKPOINT is needed. Results are a panoptic json and PNGs in COCO's
format, and pictures if asked for. The same command goes on where a run was stopped.
Exit status: 1 if something could not be predicted or written, 2 for a wrong command.
"""

import argparse
import errno

from mmdet_efficientps.apis import PanopticInferencer
from mmdet_efficientps.apis.command_line import add_network_arguments, network_settings
from mmdet_efficientps.apis.prediction_run import predict_to_folder
from mmdet_efficientps.utils.checkpoint_loading import CheckpointError


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('input', help='what to predict')
    add_network_arguments(parser)
    parser.add_argument(
        '--out', required=True, metavar='DIR', help='folder for the results'
    )
    parser.add_argument(
        '--overlay',
        action='store_true',
        help='draw the segments over the images, or of a video over its frames as an '
        'H.264 video (needs the package av)',
    )
    parser.add_argument(
        '--instances',
        action='store_true',
        help='write all detections with run-length masks into instances.json',
    )
    parser.add_argument(
        '--track',
        action='store_true',
        help='give things a number and color that they keep from frame to frame',
    )
    parser.add_argument('--device', help='torch device; by default the GPU if any')
    return parser.parse_args()


def main() -> None:
    """Predict, and list what could not be.

    Raises:
        SystemExit: If anything could not be predicted, with words.
    """
    args = parse_args()
    try:
        inferencer = PanopticInferencer(**network_settings(args), device=args.device)
        problems = predict_to_folder(
            inferencer,
            int(args.input) if args.input.isdigit() else args.input,
            args.out,
            overlay=args.overlay,
            instances=args.instances,
            track=args.track,
        )
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise SystemExit(
                f'error: {error}. All that is in {args.out} is whole: make room and '
                'give the same command to go on'
            ) from error
        raise SystemExit(f'error: {error}') from error
    except (CheckpointError, ImportError, TypeError, ValueError) as error:
        raise SystemExit(f'error: {error}') from error
    except KeyboardInterrupt:
        raise SystemExit(
            f'stopped: the same command goes on with what is in {args.out}'
        ) from None
    if problems:
        print(problems.summary())
        raise SystemExit(1)
    print(f'Predictions are in {args.out}')


if __name__ == '__main__':
    main()
