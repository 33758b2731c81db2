# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Files for those who join, cite or report: they agree with the rest."""

import re
from pathlib import Path

import yaml

from mmdet_efficientps import __version__

ROOT = Path(__file__).parents[1]


def read(path):
    return (ROOT / path).read_text(encoding='utf-8')


def test_pre_commit_runs_the_pinned_ruff():
    (pinned,) = re.findall(r'^ruff==\S+', read('requirements/tests.txt'), re.M)
    (repo,) = yaml.safe_load(read('.pre-commit-config.yaml'))['repos']
    pins = {pin for h in repo['hooks'] for pin in h.get('additional_dependencies', ())}
    assert pins == {pinned}
    assert 'mypy' in [hook['id'] for hook in repo['hooks']]


def test_citation_and_changelog_know_the_version():
    assert yaml.safe_load(read('CITATION.cff'))['version'] == __version__
    assert f'## {__version__}' in read('CHANGELOG.md')


def test_workflow_runs_what_ci_runs_on_every_supported_python():
    job = yaml.safe_load(read('.github/workflows/ci.yml'))['jobs']['test']
    assert 'bash .ci/run' in [step.get('run') for step in job['steps']]
    supported = re.findall(r'Python :: (3\.\d+)', read('setup.cfg'))
    assert job['strategy']['matrix']['python'] == supported


def test_reports_of_bugs_ask_for_the_environment():
    fields = yaml.safe_load(read('.github/ISSUE_TEMPLATE/bug.yml'))['body']
    (field,) = (f for f in fields if f.get('id') == 'environment')
    assert 'python -m mmdet_efficientps.collect_env' in field['attributes']['label']
    assert field['validations']['required']


def test_metafile_says_what_licence_the_authors_weights_have():
    models = yaml.safe_load(read('configs/efficientps/metafile.yml'))['Models']
    for model in models:
        licence = model['Metadata'].get('License of Published Weights', '')
        assert ('GPL-3.0' in licence) == ('efficientps-release_' in model['Name'])
