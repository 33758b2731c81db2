# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Mapillary Vistas."""

from mmdet.registry import DATASETS

from .label_table import load_classes
from .panoptic_dataset import PanopticDataset


@DATASETS.register_module()
class MapillaryVistasV1PanopticDataset(PanopticDataset):
    """Mapillary Vistas v1.2: 37 thing and 28 stuff classes.

    Reads what ``tools/prepare_dataset.py vistas`` writes.

    Example of the fields of a config::

        data_root='data/mapillary_vistas/',
        ann_file='mapillary_vistas_v1.2_validation.json',
        data_prefix=dict(
            img='validation/images/', seg='mapillary_vistas_v1.2_validation/')

    Args:
        *args: Arguments of :class:`PanopticDataset`.
        **kwargs: Arguments of :class:`PanopticDataset`.
    """

    METAINFO = load_classes('mapillary_vistas_v1.2').metainfo()
    PREPARE_HINT = 'python tools/prepare_dataset.py vistas <folder of Vistas>'


@DATASETS.register_module()
class MapillaryVistasV2PanopticDataset(PanopticDataset):
    """Mapillary Vistas v2.0: 70 thing and 46 stuff classes.

    The eight labels of v2.0 that are not evaluated, among them the groups of
    persons, poles and vehicles, are void. Otherwise as
    :class:`MapillaryVistasV1PanopticDataset`, with v2.0 in the names.

    Args:
        *args: Arguments of :class:`PanopticDataset`.
        **kwargs: Arguments of :class:`PanopticDataset`.
    """

    METAINFO = load_classes('mapillary_vistas_v2.0').metainfo()
    PREPARE_HINT = MapillaryVistasV1PanopticDataset.PREPARE_HINT
