"""Presets and tasks as their source states them, read without importing it: a listing costs no heavy import."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from typing import Any

from apercu.registry import ROOT


@dataclass(frozen=True)
class Setting:
    """One keyword-only parameter: its type as written, aliases replaced, and its default."""

    type: str
    default: Any

    def __str__(self) -> str:
        return f"{self.type} = {self.default!r}"


@dataclass(frozen=True)
class Signature:
    """A function's first sentence and its settings."""

    summary: str
    settings: dict[str, Setting]


def preset_signatures() -> dict[str, Signature]:
    """Every preset: the functions in `presets/` that return a model and have settings."""
    found = {}
    for file in sorted((ROOT / "presets").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        aliases = _aliases(tree)
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.args.kwonlyargs and not node.name.startswith("_"):
                found[node.name] = Signature(_summary(node), _settings(node, aliases))
    return found


def task_settings(name: str) -> dict[str, Setting]:
    """The settings of the task `name`: those of the constructor in its file."""
    tree = ast.parse((ROOT / "tasks" / f"{name}.py").read_text(encoding="utf-8"))
    tasks = [
        node
        for node in tree.body
        if isinstance(node, ast.ClassDef) and any(isinstance(b, ast.Name) and b.id == "Task" for b in node.bases)
    ]
    constructors = [f for node in tasks for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"]
    return _settings(constructors[0], _aliases(tree)) if constructors else {}


def _aliases(tree: ast.Module) -> dict[str, ast.expr]:
    """Names given to types at the top of a file, such as `Network = Literal["dense", "conv"]`."""
    return {
        node.targets[0].id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and isinstance(node.value, ast.Subscript)
    }


def _summary(node: ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n\n")[0].replace("\n", " ")


def _settings(node: ast.FunctionDef, aliases: dict[str, ast.expr]) -> dict[str, Setting]:
    return {
        argument.arg: Setting(_type(argument.annotation, aliases), ast.literal_eval(default))
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        if default is not None
    }


def _type(annotation: ast.expr | None, aliases: dict[str, ast.expr]) -> str:
    """The type in words: the choices of a `Literal`, otherwise as written."""
    if isinstance(annotation, ast.Name) and annotation.id in aliases:
        annotation = aliases[annotation.id]
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Literal":
        inside = annotation.slice
        choices = inside.elts if isinstance(inside, ast.Tuple) else [inside]
        return " | ".join(str(ast.literal_eval(choice)) for choice in choices)
    return ast.unparse(annotation) if annotation is not None else "str"
