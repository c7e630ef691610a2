"""What every HTML page shares: its templates and style, pictures inside the page, numbers and names in words."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from apercu.pages import words

__all__ = ["environment", "inline"]


def environment() -> Environment:
    """The templates; what they are given is text and never becomes part of the page's program or structure."""
    templates = Environment(
        loader=PackageLoader("apercu"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    templates.filters |= {"percent": words.percent, "number": words.number, "brief": words.brief}
    return templates


def inline(name: str) -> str:
    """The text of a style or program that a page holds, by its file in `templates`."""
    return (Path(__file__).parent.parent / "templates" / name).read_text(encoding="utf-8")
