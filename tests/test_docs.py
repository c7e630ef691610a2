"""The documentation says what the code does: signatures, commands, fields, links; read from source, without PyTorch."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCE, DOCS = ROOT / "src" / "apercu", ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md")) + [page for page in (ROOT / "README.md",) if page.is_file()]
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))


def tree(file: str) -> ast.Module:
    return ast.parse((SOURCE / file).read_text(encoding="utf-8"))


def definition(file: str, name: str) -> ast.FunctionDef | ast.ClassDef:
    return next(n for n in tree(file).body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name == name)


def fields(file: str, name: str) -> dict[str, str]:
    """The annotated fields of a class, with their defaults as written."""
    text = (SOURCE / file).read_text(encoding="utf-8")
    return {
        node.target.id: ast.get_source_segment(text, node.value) or "" if node.value else ""
        for node in definition(file, name).body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


def arguments(function: ast.FunctionDef, text: str) -> dict[str, str]:
    """Every argument of a function with its default as written, "" where it has none."""
    positional = function.args.posonlyargs + function.args.args
    defaults = [None] * (len(positional) - len(function.args.defaults)) + list(function.args.defaults)
    pairs = [*zip(positional, defaults, strict=True)]
    pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        argument.arg: "" if default is None else ast.get_source_segment(text, default) or ""
        for argument, default in pairs
        if argument.arg != "self"
    }


def presets() -> dict[str, dict[str, str]]:
    """The functions that the table PRESETS names, with their arguments."""
    functions = {}
    for file in (SOURCE / "presets").glob("*.py"):
        text = file.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef):
                functions[node.name] = arguments(node, text)
    table = next(
        node
        for node in tree("presets/__init__.py").body
        if isinstance(node, ast.AnnAssign) and "PRESETS" in ast.unparse(node.target)
    )
    return {n.id: functions[n.id] for n in ast.walk(table) if isinstance(n, ast.Name) and n.id in functions}


def for_tasks() -> dict[str, str]:
    """The preset that the table FOR_TASKS names for each task."""
    assign = next(n for n in tree("presets/__init__.py").body if "FOR_TASKS" in ast.unparse(n)[:20])
    assert isinstance(assign, ast.AnnAssign)
    assert assign.value is not None
    return {task: preset for task, (preset, _) in ast.literal_eval(assign.value).items()}


def cells(page: Path, after: str = "") -> dict[str, str]:
    """The tables of a page below the heading `after`: the first cell of each row → the second, without their marks."""
    text = page.read_text(encoding="utf-8")
    assert after in text, f"{page.name} has no {after!r}"
    section = text.partition(after)[2].partition("\n## ")[0]
    lines = [line for line in re.sub(r"\|.*\n\|---.*\n", "", section).splitlines() if line.startswith("|")]
    rows = [[cell.replace("\\|", "|").strip().strip("`") for cell in re.split(r"(?<!\\)\|", line)] for line in lines]
    return {row[1]: row[2] for row in rows}


def fenced(page: Path) -> Iterator[tuple[str, str]]:
    """(language, text) of every fenced block."""
    yield from re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.replace("`", "").lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in kept}


def commands() -> list[tuple[str, list[str]]]:
    """Every call of apercu in a block or between backticks, as (page, words after the program's name)."""
    found = []
    for page in PAGES:
        for call in re.findall(r"`apercu ([^`]+)`", prose(page)):
            found.append((page.name, shlex.split(call)))
        for language, text in fenced(page):
            if language not in ("", "sh", "bash", "shell", "console"):
                continue
            for line in text.splitlines():
                call = re.match(r"^(?:\$ )?(?:torchrun .*-m |python -m )?apercu (.+)$", line)
                if call:
                    found.append((page.name, shlex.split(call[1], comments=True)))
    return found


@pytest.mark.parametrize("name", presets())
def test_every_argument_of_a_preset_stands_on_its_page_with_its_default(name: str) -> None:
    page = DOCS / "models" / f"{name}.md"
    assert page.is_file(), f"preset {name} has no page"
    assert cells(page, "\n## Arguments") == presets()[name]


def test_every_page_of_a_model_is_a_preset_and_is_linked() -> None:
    assert {page.stem for page in (DOCS / "models").glob("*.md")} == set(presets())
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        if page.is_relative_to(DOCS) and page.name != "index.md":
            assert f"({page.relative_to(DOCS).as_posix()})" in index, f"index.md does not link {page.name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_relative_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page.name} links {target}, which is not there"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there), f"{page.name} links {target}, and there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_mathematics_survives_github(page: Path) -> None:
    text = prose(page)
    assert text.count("\n$$\n") % 2 == 0
    assert text.count("$") % 2 == 0
    inside = re.findall(r"\$\$(.+?)\$\$", text, flags=re.DOTALL)
    inside += re.findall(r"\$([^$\n]+)\$", re.sub(r"\$\$.+?\$\$", "", text, flags=re.DOTALL))
    for formula in inside:
        # Markdown takes a backslash before punctuation for itself, and GitHub refuses \operatorname.
        assert not re.search(r"\\[^A-Za-z\s]|\\operatorname", formula), formula
        assert formula.count("{") == formula.count("}"), formula


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.stem)
def test_every_decision_is_numbered_and_dated(page: Path) -> None:
    heading, _, date = page.read_text(encoding="utf-8").splitlines()[:3]
    assert re.fullmatch(r"\d{4}-[a-z0-9-]+", page.stem)
    assert heading.startswith(f"# {page.stem[:4]} · ")
    assert re.match(r"20\d\d-[01]\d-[0-3]\d\b", date)
    for part in ("Context", "Decision", "Figures", "Consequences"):
        assert f"\n## {part}\n" in page.read_text(encoding="utf-8")


