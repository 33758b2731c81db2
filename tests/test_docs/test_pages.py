# Licensed under the Apache License, Version 2.0. See LICENSE.
"""Links of all pages lead somewhere, and the commands and code in them are real."""

import ast
import importlib
import os
import re
import shlex
import sys
from itertools import takewhile
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


def lines():
    """Words of each command of the pages, what is in variables filled in."""
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
                if words:
                    yield page, words


def commands():
    """Commands that run a Python script of the checkout."""
    for page, words in lines():
        if words[0] == 'python' and words[1].startswith(('tools/', 'demo/')):
            yield pytest.param(page, words[1:], id=' '.join(words[1:])[:80])


def shell_commands():
    """Commands that run a shell script of the checkout, and their variables."""
    for page, words in lines():
        given = list(takewhile(lambda word: re.match(r'\w+=', word), words))
        words = words[len(given) :]
        if words and words[0].endswith('.sh'):
            names = [word.partition('=')[0] for word in given]
            yield pytest.param(page, names, words, id=' '.join(words)[:80])


def mim_commands():
    """Commands of mim that train, test or run a script of the package."""
    for page, words in lines():
        if words[0] == 'mim' and words[1] in ('train', 'test', 'run'):
            assert words[2] == 'mmdet_efficientps', page.name
            yield pytest.param(words[1], words[3:], id=' '.join(words)[:80])


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


@pytest.mark.parametrize(('page', 'variables', 'command'), shell_commands())
def test_shell_script_takes_the_command(
    page, variables, command, load_tool, monkeypatch
):
    script = ROOT / command[0]
    assert os.access(script, os.X_OK), f'{page.name}: {command[0]}'
    text = script.read_text(encoding='utf-8')
    for name in variables:
        assert f'{name}:' in text, f'{page.name}: {name}'
    usage = re.search(r'usage: \$0 (.*) \[arguments of (\w+\.py)\]', text)
    if usage is None:
        options = {word for word in command if word.startswith('--')}
        assert options <= set(re.findall(r'(?<=[ (])--\w+(?= \||\))', text)), page.name
        return
    names, tool = usage[1].split(), usage[2]
    assert len(command) > len(names), f'{page.name}: {usage[0]}'
    given = dict(zip(names, command[1:], strict=False))
    assert given.get('PROCESSES', '1').isdigit(), f'{page.name}: {command}'
    passed = [given[name] for name in ('CONFIG', 'CHECKPOINT') if name in given]
    monkeypatch.setattr(sys, 'argv', [tool, *passed, *command[len(names) + 1 :]])
    load_tool(tool).parse_args()


@pytest.mark.parametrize(('kind', 'words'), mim_commands())
def test_mim_finds_config_and_script(kind, words, load_tool, monkeypatch):
    name = words[0].removesuffix('.py')
    folder = 'tools' if kind == 'run' else 'configs'
    (found,) = ROOT.glob(f'{folder}/**/{name}.py')
    script = found if kind == 'run' else ROOT / f'tools/{kind}.py'
    if kind == 'test':
        # mim itself takes it.
        assert words[1] == '--checkpoint'
        words = [words[0], *words[2:]]
    monkeypatch.syspath_prepend(script.parent)
    tool = load_tool(script.relative_to(ROOT / 'tools'))
    arguments = words[1:] if kind == 'run' else words
    monkeypatch.setattr(sys, 'argv', [script.name, *arguments])
    tool.parse_args()


def test_extras_and_lists_of_pip_are_there():
    config = (ROOT / 'setup.cfg').read_text(encoding='utf-8')
    extras = set(re.findall(r'^([a-z]+) =$', config, re.M))
    named, listed = set(), set()
    for page in PAGES:
        text = page.read_text(encoding='utf-8')
        named |= set(re.findall(r"pip install '[\w.]+\[(\w+)\]'", text))
        listed |= set(re.findall(r'requirements/\w+\.txt', text))
    assert {'video', 'archive'} <= named <= extras
    assert listed
    assert all((ROOT / path).is_file() for path in listed)


def test_commands_of_every_kind_are_found():
    assert len(list(commands())) > 50
    assert len(list(shell_commands())) > 5
    assert len(list(mim_commands())) > 3


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
