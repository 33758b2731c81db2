# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Builds the distribution; what it is and needs is said in setup.cfg.

The one thing done here is the folder ``.mim`` in the package: what lies beside the
package in a checkout (configs, tools, demo) and belongs to it in an installation,
where openmim and :func:`mmdet_efficientps.get_config` look for it. It is copied into
what is built, and linked in a checkout that is installed as editable; a build leaves
no copies in the checkout, which would go stale and hide the files they were made of.
"""

import shutil
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MIM = Path('mmdet_efficientps', '.mim')
CONTENT = ('configs', 'demo', 'tools', 'model-index.yml')


def link_mim(root: Path) -> None:
    """Link the content of ``.mim`` in a checkout.

    Args:
        root (Path): The checkout.
    """
    shutil.rmtree(root / MIM, ignore_errors=True)
    (root / MIM).mkdir()
    for name in CONTENT:
        (root / MIM / name).symlink_to(Path('..', '..', name))


class BuildWithMim(build_py):
    """Build the package, and ``.mim`` in it."""

    def run(self) -> None:
        """Copy the package and what goes into ``.mim``."""
        super().run()
        # It points to the checkout, where the links are.
        if getattr(self, 'editable_mode', False):
            return
        target = Path(self.build_lib) / MIM
        # An earlier build may have left what has since been removed.
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in CONTENT:
            source = ROOT / name
            if source.is_dir():
                unwanted = shutil.ignore_patterns('__pycache__', '*.py[co]', '.*')
                shutil.copytree(source, target / name, ignore=unwanted)
            else:
                shutil.copy(source, target / name)


# `pip install -e`: the old way and that of PEP 660.
if {'develop', 'editable_wheel'} & set(sys.argv):
    link_mim(ROOT)

setup(cmdclass={'build_py': BuildWithMim})
