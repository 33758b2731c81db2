# Licensed under the Apache License, Version 2.0. See LICENSE.
"""A file appears when it is complete, or not at all."""

import pytest

from mmdet_efficientps.utils import atomic_path


def test_file_appears_when_the_block_ends(tmp_path):
    target = tmp_path / 'new folder' / 'a.json'
    with atomic_path(target) as temporary:
        temporary.write_text('{}')
        assert temporary.suffix == '.json'
        assert not target.exists()
    assert target.read_text() == '{}'
    assert list(target.parent.iterdir()) == [target]


def test_failure_leaves_the_old_file_and_no_rest(tmp_path):
    target = tmp_path / 'a.txt'
    target.write_text('old')

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text('ha')
            raise RuntimeError('disk full')

    with pytest.raises(RuntimeError, match='disk full'):
        write_half()
    assert target.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [target]