def test_decisions_are_numbered_without_gaps() -> None:
    assert [int(page.name[:4]) for page in DECISIONS] == list(range(1, len(DECISIONS) + 1))


def test_training_options_stand_in_concepts_with_their_defaults() -> None:
    assert cells(DOCS / "concepts.md", "\n## Training") == fields("training.py", "Training")


@pytest.mark.parametrize(("file", "name"), [("store.py", "Recipe"), ("types.py", "ImageSpec")])
def test_every_field_of_the_recipe_is_explained(file: str, name: str) -> None:
    named = re.findall(r"\w+", " ".join(cells(DOCS / "model-format.md", "\n## apercu.json")))
    assert set(fields(file, name)) <= set(named)


def test_every_extension_and_every_source_of_images_is_explained() -> None:
    text = (DOCS / "images.md").read_text(encoding="utf-8")
    assign = next(
        n
        for n in tree("data/decode.py").body
        if isinstance(n, ast.Assign) and "EXTENSIONS" in ast.unparse(n.targets[0])
    )
    extensions = {node.value for node in ast.walk(assign) if isinstance(node, ast.Constant)}
    row = next(line for line in text.splitlines() if line.startswith("| extensions"))
    assert set(re.findall(r"`(\.\w+)`", row)) == extensions
    words = {"arrays": "arrays", "csv": "CSV", "npz": "`.npz`", "sklearn": "`sklearn:digits`", "folder": "folder"}
    for source in (SOURCE / "data" / "sources").glob("[a-z]*.py"):
        if source.stem != "base":
            assert words.get(source.stem, source.stem) in text.replace("Parquet", "parquet").replace("CIFAR", "cifar")


def test_every_task_is_in_concepts() -> None:
    known = {file.stem for file in (SOURCE / "tasks").glob("[a-z]*.py")} - {"base"}
    assert set(cells(DOCS / "concepts.md", "\n## Tasks")) == known


@pytest.mark.skipif(not (SOURCE / "cli" / "app.py").is_file(), reason="there is no command line")
@pytest.mark.parametrize(
    ("page", "words"), commands(), ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_every_command_exists_with_its_options_and_settings(page: str, words: list[str]) -> None:
    from typer.main import get_command

    from apercu.cli.app import app
    from apercu.cli.signatures import preset_signatures, task_settings

    program = get_command(app)
    if words[0].startswith("-"):
        assert words[0] in {option for parameter in program.params for option in parameter.opts} | {"--help"}
        return
    command = program.commands[words[0]]  # type: ignore[attr-defined]
    options = {option: parameter for parameter in command.params for option in parameter.opts} | {"--help": None}
    given = dict(zip(words, [*words[1:], ""], strict=True))
    for word in words[1:]:
        assert not word.startswith("-") or word in options, f"{page}: apercu {words[0]} has no option {word}"
    if words[0] == "evaluate" and len(words) > 1:
        assert (SOURCE / "tasks" / f"{words[1]}.py").is_file(), f"{page}: there is no task {words[1]}"
    pairs = [value.partition("=")[0] for word, value in itertools.pairwise(words) if word == "-s"]
    if pairs and words[0] in ("fit", "curve", "tune"):
        preset = for_tasks().get(given.get("--task", ""), given.get("--preset", "vae_cnn").partition(",")[0])
        assert set(pairs) <= set(preset_signatures()[preset].settings)
    elif pairs:
        assert set(pairs) <= set(task_settings(words[1] if words[0] == "evaluate" else words[0]))


@pytest.mark.skipif(not (SOURCE / "cli" / "app.py").is_file(), reason="there is no command line")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    from typer.main import get_command

    from apercu.cli.app import app

    program = get_command(app)
    commands = [program, *program.commands.values()]  # type: ignore[attr-defined]
    there = {option for command in commands for parameter in command.params for option in parameter.opts} | {"--help"}
    named = re.findall(r"`(--[a-z-]+)[^`]*`", prose(page))
    assert set(named) <= there


PYTHON = [(page.name, text) for page in PAGES for language, text in fenced(page) if language == "python"]


@pytest.mark.parametrize(("page", "text"), PYTHON, ids=[f"{page}-{number}" for number, (page, _) in enumerate(PYTHON)])
def test_python_names_what_there_is(page: str, text: str) -> None:
    init, api = tree("__init__.py"), (SOURCE / "api.py").read_text(encoding="utf-8")
    public = next(n for n in init.body if isinstance(n, ast.Assign) and "__all__" in ast.unparse(n.targets[0]))
    names = set(ast.literal_eval(public.value))
    model = definition("api.py", "Model")
    methods = {node.name: node for node in model.body if isinstance(node, ast.FunctionDef)}
    attributes = {"network", "recipe", "folder", "device"}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("apercu."):
            assert importlib.util.find_spec(node.module or "") is not None
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "apercu":
                assert node.attr in names, f"{page}: there is no apercu.{node.attr}"
            if node.value.id == "model":
                assert node.attr in {*methods, *attributes}, f"{page}: a model has no {node.attr}"
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        ):
            called, keywords = node.func.attr, {keyword.arg for keyword in node.keywords}
            if node.func.value.id == "apercu" and called in ("fit", "load", "prepare"):
                function = definition("api.py" if called == "load" else "fitting.py", called)
                assert isinstance(function, ast.FunctionDef)
                assert keywords <= set(arguments(function, api)), f"{page}: {called}"
            if node.func.value.id == "model" and called in methods:
                assert keywords <= set(arguments(methods[called], api)), f"{page}: {called}"
