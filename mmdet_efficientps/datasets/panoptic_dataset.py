# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data set with COCO-panoptic annotations and classes of any kind."""

import os.path as osp
from collections import Counter

from mmdet.datasets import CocoPanopticDataset
from mmdet.registry import DATASETS
from mmengine.fileio import exists, isdir, load

from ..structures.panoptic import distinct_color
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
        **kwargs: Arguments of ``CocoPanopticDataset``. ``data_prefix`` needs img and
            seg; ``metainfo`` needs thing_classes and stuff_classes if it names any.

    Raises:
        FileNotFoundError: If the annotation file or a folder is missing.
        ValueError: If the json is damaged, incomplete or not a panoptic one, if the
            classes of metainfo are not things first or not those of the json, if
            segments have unknown categories, if ids repeat, if an image has two
            annotations or, to be trained on, none.
    """

    METAINFO: dict = {}
    PREPARE_HINT: str | None = None

    def __init__(self, *args, prepare_hint: str | None = None, **kwargs) -> None:
        self.prepare_hint = prepare_hint or self.PREPARE_HINT
        super().__init__(*args, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Read the annotation file.

        Returns:
            list[dict]: One item per image, in the order of the json.
        """
        self._check_paths()
        try:
            content = load(self.ann_file, backend_args=self.backend_args)
        except ValueError as error:
            raise ValueError(
                f'{self.ann_file} is damaged or no json: {error}'
            ) from error
        self._check_format(content)
        annotations = {a['image_id']: a for a in content.get('annotations', [])}
        self._match_classes(content['categories'])
        data_list = [
            self.parse_data_info(
                {'raw_img_info': image, 'raw_ann_info': annotations.get(image['id'])}
            )
            for image in content['images']
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
            iscrowd = int(segment.get('iscrowd', 0))
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
                if 'bbox' in segment:
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

    def _match_classes(self, categories: list[dict]) -> None:
        """Match the classes of metainfo with the categories of the json by name.

        Sets ``cat_ids`` and ``cat2label`` and completes the metainfo.

        Args:
            categories (list[dict]): Categories of the json.

        Raises:
            ValueError: If they do not fit.
        """
        json_things = [c['name'] for c in categories if c['isthing']]
        json_stuff = [c['name'] for c in categories if not c['isthing']]
        meta = self._metainfo
        if not meta.keys() & {'classes', 'thing_classes', 'stuff_classes'}:
            meta['thing_classes'] = tuple(json_things)
            meta['stuff_classes'] = tuple(json_stuff)
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
            ('thing', things, json_things),
            ('stuff', stuff, json_stuff),
        ):
            if sorted(expected) != sorted(found):
                raise ValueError(
                    f'{kind} classes differ: metainfo has {sorted(expected)}, '
                    f'{self.ann_file} has {sorted(found)}; only in metainfo: '
                    f'{sorted(set(expected) - set(found))}, only in the json: '
                    f'{sorted(set(found) - set(expected))}'
                )
        category = {c['name']: c for c in categories}
        if len(category) < len(categories):
            raise ValueError(f'{self.ann_file} has two categories of one name')
        ordered = [category[name] for name in meta['classes']]
        palette = [
            tuple(c.get('color', distinct_color(i))) for i, c in enumerate(ordered)
        ]
        if len(meta.setdefault('palette', palette)) != len(ordered):
            raise ValueError(
                f"metainfo['palette'] has {len(meta['palette'])} colours for "
                f'{len(ordered)} classes'
            )
        # For whoever writes predictions with the category ids of the json.
        meta['categories'] = ordered
        self._num_things = len(things)
        self.cat_ids = [c['id'] for c in ordered]
        self.cat2label = {cat_id: label for label, cat_id in enumerate(self.cat_ids)}

    def _check_format(self, content: dict) -> None:
        """Check that the json is a panoptic one and complete.

        Args:
            content (dict): Content of the json.

        Raises:
            ValueError: If it is not.
        """
        lists = {'images', 'categories'}
        if not (isinstance(content, dict) and content.keys() >= lists):
            raise ValueError(
                f"{self.ann_file} has no 'images' or no 'categories', so this is not "
                'a panoptic json'
            )
        categories = content['categories']
        unclear = [c['name'] for c in categories if 'isthing' not in c]
        if unclear:
            raise ValueError(
                f"{self.ann_file}: categories without 'isthing' (1 for a thing, 0 for "
                f'stuff): {unclear}'
            )
        known = {c['id'] for c in categories}
        problems = ProblemList()
        for image in content['images']:
            lacking = {'id', 'file_name', 'width', 'height'} - image.keys()
            if lacking:
                problems.add(f'image without {", ".join(sorted(lacking))}', str(image))
        for kind in ('images', 'categories'):
            times = Counter(entry.get('id') for entry in content[kind])
            for repeated in (i for i, n in times.items() if n > 1):
                problems.add(f'id that occurs twice in {kind}', str(repeated))
        annotated = set()
        for annotation in content.get('annotations', []):
            if 'segments_info' not in annotation:
                raise ValueError(
                    f"{self.ann_file}: annotation without 'segments_info', so this is "
                    'not a panoptic json; tools/prepare_dataset.py coco-polygons makes '
                    'one from COCO polygons'
                )
            if not annotation.keys() >= {'image_id', 'file_name'}:
                problems.add(
                    'annotation without image_id or file_name',
                    annotation.get('file_name', annotation.get('image_id')),
                )
                continue
            image_id = annotation['image_id']
            if image_id in annotated:
                problems.add('image with two annotations', image_id)
            annotated.add(image_id)
            segment_ids = set()
            for segment in annotation['segments_info']:
                if not segment.keys() >= {'id', 'category_id'}:
                    problems.add(
                        'segment without id or category_id',
                        f'{segment} of image {image_id}',
                    )
                    continue
                name = f'segment {segment["id"]} of image {image_id}'
                if segment['id'] in segment_ids:
                    problems.add('segment id that occurs twice in an image', name)
                segment_ids.add(segment['id'])
                category = segment['category_id']
                if category not in known:
                    problems.add(
                        'category that is not in categories',
                        f'{name} has category_id {category}',
                    )
        if problems:
            raise ValueError(f'{self.ann_file} cannot be used. {problems.summary()}')
