# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Pages of pictures and numbers, each one HTML file that needs nothing else."""

from .page import read_assets, write_page
from .panoptic_report import (
    ImageReport,
    analyse_image,
    class_measure,
    write_report,
)
from .pictures import fit_width, shrink, to_webp

__all__ = [
    'ImageReport',
    'analyse_image',
    'class_measure',
    'fit_width',
    'read_assets',
    'shrink',
    'to_webp',
    'write_page',
    'write_report',
]
