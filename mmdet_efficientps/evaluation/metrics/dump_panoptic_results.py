# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Saving of panoptic predictions during a test."""

from collections.abc import Sequence

from mmdet.registry import METRICS
from mmengine.dist import get_rank
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log

from mmdet_efficientps.structures.panoptic import (
    ImageId,
    PanopticOutput,
    check_output,
    decode_panoptic_seg,
)

from .sample_fields import get_prediction


@METRICS.register_module()
class DumpPanopticResults(BaseMetric):
    """Write the panoptic predictions of a test as COCO-panoptic json and PNGs.

    Every process writes the PNGs of its images into one shared folder; the main one
    writes the json when all are there. The data set has to be a
    :class:`PanopticDataset`, or to give ``categories`` in its metainfo.

    Args:
        out_dir (str): Folder for the files, see :class:`PanopticOutput`.
        run (str): Identifies checkpoint and config. A test that was stopped can be
            continued in its folder with the same ``run``. Defaults to ''.
        collect_device (str): Argument of ``BaseMetric``. Defaults to 'gpu', which
            stands for the collectives of any backend.
        **kwargs: Other arguments of ``BaseMetric``.

    Raises:
        FileExistsError: If the folder holds predictions of another run.
    """

    default_prefix = 'panoptic_files'
    needs: tuple[str, ...] = ('pred_panoptic_seg',)

    def __init__(
        self, out_dir: str, run: str = '', collect_device: str = 'gpu', **kwargs
    ) -> None:
        super().__init__(collect_device=collect_device, **kwargs)
        self.output = PanopticOutput(out_dir, run)
        self._path_of: dict[ImageId, str | None] = {}

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Write the predictions of a batch.

        Args:
            data_batch (dict): Not used.
            data_samples (Sequence[dict]): Each with ``img_id`` and
                ``pred_panoptic_seg``, whose ``sem_seg`` is an integer tensor
                (1, H, W): label + instance * INSTANCE_OFFSET, void = number of
                classes.

        Raises:
            KeyError: If the data set does not name its categories, or the data
                sample lacks the prediction.
            ValueError: If a prediction does not fit the classes, two images have one
                id, or the folder holds photographs or ground truth of the test.
        """
        if 'categories' not in self.dataset_meta:
            raise KeyError(
                "the data set gives no 'categories' in its metainfo, from which the "
                'category ids are taken: use a PanopticDataset with test_mode=True'
            )
        category_ids = [c['id'] for c in self.dataset_meta['categories']]
        self.check_inputs(data_samples)
        for sample in data_samples:
            image_id, path = sample['img_id'], sample.get('img_path')
            if self._path_of.setdefault(image_id, path) != path:
                raise ValueError(
                    f'{self._path_of[image_id]} and {path} have one image id, '
                    f'{image_id!r}: of two images only one prediction can be written. '
                    'Test data sets of which ids repeat one by one'
                )
            prediction = get_prediction(sample, 'pred_panoptic_seg')
            encoded = prediction['sem_seg'][0].cpu().numpy()
            ids, segments = decode_panoptic_seg(encoded, len(category_ids))
            self.output.add(sample['img_id'], ids, segments, category_ids, get_rank())
            self.results.append(sample['img_id'])

    def check_inputs(self, data_samples: Sequence[dict]) -> None:
        """Refuse to write where the images of a batch or their labels are.

        Args:
            data_samples (Sequence[dict]): With ``img_path`` and ``seg_map_path`` if
                they have them.

        Raises:
            ValueError: If the folder holds one of these files.
        """
        inputs = [s.get(k) for s in data_samples for k in ('img_path', 'seg_map_path')]
        check_output(self.output.folder, inputs, 'the folder for predictions')

    def compute_metrics(self, results: list) -> dict:
        """Write the json.

        Args:
            results (list): Ids of the images of all processes.

        Returns:
            dict: Empty.

        Raises:
            FileNotFoundError: If images are missing in the folder.
        """
        missing = set(results) - self.output.annotations().keys()
        if missing:
            raise FileNotFoundError(
                f'{len(missing)} predictions are not in {self.output.folder}. Choose a '
                'folder that all processes share'
            )
        self.output.finish(self.dataset_meta['categories'])
        print_log(
            f'Predictions are in {self.output.json_file}. Score them with\n    python '
            f'tools/analysis_tools/evaluate_panoptic.py <ground truth>.json '
            f'{self.output.json_file}',
            'current',
        )
        return {}
