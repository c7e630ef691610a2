"""The folder is the registry: a file in `encoders/`, `bottlenecks/`, `tasks/`, … is a part with that public name.

Names and one-line summaries are read from the files themselves without importing them, so that a listing costs no
heavy import. The first name in a file's `__all__` is its part.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

from apercu.errors import ApercuError

ROOT = Path(__file__).parent


def names(folder: str) -> list[str]:
    """The public names in `src/apercu/<folder>`, sorted; `base` and underscored files are not parts."""
    files = (ROOT / folder).glob("*.py")
    return sorted(f.stem for f in files if f.stem != "base" and not f.stem.startswith("_"))


def load(folder: str, name: str) -> ModuleType:
    """Import the file `name` of `folder`.

    Raises:
        ApercuError: there is no such part; the message lists those there are.
    """
    known = names(folder)
    if name not in known:
        raise ApercuError(f"there is no {name!r} in {folder}; choose one of: {', '.join(known)}")
    return importlib.import_module(f"apercu.{folder.replace('/', '.')}.{name}")


def part(folder: str, name: str) -> Any:  # noqa: ANN401 - each folder has its own kind of part
    """The part that the file `name` of `folder` defines."""
    module = load(folder, name)
    return getattr(module, module.__all__[0])


def docstring(folder: str, name: str) -> str:
    """The module docstring of a part, read without importing it."""
    return ast.get_docstring(ast.parse((ROOT / folder / f"{name}.py").read_text(encoding="utf-8"))) or ""
