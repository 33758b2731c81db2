# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Links of all pages lead somewhere, and the commands and code in them are real."""

import ast
import importlib
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob('*.md'),
        *ROOT.glob('docs/**/*.md'),
        *ROOT.glob('configs/**/*.md'),
        *ROOT.glob('.github/**/*.md'),
    ]
)
LINK = re.compile(r'\[[^][]*\]\(([^)\s]+)\)')


def blocks(page, language):
    """Code blocks of a page in one language."""
    text = page.read_text(encoding='utf-8')
    found = re.findall(rf'^( *)```{language}\n(.*?)^ *```', text, re.M | re.S)
    return [re.sub(f'^{indent}', '', block, flags=re.M) for indent, block in found]


def prose(page):
    """The text of a page without its code."""
    text = re.sub(
        r'^ *```.*?^ *```', '', page.read_text(encoding='utf-8'), flags=re.M | re.S
    )
    return re.sub(r'`[^`\n]*`', lambda code: code[0].replace('[', ' '), text)


def anchors(page):
    """The names that GitHub and the site give to the headings of a page."""
    text = re.sub(
        r'^ *```.*?^ *```', '', page.read_text(encoding='utf-8'), flags=re.M | re.S
    )
    for heading in re.findall(r'^#+ (.*)$', text, re.M):
        heading = re.sub(r'\[([^][]*)\]\([^)]*\)', r'\1', heading).lower()
        yield re.sub(r'[^\w\- ]', '', heading).replace(' ', '-')


def links():
    """All links within the checkout: page, file, heading."""
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            if not re.match(r'\w+:', target):
                path, _, anchor = target.partition('#')
                yield page, path, anchor


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    for origin, target, anchor in links():
        if origin != page:
            continue
        path = Path(os.path.normpath(page.parent / target)) if target else page
        assert path.exists(), target
        assert path.is_relative_to(ROOT), target
        assert not anchor or anchor in anchors(path), f'{target}#{anchor}'


def test_links_are_found():
    assert len(list(links())) > 100
    assert any(anchor for _, _, anchor in links())


def test_every_page_of_the_site_is_in_its_contents():
    listed = {'index'}
    for index in (ROOT / 'docs/index.md', ROOT / 'docs/api/index.md'):
        folder = index.parent.relative_to(ROOT / 'docs')
        for block in re.findall(r'```\{toctree\}\n(.*?)```', index.read_text(), re.S):
            names = [line for line in block.splitlines() if line and line[0] != ':']
            names = [re.sub(r'.*<(.*)>', r'\1', name) for name in names]
            listed |= {str(folder / name) for name in names}
    docs = ROOT / 'docs'
    assert {str(p.relative_to(docs))[:-3] for p in docs.rglob('*.md')} == listed


def commands():
    """Commands that run a Python script of the checkout."""
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        variables = dict(re.findall(r'^([A-Z]+)="?(.*?)"?$', text, re.M))
        variables['split'] = 'train'
        for block in blocks(page, 'bash'):
            for line in block.replace('\\\n', ' ').splitlines():
                for name, value in variables.items():
                    line = line.replace(f'${name}', value)
                words = shlex.split(line, comments=True)
                words = [w.strip('[]') for w in words if w != '...']
                words = [w for w in words if not w.startswith('PYTHONPATH')]
                if words[:1] == ['python'] and words[1].startswith(('tools/', 'demo/')):
                    yield pytest.param(page, words[1:], id=' '.join(words[1:])[:80])


@pytest.mark.parametrize(('page', 'command'), commands())
def test_script_takes_the_command(page, command, load_tool, monkeypatch):
    script = ROOT / command[0]
    assert script.is_file(), f'{page.name}: {command[0]}'
    if any('|' in word for word in command):
        # A summary of several commands, which have examples of their own.
        return
    text = script.read_text(encoding='utf-8')
    if command[0].startswith('tools/') and 'def parse_args' in text:
        # As Python does, for scripts that import their neighbours.
        monkeypatch.syspath_prepend(script.parent)
        tool = load_tool(script.relative_to(ROOT / 'tools'))
        monkeypatch.setattr(sys, 'argv', command)
        tool.parse_args()
        return
    # Others read their arguments where they use them.
    for option in (word for word in command if word.startswith('--')):
        assert f"'{option}'" in text, f'{page.name}: {option}'


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_is_python_and_names_what_is_there(page):
    for block in blocks(page, 'python'):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith(
                ('mmdet_efficientps', 'mmdet', 'mmengine')
            ):
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names)


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_make_targets_are_there(page):
    targets = re.findall(
        r'^([a-z-]+):', (ROOT / 'Makefile').read_text(encoding='utf-8'), re.M
    )
    for block in blocks(page, 'bash'):
        for target in re.findall(r'^make ([a-z-]+)', block, re.M):
            assert target in targets
