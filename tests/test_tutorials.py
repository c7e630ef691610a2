"""Every tutorial is executed as it stands, block after block, in an empty folder."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path

import pytest

from tests.commands import run

PAGES = sorted((Path(__file__).resolve().parents[1] / "docs" / "tutorials").glob("*.md"))


def blocks(page: Path) -> list[tuple[str, str]]:
    """(language, text) of every fenced block."""
    return re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def test_there_are_tutorials() -> None:
    assert [page.stem for page in PAGES] == [
        "a-year-of-inspection-images",
        "good-parts-only",
        "mend-scratched-scans",
        "ten-labels",
        "what-to-label-next",
        "why-did-it-say-that",
        "worth-labelling-more",
    ]
    assert {language for page in PAGES for language, _ in blocks(page)} <= {"sh", "python", "text"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_tutorial_does_what_it_says(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, text in blocks(page):
        if language == "sh":
            for line in text.splitlines():
                program, *words = shlex.split(line)
                assert program == "apercu"
                said = run(*words)
                assert said.status == 0, f"{line}\n{said.err}"
                assert said.out.strip()
        elif language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(text, page.name, "exec"), names)  # noqa: S102
