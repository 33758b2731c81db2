# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Data sets that are generated: for the demo, tests and benchmarks."""
