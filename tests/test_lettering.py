"""Captions: names in any language are written in letters that a font has, never in empty boxes."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from apercu import lettering
from apercu.lettering import lettered
from apercu.sheet import contact_sheet

CELL = np.full((1, 96, 400), 0.5, np.float32)


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[tuple[str, ...]], None]]:
    """Leaves only these fonts beside Pillow's own."""

    def leave(names: tuple[str, ...]) -> None:
        monkeypatch.setattr(lettering, "FONTS", names)
        monkeypatch.setattr(lettering, "find_spec", lambda _: None)
        lettering._others.cache_clear()

    yield leave
    lettering._others.cache_clear()


def test_names_in_plain_letters_keep_the_usual_font(fonts: Callable[[tuple[str, ...]], None]) -> None:
    usual = lettered("scratch/007.png")[1].getname()
    fonts(())
    assert lettered("scratch/007.png") == ("scratch/007.png", lettered("x")[1])
    assert lettered("x")[1].getname() == usual


@pytest.mark.parametrize("name", ["царапина 3.png", "κύκλος 4.png", "Größe ü.png", "й ё"])
def test_a_font_that_has_the_letters_is_taken(name: str) -> None:
    pytest.importorskip("matplotlib")
    for given in (name, unicodedata.normalize("NFD", name)):  # the second as macOS stores file names
        text, font = lettered(given)
        assert text == name
        nothing = bytes(font.getmask(lettering.NO_LETTER))
        assert all(bytes(font.getmask(letter)) != nothing for letter in text)


def test_without_such_a_font_accents_go_and_an_ellipsis_stands_for_the_rest(
    fonts: Callable[[tuple[str, ...]], None],
) -> None:
    fonts(("no such font.ttf",))
    assert lettered("Größe ü 4.png")[0].endswith("e u 4.png")
    assert lettered("царапина/照片 12.png")[0] == "…/… 12.png"
    assert lettered("")[0] == ""


def test_captions_in_other_alphabets_differ_and_stand_in_their_line() -> None:
    pytest.importorskip("matplotlib")
    sheets = [contact_sheet([CELL], 1, [name]) for name in ("царапина", "вмятина!", "κύκλος β")]
    assert all((sheet[:, 98:] < 200).any() for sheet in sheets)
    assert not np.array_equal(sheets[0], sheets[1])
    fallen = contact_sheet([CELL], 1, ["царапина\nцарапина"])
    np.testing.assert_array_equal(fallen[:, 98:112], fallen[:, 112:126])
