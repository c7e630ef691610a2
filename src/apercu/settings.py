"""Settings written as `name=value`, read by the typed keyword-only parameters of the function or class they are for."""

from __future__ import annotations

import inspect
import math
import types
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from apercu.errors import ApercuError

TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def parse_settings(pairs: Sequence[str], target: Callable[..., object]) -> dict[str, Any]:
    """The settings that `pairs` such as "dim=64" give to a preset or to a task's class, as its parameters are typed.

    Raises:
        ApercuError: not `name=value`, a name that `target` does not have, or a value of another type.
    """
    known = _settings(target)
    there = "; ".join(f"{p.name}={p.default} ({describe(p.annotation)})" for p in known.values())
    settings = {}
    for pair in pairs:
        name, equals, text = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ApercuError(f"{pair!r} is not a setting; write it as -s name=value")
        if name not in known:
            choice = f"there are: {there}" if known else "it has none"
            raise ApercuError(f"{target.__name__} has no setting {name!r}; {choice}")
        kind = known[name].annotation
        try:
            settings[name] = convert(text, kind)
        except ValueError as error:
            raise ApercuError(f"{name} must be {describe(kind)}, not {text!r}") from error
    return settings


def check_values(settings: Mapping[str, Any], target: Callable[..., object], sizes: Sequence[str] = ()) -> None:
    """See that `target` has these settings, of their types, and that numbers are in a range that means something.

    Numbers are finite and not negative; those in `sizes` are at least 1.

    Raises:
        ApercuError: no such setting, or a value of another kind.
    """
    known = _settings(target)
    for name, value in settings.items():
        if name not in known:
            raise ApercuError(f"{target.__name__} has no setting {name!r}; it has: {', '.join(known)}")
        kind, least = known[name].annotation, int(name in sizes)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise ApercuError(f"there is no {name} {value!r}; choose one of: {', '.join(map(str, get_args(kind)))}")
        if kind in (bool, str) and not isinstance(value, kind):
            raise ApercuError(f"{name} must be {describe(kind)}, not {value!r}")
        if kind is int and not (isinstance(value, int) and value >= least):
            raise ApercuError(f"{name} must be a whole number of at least {least}, not {value!r}")
        if kind is float and not (isinstance(value, int | float) and 0 <= value < math.inf):
            raise ApercuError(f"{name} must be a number that is not negative, not {value!r}")


def convert(text: str, hint: Any) -> Any:  # noqa: ANN401 - a type is made into its value
    """What `text` means where a value of type `hint` is expected.

    Raises:
        ValueError: it means nothing there.
    """
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _choose(text, {str(choice): choice for choice in inner})
    if origin in (Union, types.UnionType):
        return _first_that_fits(text, inner)
    if origin in (tuple, list):
        return origin(_sequence(text, inner))
    if hint is bool:
        return _choose(text.lower(), TRUTH)
    if hint is types.NoneType:
        return _choose(text.lower(), {"none": None})
    if hint is float and not math.isfinite(float(text)):
        raise ValueError(text)
    if hint in (int, float, str, Path):
        return hint(text)
    raise TypeError(f"settings of type {hint} cannot be read from text")


def describe(hint: Any) -> str:  # noqa: ANN401
    """The type of a setting in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in inner)
    if origin in (tuple, list):
        return "comma-separated, each " + " or ".join(dict.fromkeys(describe(p) for p in inner if p is not Ellipsis))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", Path: "a path"}
    return words.get(hint, "none" if hint is types.NoneType else str(hint))


def _settings(target: Callable[..., object]) -> dict[str, inspect.Parameter]:
    parameters = inspect.signature(target, eval_str=True).parameters.values()
    return {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY}


def _choose(text: str, choices: Mapping[str, Any]) -> Any:  # noqa: ANN401
    if text not in choices:
        raise ValueError(text)
    return choices[text]


def _first_that_fits(text: str, hints: Sequence[Any]) -> Any:  # noqa: ANN401
    # Any text is a str or a path, so those are asked last.
    for hint in sorted(hints, key=lambda hint: (hint in (str, Path), hint is not types.NoneType)):
        try:
            return convert(text, hint)
        except ValueError:
            continue
    raise ValueError(text)


def _sequence(text: str, hints: Sequence[Any]) -> list[Any]:
    parts = [part.strip() for part in text.split(",")] if text else []
    if len(hints) == 1 or hints[-1] is Ellipsis:
        return [convert(part, hints[0]) for part in parts]
    if len(parts) != len(hints):
        raise ValueError(text)
    return [convert(part, hint) for part, hint in zip(parts, hints, strict=True)]
