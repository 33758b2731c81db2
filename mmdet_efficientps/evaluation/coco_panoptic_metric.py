# Licensed under the Apache License, Version 2.0. See LICENSE.
"""mmdet's panoptic metric on data sets with another layout than COCO's."""

import os.path as osp

from mmdet.evaluation import CocoPanopticMetric
from mmengine.dataset import BaseDataset
from mmengine.dist import broadcast_object_list


def adapt_coco_panoptic_metric(
    metric: CocoPanopticMetric, dataset: BaseDataset, classes: tuple[str, ...]
) -> None:
    """Make mmdet's ``CocoPanopticMetric`` count by the labels and files of a data set.

    By itself it takes the order of the categories in ``ann_file`` for that of the
    labels and finds PNGs by the names of the photographs, and without ``ann_file`` it
    still needs ``seg_prefix``. All three are set here by the data set. Calling this
    again changes nothing.

    Args:
        metric (CocoPanopticMetric): The metric, changed in place.
        dataset (BaseDataset): The data set that is evaluated, or a wrapper of it.
        classes (tuple[str, ...]): Names of its classes in the order of the labels.
    """
    if metric.seg_prefix is None:
        prefix = getattr(dataset, 'data_prefix', {}).get('seg')
        path = dataset.get_data_info(0)['seg_map_path']
        metric.seg_prefix = prefix or osp.dirname(path)
    if metric._coco_api is not None:
        content = metric._coco_api.dataset
        order = {name: label for label, name in enumerate(classes)}
        content['categories'].sort(key=lambda c: order.get(c['name'], len(order)))
        for annotation in content['annotations']:
            image = metric._coco_api.imgs[annotation['image_id']]
            image['segm_file'] = annotation['file_name']
    if metric.tmp_dir is not None:
        # Computing image by image takes the names of photographs for those of PNGs,
        # so it computes at the end. All processes write where the first one reads,
        # and the folder lives as long as the metric.
        prefix = [metric.outfile_prefix]
        broadcast_object_list(prefix)
        metric.outfile_prefix = prefix[0]
        metric.seg_out_dir = f'{prefix[0]}.panoptic'
        metric.kept_dir, metric.tmp_dir = metric.tmp_dir, None
