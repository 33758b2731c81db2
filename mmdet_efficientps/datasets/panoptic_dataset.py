# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data set with COCO-panoptic annotations and classes of any kind."""

import os.path as osp
from collections.abc import Sequence

from mmdet.datasets import CocoPanopticDataset
from mmdet.registry import DATASETS
from mmengine.fileio import exists, isdir

from ..structures.panoptic import PanopticAnnotations, PanopticClasses
from ..structures.panoptic.index_map import IGNORE_INDEX, MAX_CLASSES
from ..utils import ProblemList


@DATASETS.register_module()
class PanopticDataset(CocoPanopticDataset):
    """Any data set in the COCO-panoptic format: one json and a folder of PNGs.

    The json has ``images`` (id, file_name, width, height), ``annotations``
    (image_id, file_name of the PNG, segments_info with id, category_id and
    optionally iscrowd and bbox) and ``categories`` (id, name, isthing and
    optionally color).

    Classes are matched by name and numbered things first, as mmdet's panoptic heads
    count them: 0..T-1 things, T..T+S-1 stuff. Without metainfo they are those of the
    json, in its order within things and within stuff. Every image is kept, also
    those without things or without any segment.

    Differs from mmdet's ``CocoPanopticDataset``: the name of the PNG is read from
    the annotation instead of being guessed from that of the image, labels do not
    depend on the order of the json, and crowd things stay in ``instances`` with
    ``ignore_flag=1``.

    An item of ``data_list`` has img_id, img_path, seg_map_path, height, width and

    - instances: one dict per thing segment with bbox_label, ignore_flag (1 for
      crowd), segment_id, and bbox (xyxy) if the json gives one.
    - segments_info: one dict per segment with id, category (contiguous label),
      is_thing (False for crowd, as in mmdet) and iscrowd (0 or 1).

    Args:
        *args: Arguments of ``CocoPanopticDataset``.
        prepare_hint (str | None): Command that makes the data set, to be shown when
            it is missing. Defaults to None, which takes that of the class.
        balanced_classes (Sequence[str] | None): Names of the classes that
            :meth:`get_cat_ids` gives, by which ``ClassBalancedDataset`` draws images
            more often. Defaults to None, which is all.
        **kwargs: Arguments of ``CocoPanopticDataset``. ``data_prefix`` needs img and
            seg; ``metainfo`` needs thing_classes and stuff_classes if it names any.

    Raises:
        FileNotFoundError: If the annotation file or a folder is missing.
        ValueError: If the json is damaged, incomplete or not a panoptic one (see
            :mod:`mmdet_efficientps.structures.panoptic.annotations` for the rules), if
            the classes of metainfo are not things first or not those of the json, if
            there are more than 255, if one of balanced_classes is not among them, if an
            image that is to be trained on has no annotation.
    """

    METAINFO: dict = {}
    PREPARE_HINT: str | None = None

    def __init__(
        self,
        *args,
        prepare_hint: str | None = None,
        balanced_classes: Sequence[str] | None = None,
        **kwargs,
    ) -> None:
        self.prepare_hint = prepare_hint or self.PREPARE_HINT
        self.balanced_classes = balanced_classes
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            list[dict]: One item per image, in the order of the json.
        """
        self._check_paths()
        problems = ProblemList()
        content = PanopticAnnotations.read(
            self.ann_file,
            problems,
            # A test set may have no annotations, which is said below if it matters.
            needs=('images', 'categories'),
            backend_args=self.backend_args,
        )
        content.check_categories(problems)
        if problems:
            raise ValueError(f'{self.ann_file} cannot be used. {problems.summary()}')
        self._match_classes(content.classes)
        data_list = [
            self.parse_data_info(
                {
                    'raw_img_info': image,
                    'raw_ann_info': content.annotations.get(image['id']),
                }
            )
            for image in content.images
        ]
        if not data_list:
            raise ValueError(f'{self.ann_file} lists no images')
        unlabelled = [item for item in data_list if item['seg_map_path'] is None]
        if unlabelled and not self.test_mode:
            raise ValueError(
                f'{len(unlabelled)} images of {self.ann_file} cannot be trained on '
                f'(the first is {unlabelled[0]["img_path"]}): they have no entry in '
                "'annotations', or data_prefix['seg'] is not set"
            )
        return data_list

    def filter_data(self) -> list[dict]:
        """Filter the images by ``filter_cfg``, as the base class does.

        Returns:
            list[dict]: The images that are kept.

        Raises:
            ValueError: If none is.
        """
        kept = super().filter_data()
        if not kept:
            raise ValueError(
                f'none of the {len(self.data_list)} images of {self.ann_file} is left '
                f'after filter_cfg={self.filter_cfg} of {type(self).__name__}: relax '
                'it, or check the annotation file'
            )
        return kept

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Turn the entries of one image into mmdet's form.

        Args:
            raw_data_info (dict): ``raw_img_info``, the entry of the image, and
                ``raw_ann_info``, its annotation or None.

        Returns:
            dict: Item of the data list, see the class.
        """
        image = raw_data_info['raw_img_info']
        annotation = raw_data_info['raw_ann_info']
        seg_prefix = self.data_prefix.get('seg')
        instances = []
        segments_info = []
        for segment in annotation['segments_info'] if annotation else []:
            label = self.cat2label[segment['category_id']]
            iscrowd = segment['iscrowd']
            is_thing = label < self._num_things
            segments_info.append(
                {
                    'id': segment['id'],
                    'category': label,
                    'is_thing': is_thing and not iscrowd,
                    'iscrowd': iscrowd,
                }
            )
            if is_thing:
                instance = {
                    'bbox_label': label,
                    'ignore_flag': iscrowd,
                    'segment_id': segment['id'],
                }
                if segment['bbox'] is not None:
                    x, y, width, height = segment['bbox']
                    instance['bbox'] = [x, y, x + width, y + height]
                instances.append(instance)
        return {
            'img_id': image['id'],
            'img_path': self._image_path(image),
            'seg_map_path': (
                osp.join(seg_prefix, annotation['file_name'])
                if annotation and seg_prefix
                else None
            ),
            'height': image['height'],
            'width': image['width'],
            'instances': instances,
            'segments_info': segments_info,
        }

    def get_cat_ids(self, idx: int) -> list[int]:
        """Give the classes of an image, for data sets and samplers that balance them.

        Differs from mmdet, which gives those of the things alone.

        Args:
            idx (int): Place of the image.

        Returns:
            list[int]: Label of every segment that is of ``balanced_classes``.
        """
        labels = [s['category'] for s in self.get_data_info(idx)['segments_info']]
        if self.balanced_classes is None:
            return labels
        classes = self.metainfo['classes']
        return [label for label in labels if classes[label] in self.balanced_classes]

    def _image_path(self, image: dict) -> str:
        """Give the path of an image.

        Args:
            image (dict): Its entry in the json.

        Returns:
            str: The path.
        """
        return osp.join(self.data_prefix['img'], image['file_name'])

    def _check_paths(self) -> None:
        """Check that the annotation file and the folders exist.

        Raises:
            FileNotFoundError: If one of them does not.
        """
        checks = [('ann_file', self.ann_file, exists)]
        for key in ('img', 'seg'):
            if self.data_prefix.get(key):
                checks.append((f"data_prefix['{key}']", self.data_prefix[key], isdir))
        for field, path, found in checks:
            if not found(path, backend_args=self.backend_args):
                hint = self.prepare_hint
                raise FileNotFoundError(
                    f'{path} does not exist ({field} of {type(self).__name__}). '
                    + (f'Make it with: {hint}' if hint else 'Check data_root too.')
                )

    def _match_classes(self, table: PanopticClasses) -> None:
        """Match the classes of metainfo with the categories of the json by name.

        Sets ``cat_ids`` and ``cat2label`` and completes the metainfo.

        Args:
            table (PanopticClasses): Classes of the json.

        Raises:
            ValueError: If they do not fit.
        """
        meta = self._metainfo
        if not meta.keys() & {'classes', 'thing_classes', 'stuff_classes'}:
            meta['thing_classes'] = table.things
            meta['stuff_classes'] = table.stuff
        if not meta.keys() >= {'thing_classes', 'stuff_classes'}:
            raise ValueError(
                'metainfo needs both thing_classes and stuff_classes; leave them and '
                f'classes out to take all classes of {self.ann_file}'
            )
        things = list(meta['thing_classes'])
        stuff = list(meta['stuff_classes'])
        if list(meta.setdefault('classes', tuple(things + stuff))) != things + stuff:
            raise ValueError(
                "metainfo['classes'] must be thing_classes followed by stuff_classes: "
                f'{things + stuff}, got {list(meta["classes"])}'
            )
        for kind, expected, found in (
            ('thing', things, table.things),
            ('stuff', stuff, table.stuff),
        ):
            if sorted(expected) != sorted(found):
                raise ValueError(
                    f'{kind} classes differ: metainfo has {sorted(expected)}, '
                    f'{self.ann_file} has {sorted(found)}; only in metainfo: '
                    f'{sorted(set(expected) - set(found))}, only in the json: '
                    f'{sorted(set(found) - set(expected))}'
                )
        if len(meta['classes']) > MAX_CLASSES:
            raise ValueError(
                f'{self.ann_file} has {len(meta["classes"])} classes, and at most '
                f'{MAX_CLASSES} can be told apart: {IGNORE_INDEX} marks void in '
                'semantic maps. Join rare classes, or leave some to void, when the '
                'annotation file is made'
            )
        unknown = set(self.balanced_classes or ()) - set(meta['classes'])
        if unknown:
            raise ValueError(
                f'balanced_classes has {sorted(unknown)}, the classes are '
                f'{list(meta["classes"])}'
            )
        ordered = table.select(meta['classes'])
        if len(meta.setdefault('palette', ordered.palette)) != len(ordered):
            raise ValueError(
                f"metainfo['palette'] has {len(meta['palette'])} colors for "
                f'{len(ordered)} classes'
            )
        # For whoever writes predictions with the category ids of the json. Not of what
        # is trained on: its metainfo goes into checkpoints, which hold plain types.
        if self.test_mode:
            meta['categories'] = ordered.categories()
        self._num_things = len(things)
        self.cat_ids = [c.id for c in ordered]
        self.cat2label = ordered.label_of
