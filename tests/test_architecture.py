"""The shape of the house: imports flow one way, files stay small, nothing stands twice, all is documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
CODE = SOURCES + sorted((ROOT / "tests").rglob("*.py")) + sorted((ROOT / "benchmarks").rglob("*.py"))
WINDOW = 6


def test_imports_flow_one_way() -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-1000:]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_hold_one_idea(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


def code_lines(path: Path) -> list[str]:
    """Lines that say something: no blanks, comments, imports, lone punctuation."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if len(line) > 3 and not line.startswith(("#", "import ", "from ", '"""', "@"))]


def test_less_than_three_in_a_hundred_lines_are_written_twice() -> None:
    where: dict[tuple[str, ...], list[tuple[Path, int]]] = defaultdict(list)
    total = 0
    for path in SOURCES:
        lines = code_lines(path)
        total += len(lines)
        for start in range(len(lines) - WINDOW + 1):
            where[tuple(lines[start : start + WINDOW])].append((path, start))
    repeated = {
        (path, start + offset)
        for places in where.values()
        if len(places) > 1
        for path, start in places
        for offset in range(WINDOW)
    }
    assert len(repeated) / total < 0.03, sorted({str(path.relative_to(ROOT)) for path, _ in repeated})


def public_functions(path: Path) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    """Public functions, classes and methods of a file, none of those inside a function."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (n for n in node.body if isinstance(n, ast.FunctionDef) and not n.name.startswith("_"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_public_function_is_typed_and_documented(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "the file says what it is"
    for node in public_functions(path):
        stub = any(isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant) for s in node.body)
        assert ast.get_docstring(node) or stub, f"{node.name} has no docstring"
        if isinstance(node, ast.FunctionDef):
            assert node.returns is not None, f"{node.name} does not say what it returns"
            arguments = [a for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
            assert all(a.annotation is not None for a in arguments), f"{node.name} has an argument without a type"
            assert node.args.kwarg is None, f"{node.name} passes on **{getattr(node.args.kwarg, 'arg', '')}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_pickles_and_nobody_asserts(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.Assert), "what a user can cause is an exception with advice"
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        module = node.module if isinstance(node, ast.ImportFrom) else None
        assert not {"pickle", "joblib", "dill"} & {*names, module}


def test_no_class_inherits_from_a_concrete_one() -> None:
    bases: dict[str, list[str]] = {}
    abstract = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [b.id for b in node.bases if isinstance(b, ast.Name)]
                if "ABC" in bases[node.name] or any(isinstance(b, ast.Subscript) for b in node.bases):
                    abstract.add(node.name)
    exceptions = {"ApercuError"}
    for name, parents in bases.items():
        concrete = [p for p in parents if p in bases and p not in abstract | exceptions and not p.startswith("_")]
        assert not concrete, f"{name} inherits from {concrete}"


def test_registered_parts_are_found_without_importing_them() -> None:
    program = (
        "import sys; from apercu import registry as r\n"
        "for folder in ('encoders', 'bottlenecks', 'decoders', 'likelihoods', 'tasks'):\n"
        "    assert all(r.docstring(folder, name) for name in r.names(folder)), folder\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_package_can_be_imported_without_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, apercu; assert 'torch' not in sys.modules"], check=True)
