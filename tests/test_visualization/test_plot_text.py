# Licensed under the Apache License, Version 2.0. See LICENSE.
import pytest
from matplotlib.font_manager import findfont, fontManager, get_font

from mmdet_efficientps.visualization.plot_text import Fonts, plot_names, shorten


@pytest.mark.parametrize('length', [9, 10, 28])
def test_long_names_keep_beginning_and_end(length):
    short = shorten('construction--barrier--guard-rail', length)
    assert len(short) == length
    first, last = short.split('…')
    assert 'construction--barrier--guard-rail'.startswith(first)
    assert 'construction--barrier--guard-rail'.endswith(last)


def test_names_are_on_one_line():
    assert shorten('line\nbreak\t here') == 'line break here'


def test_names_that_get_the_same_have_their_ids():
    names = [f'{"a" * 20}{middle}{"z" * 20}' for middle in 'xy'] + ['road']
    drawn = plot_names(names, [7, 8, 9], Fonts(map(shorten, names)))
    assert drawn[0].endswith(' (id 7)')
    assert drawn[1].endswith(' (id 8)')
    assert drawn[2] == 'road'


def test_names_that_no_font_has_are_ids():
    private = '\U0010abcd'
    fonts = Fonts(['road', private])
    assert fonts.missing == {private}
    assert plot_names(['road', private], [1, 2], fonts) == ['road', 'id 2']


def test_installed_fonts_are_taken_for_what_the_first_lacks():
    def characters(name):
        return set(get_font(findfont(name)).get_charmap())

    # A font that comes with matplotlib.
    lacking = characters('STIXGeneral') - characters('DejaVu Sans')
    character = chr(max(lacking))
    fonts = Fonts(['road', character])
    assert not fonts.missing
    assert fonts.families[0] == 'DejaVu Sans'
    assert len(fonts.families) == 2
    assert ord(character) in characters(fonts.families[1])
    assert Fonts(['road']).families == ['DejaVu Sans']


def test_a_font_that_cannot_be_read_is_left_out(monkeypatch, tmp_path):
    broken = tmp_path / 'broken.ttf'
    broken.write_bytes(b'no font')
    entry = next(font for font in fontManager.ttflist if font.name == 'STIXGeneral')
    monkeypatch.setattr(
        fontManager, 'ttflist', [type(entry)(fname=str(broken), name='Broken')]
    )
    assert Fonts(['\U0010abcd']).missing == {'\U0010abcd'}
