# Licensed under the Apache License, Version 2.0. See LICENSE.
import mmcv
import numpy as np
import pytest

from mmdet_efficientps.apis.archive import Archive, error_row, rows_to_table

pytest.importorskip('pyarrow', reason="needs Ray: pip install 'ray[data]'")

TOOL = 'analysis_tools/benchmark_archive.py'


@pytest.fixture
def tool(load_tool):
    load_tool('analysis_tools/benchmarking.py')
    return load_tool(TOOL)


def write(folder, *files):
    archive = Archive(folder)
    run = archive.begin()
    for rows in files:
        table = [error_row(path, 'm', ValueError(text)) for path, text in rows.items()]
        archive.write(rows_to_table(table), [], run)
    return folder


def test_rows_that_are_missing_double_or_different_are_found(tool, tmp_path):
    alone = write(tmp_path / 'alone', {'a': '1', 'b': '2', 'c': '3'})
    killed = write(tmp_path / 'killed', {'a': '1', 'b': 'x'}, {'a': '1'})
    assert tool.differences(alone, alone) == []
    assert tool.differences(killed, alone) == [
        'c is missing',
        'a has 2 rows',
        'b differs',
    ]


def test_folders_have_a_quarter_a_half_and_all_of_the_images(tool, tmp_path):
    folders = tool.write_images(tmp_path, 4, (32, 64))
    names = {n: [f.name for f in sorted(d.iterdir())] for n, d in folders.items()}
    assert [len(found) for found in names.values()] == [1, 2, 4] == list(names)
    assert names[4][:2] == names[2]


def test_scenes_that_are_used_again_are_moved(tool, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, 'MOST_SCENES', 3)
    folders = tool.write_images(tmp_path, 8, (32, 64))
    assert {n: len(list(f.iterdir())) for n, f in folders.items()} == {2: 2, 4: 4, 8: 8}
    files = sorted(folders[8].iterdir())
    assert len({path.read_bytes() for path in files}) == 8
    first, again = (mmcv.imread(str(files[number])) for number in (0, 3))
    np.testing.assert_array_equal(again, np.roll(first, tool.STEP, axis=1))
