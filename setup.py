# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Builds the distribution; everything it says is in setup.cfg."""

from setuptools import setup

setup()
