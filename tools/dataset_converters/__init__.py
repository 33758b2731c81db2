# Licensed under the Apache License, Version 2.0. See LICENSE.
"""One module per kind of source, each with ``add_arguments`` and ``main``."""
