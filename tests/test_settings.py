"""Settings from the command line: converted as they are typed, refused with advice, and listed as they are."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apercu import registry
from apercu.cli.signatures import preset_signatures, task_settings
from apercu.errors import ApercuError
from apercu.presets import PRESETS
from apercu.settings import convert, describe, parse_settings


def _settings_of(target: Callable[..., object]) -> list[inspect.Parameter]:
    parameters = inspect.signature(target, eval_str=True).parameters.values()
    return [p for p in parameters if p.kind is p.KEYWORD_ONLY]


def _values(hint: type) -> st.SearchStrategy[Any]:
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is tuple:
        return st.lists(_values(get_args(hint)[0]), min_size=1).map(tuple)
    words = st.text("abc:/.@-0", min_size=1)
    finite = st.floats(allow_nan=False, allow_infinity=False)
    return {int: st.integers(), float: finite, bool: st.booleans(), str: words}[hint]


@given(st.data())
def test_every_setting_of_every_preset_is_read_back(data: st.DataObject) -> None:
    preset = data.draw(st.sampled_from(list(PRESETS.values())))
    parameter = data.draw(st.sampled_from(_settings_of(preset)))
    value = data.draw(_values(parameter.annotation))
    text = ",".join(map(str, value)) if isinstance(value, tuple) else value
    read = parse_settings([f"{parameter.name}={text}"], preset)
    assert read == {parameter.name: value}
    assert type(read[parameter.name]) is type(value)


@given(st.data(), st.text(max_size=12))
def test_any_text_is_read_or_refused_in_one_sentence(data: st.DataObject, text: str) -> None:
    preset = data.draw(st.sampled_from(list(PRESETS.values())))
    parameter = data.draw(st.sampled_from(_settings_of(preset)))
    kind, pair = parameter.annotation, [f"{parameter.name}={text}"]
    try:
        value = parse_settings(pair, preset)[parameter.name]
    except ApercuError:
        with pytest.raises(ApercuError, match=f"^{parameter.name} must be {describe(kind)}, not .*$"):
            parse_settings(pair, preset)
    else:
        assert value in get_args(kind) or isinstance(value, get_origin(kind) or kind)


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("3", int | None, 3),
        ("none", int | None, None),
        ("None", str | None, None),
        ("3", str | int, 3),
        ("x", str | int, "x"),
        ("1,2", tuple[int, int], (1, 2)),
        ("1, 2, 3", tuple[int, ...], (1, 2, 3)),
        ("", tuple[int, ...], ()),
        ("a,b", list[str], ["a", "b"]),
        ("8", Literal[4, 8], 8),
        ("a/b", Path, Path("a/b")),
        ("OFF", bool, False),
    ],
)
def test_convert(text: str, hint: object, value: object) -> None:
    assert convert(text, hint) == value


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("1.5", int),
        ("nan", float),
        ("inf", float),
        ("maybe", bool),
        ("", int),
        ("c", Literal["a", "b"]),
        ("1,2,3", tuple[int, int]),
        ("x", int | None),
    ],
)
def test_convert_refuses(text: str, hint: object) -> None:
    with pytest.raises(ValueError):
        convert(text, hint)


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("dim", "write it as -s name=value"),
        ("dmi=3", "vae has no setting 'dmi'; there are: dim=32 (a whole number); encoder=conv (one of dense, conv"),
        ("dim=3.5", "dim must be a whole number, not '3.5'"),
        ("encoder=cnn", "encoder must be one of dense, conv, residual, vit, not 'cnn'"),
    ],
)
def test_wrong_settings_say_what_there_is(pair: str, words: str) -> None:
    with pytest.raises(ApercuError) as caught:
        parse_settings([pair], PRESETS["vae"])
    assert words in str(caught.value)


def test_presets_are_listed_as_they_are() -> None:
    listed = preset_signatures()
    assert list(listed) == list(PRESETS)
    for name, preset in PRESETS.items():
        defaults = {p.name: p.default for p in _settings_of(preset)}
        assert {setting: about.default for setting, about in listed[name].settings.items()} == defaults
        assert " ".join((preset.__doc__ or "").split()).startswith(listed[name].summary)
    assert str(listed["vae_cnn"].settings["encoder"]) == "dense | conv | residual | vit = 'residual'"


@pytest.mark.parametrize("name", registry.names("tasks"))
def test_settings_of_tasks_are_listed_as_they_are(name: str) -> None:
    settings = {p.name: p.default for p in _settings_of(registry.part("tasks", name))}
    assert {setting: about.default for setting, about in task_settings(name).items()} == settings
