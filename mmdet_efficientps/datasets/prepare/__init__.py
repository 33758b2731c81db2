# Licensed under the Apache License, Version 2.0. See LICENSE.
"""One module per kind of source, each with ``add_arguments`` and ``main``.

``prepare_dataset.py`` adds the arguments that all have: SRC and --out where a module
has none of its own, and --nproc. Errors of the user are raised as OSError or ValueError
with a text for him; :mod:`conversion` is what the modules share.
"""
