# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Problems are counted by kind and the first few are named."""

from mmdet_efficientps.utils import ProblemList


def test_no_problem_is_false_and_says_nothing():
    problems = ProblemList()
    assert not problems
    assert problems.summary() == ''


def test_summary_counts_kinds_and_names_the_first():
    problems = ProblemList(shown=2)
    problems.add('unknown label', 'x.png')
    for name in 'abc':
        problems.add('truncated', f'{name}.png')
    assert len(problems) == 4
    assert problems.summary().splitlines() == [
        '4 problems:',
        '3 x truncated',
        '    a.png',
        '    b.png',
        '    ... and 1 more',
        '1 x unknown label',
        '    x.png',
    ]


def test_one_problem_is_one_problem():
    problems = ProblemList()
    problems.add('truncated', 'a.png')
    assert problems.summary().splitlines()[0] == '1 problem:'


def test_summary_names_all_on_request():
    problems = ProblemList(shown=None)
    for number in range(20):
        problems.add('truncated', f'{number}.png')
    assert problems.summary().splitlines()[2:] == [f'    {k}.png' for k in range(20)]


def test_lists_of_workers_are_joined():
    problems, of_worker = ProblemList(), ProblemList()
    problems.add('truncated', 'a.png')
    of_worker.add('truncated', 'b.png')
    problems.extend(of_worker)
    assert problems.names == {'truncated': ['a.png', 'b.png']}
