"""What the command line shows: progress on standard error, answers as JSON or in words."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

from apercu.cli.follow import counting, follow
from apercu.cli.output import in_words, plain
from apercu.tracking import Progress


def _progress(step: int, warnings: list[str]) -> Progress:
    row = {"step": float(step), "val_accuracy": 0.5}
    return Progress(step, 3, 0, 1.0, {"pixels": 12.0}, 100.0, row, [row], row, warnings)


WARNED: tuple[list[str], ...] = ([], ["only 2 of 9 [codes] are used"], ["only 3 of 9 [codes] are used"])


def test_progress_without_a_terminal_is_a_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    follow(_progress(step, warnings) for step, warnings in enumerate(WARNED, start=1))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("step 1/3  epoch 1  pixels 12  accuracy 0.500")
    assert lines[-1].startswith("step 3/3")
    assert [line for line in lines if "warning" in line] == ["warning: only 2 of 9 [codes] are used"]


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    follow(_progress(step, warnings) for step, warnings in enumerate(WARNED, start=1))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "3/3" in shown.err
    assert shown.err.count("only 2 of 9 [codes] are used") == 1


def test_counting_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with counting("looking") as progress:
        progress(1, 9)
        monkeypatch.setattr("apercu.cli.follow.LINE_SECONDS", -1.0)
        progress(2, 9)
    assert capsys.readouterr().err == "looking 2/9\n"


def test_plain_values_are_json() -> None:
    value = {Path("a"): np.float32(0.5), "b": np.array([1, 2]), "c": [math.nan, (math.inf, 1)], 3: None}
    assert plain(value) == {"a": 0.5, "b": [1, 2], "c": [None, [None, 1]], "3": None}


def test_answers_in_words_are_short() -> None:
    rows = [{"id": f"[b]{i}", "score": i / 3, "extra": {"k": True}} for i in range(50)]
    words = in_words(
        {"n": 50, "images": rows, "matrix": [[1, 2], [3, 4]], "names": list("ab"), "out": None, "none": []}
    )
    assert "n: 50" in words
    assert "[b]3   1" in words
    assert "… and 31 more" in words
    assert "names: a, b" in words
    assert "out: none" in words
    assert "k yes" in words
