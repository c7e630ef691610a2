"""What commands say: the answer on standard output, in words or as one JSON object; all else on standard error."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from apercu.errors import ApercuError

SHOWN = 20
SOME_FAILED = 2


class Stopped(ApercuError):
    """The user pressed Ctrl-C; the message says how to go on."""


def note(text: str) -> None:
    """Say something while the work goes on."""
    if leads():
        typer.echo(text, err=True)


def show(answer: Mapping[str, Any], words: str, as_json: bool) -> None:
    """Print the answer of a command."""
    if leads():
        typer.echo(json.dumps(plain(answer), allow_nan=False) if as_json else words)


def end(done: Mapping[str, Any], as_json: bool) -> None:
    """Print the answer of a command, and then what failed; ends with `SOME_FAILED` where something did.

    `done["failed"]`, if it is there: files with their reasons.
    """
    failed = done.get("failed", [])
    show(done, in_words({name: value for name, value in done.items() if name != "failed"}), as_json)
    for failure in failed:
        note(f"apercu: {failure['file']}: {failure['reason']}")
    if failed:
        raise typer.Exit(SOME_FAILED)


def leads() -> bool:
    """Whether this is the process that speaks, where torchrun started several."""
    return os.environ.get("RANK", "0") == "0"


def plain(value: Any) -> Any:  # noqa: ANN401 - anything goes in, JSON comes out
    """Values as JSON has them: NaN and infinities are null, arrays are lists, keys and paths are text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def in_words(answer: Mapping[str, Any]) -> str:
    """The answer for a person: a line for each value, a table for lists and dictionaries of records."""
    lines = []
    for name, value in answer.items():
        rows = _rows(value)
        lines += [f"{name}: {brief(value)}"] if rows is None else [f"{name}:", table(rows)]
    return "\n".join(lines)


def table(rows: Sequence[Sequence[object]]) -> str:
    """Columns of equal width, at most `SHOWN` rows."""
    texts = [[brief(cell) for cell in row] for row in rows[:SHOWN]]
    widths = [max(len(cell) for cell in column) for column in zip(*texts, strict=True)]
    lines = ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in texts]
    return "\n".join(lines + ([f"  … and {len(rows) - SHOWN} more; --json prints all"] if len(rows) > SHOWN else []))


def brief(value: object) -> str:
    """One value in a few characters."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Mapping):
        return brief([f"{key} {brief(item)}" for key, item in value.items()])
    if isinstance(value, list | tuple):
        more = f" and {len(value) - SHOWN} more" if len(value) > SHOWN else ""
        return ", ".join(map(brief, value[:SHOWN])) + more if value else "none"
    return "none" if value is None else str(value)


def _rows(value: object) -> list[list[object]] | None:
    """The rows of a table, where `value` is one: records, named records, or a matrix."""
    if isinstance(value, Mapping):
        if value and all(isinstance(item, Mapping) for item in value.values()):
            return _records([{"": name, **record} for name, record in value.items()])
        return None
    if not isinstance(value, list) or not value:
        return None
    if all(isinstance(item, Mapping) for item in value):
        return _records(value)
    if all(isinstance(item, list) and len(item) == len(value[0]) for item in value):
        return value
    return None


def _records(records: Sequence[Mapping[str, object]]) -> list[list[object]]:
    names = list(dict.fromkeys(name for record in records for name in record))
    return [list(names), *([record.get(name) for name in names] for record in records)]
