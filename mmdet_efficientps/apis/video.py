# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Videos in and out."""

VIDEO_SUFFIXES = ('.mp4', '.m4v', '.mov', '.mkv', '.webm', '.avi', '.mpg', '.mpeg')
