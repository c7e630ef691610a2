"""The command line: answers, statuses, settings, and a round trip with names that are hard to print."""

from __future__ import annotations

import dataclasses
import inspect
import math
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.main import get_command

from apercu import registry
from apercu.cli.app import app, main
from apercu.cli.fit import fit as fit_command
from apercu.tracking import Progress
from apercu.training import Training
from tests.commands import run

CLASSES = ("red [bold] cat", "größe π", "plain")
COMMANDS = sorted(get_command(app).commands)  # type: ignore[attr-defined]


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of drawn images and a file that is none, under names with spaces, brackets and letters."""
    root = tmp_path_factory.mktemp("photos [red] of π")
    rng = np.random.default_rng(0)
    for k, name in enumerate(CLASSES):
        (root / name).mkdir()
        for i in range(30):
            pixels = rng.integers(0, 60, (12, 12)).astype(np.uint8)
            pixels[4 * k : 4 * k + 4] += 150
            Image.fromarray(pixels).save(root / name / f"image [bold] {i} é.png")
    (root / CLASSES[0] / "broken [x].png").write_bytes(b"this is no image")
    return root


@pytest.fixture(scope="session")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "a [model] ü"
    settings = ("-s", "encoder=dense", "-s", "dim=8", "-s", "width=16")
    assert main(["fit", str(photos), "-o", str(out), *settings, "--epochs", "4", "--batch", "16"]) == 0
    return out


def test_help_imports_nothing_heavy() -> None:
    heavy = ("torch", "sklearn", "numpy", "scipy", "rich", "matplotlib", "lightning_fabric", "PIL")
    code = f"import sys; from apercu.cli import main; main(['--help']); print([m for m in {heavy} if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"
    assert all(name in said.stdout for name in COMMANDS)


def test_every_task_is_a_command() -> None:
    assert set(registry.names("tasks")) < set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_an_example_and_json(command: str) -> None:
    said = run(command, "--help")
    assert said.status == 0
    assert re.search(rf"Example: apercu .*\b{command}\b", said.out)
    assert "--json" in said.out


def test_version_and_bare_call() -> None:
    assert run("--version").out.startswith("apercu 0.")
    assert run().out == run("--help").out


def test_defaults_are_those_of_training() -> None:
    parameters = inspect.signature(fit_command).parameters
    shared = [field for field in dataclasses.fields(Training) if field.name in parameters]
    assert len(shared) == 12
    for field in shared:
        assert parameters[field.name].default == field.default, field.name


def test_presets() -> None:
    assert run("presets", "--json").answer["vae"]["settings"]["beta"] == {"type": "float", "default": 1.0}
    assert "  beta: float = 1.0" in run("presets").out.splitlines()


def test_info(model: Path) -> None:
    recipe = run("info", model, "--json").answer
    assert recipe["preset"] == "vae_cnn"
    assert recipe["settings"] | {"encoder": "dense", "dim": 8, "width": 16} == recipe["settings"]
    assert sorted(recipe["classes"]) == sorted(CLASSES)
    assert recipe["metrics"]["classify"]["n"] > 0
    words = run("info", model).out
    assert all(name in words for name in ("vae_cnn", *CLASSES, "dim=8", "accuracy"))


def test_fit_says_what_it_opened(photos: Path, tmp_path: Path) -> None:
    said = run("fit", photos, "-o", tmp_path / "m", "--preset", "ae", "--epochs", "2", "--json")
    assert said.status == 0
    assert said.answer["model"] == str(tmp_path / "m")
    assert "broken [x].png" in said.err
    assert f"{said.answer['data']['train']} images to train" in said.err
    assert "step" in said.err
    assert "bfloat16" not in said.err
    assert "\x1b" not in said.err
    # Every model that saw labels can classify, with a joint head or without.
    assert said.answer["tasks"]["classify"]["labels"] == said.answer["data"]["labelled"]
    assert said.answer["metrics"]["classify"]["accuracy"] is not None
    again = run("fit", photos, "-o", tmp_path / "m", "--preset", "ae", "--json")
    assert again.status == 2
    assert "--overwrite" in again.answer["error"]


def test_images_without_classes_get_a_vae(photos: Path, tmp_path: Path) -> None:
    said = run("fit", photos / CLASSES[2], "-o", tmp_path / "m", "--epochs", "1", "--json")
    assert said.answer["preset"] == "vae"
    assert said.answer["tasks"] == {}
    assert "the preset is vae" in said.err
    refused = run("fit", photos / CLASSES[2], "-o", tmp_path / "n", "--preset", "vae_cnn")
    assert refused.status == 2
    assert "--preset vae" in refused.err


def test_images_are_opened_later_as_they_were_for_training(photos: Path, tmp_path: Path) -> None:
    opening = ("--size", "8x10", "--fit", "resize", "--channels", "3", "--labels", "15")
    fitted = run("fit", photos, "-o", tmp_path / "m", "--preset", "ae", "--epochs", "1", *opening, "--json").answer
    assert (fitted["image"]["height"], fitted["image"]["width"], fitted["image"]["channels"]) == (8, 10, 3)
    assert fitted["data"]["labelled"] == 15
    assert run("evaluate", "classify", tmp_path / "m", photos, "--json").answer["n"] == fitted["data"]["test"]
    refused = run("evaluate", "classify", tmp_path / "m", photos, "--size", "9x9", "--json")
    assert refused.status == 2


def test_ctrl_c_says_how_to_go_on(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(steps: Iterator[Progress]) -> None:
        next(steps)
        raise KeyboardInterrupt

    folder = tmp_path / "my model"
    with monkeypatch.context() as patch:
        patch.setattr("apercu.cli.fit.follow", interrupted)
        said = run("fit", photos, "-o", folder, "--preset", "ae", "--epochs", "2", "--json")
    assert said.status == 130
    advice = said.answer["error"]
    assert advice.endswith("--resume")
    assert f"-o '{folder}'" in advice
    resumed = run("fit", photos, "-o", folder, "--resume", "--json")
    assert resumed.status == 0
    assert resumed.answer["preset"] == "ae"
    assert resumed.answer["training"]["epochs"] == 2
    assert run("fit", photos, "-o", folder, "--resume").status == 2


def test_check(photos: Path) -> None:
    answer = run("check", photos, "--json").answer
    assert sum(answer["splits"].values()) == 90
    assert "broken [x].png" in run("check", photos).out


def test_evaluate_classify(model: Path, photos: Path) -> None:
    said = run("evaluate", "classify", model, photos, "--json")
    assert said.status == 0
    assert {"n", "accuracy", "per_class", "confusion"} <= set(said.answer)
    assert set(said.answer["per_class"]) == set(CLASSES)
    everything = run("evaluate", "classify", model, photos, "--split", "all", "--json").answer
    assert everything["n"] == 90
    words = run("evaluate", "classify", model, photos).out
    assert "accuracy: " in words
    assert all(name in words for name in CLASSES)


OWN_COMMANDS = {"compress", "decompress"}  # tested in test_codec_tasks
NEED_MASKS = {"segment"}  # tested in test_segment


@pytest.mark.parametrize("task", sorted(set(registry.names("tasks")) - OWN_COMMANDS - NEED_MASKS))
def test_every_task_answers_with_one_object(model: Path, photos: Path, tmp_path: Path, task: str) -> None:
    own = tmp_path / "copy"
    shutil.copytree(model, own)  # what a task learns here must not reach the other tests
    some = tmp_path / "labels.csv"
    named = [f"{name}/image [bold] {i} é.png,{name}" for name in CLASSES for i in range(20)]
    some.write_text("\n".join(["path,label", *named]), encoding="utf-8")
    hidden = ("--labels", some) if task == "suggest" else ()  # where all have a label there is nothing to suggest
    for said in (
        run(task, own, photos, "-o", tmp_path / "out [x]", "--learn", photos, *hidden, "--json"),
        run("evaluate", task, own, photos, "--split", "all", "--json"),
    ):
        assert said.status == 0, said
        assert "error" not in said.answer
    assert run(task, own, photos, "--split", "nowhere").status == 2


def test_learn_fits_the_task_first(model: Path, photos: Path, tmp_path: Path) -> None:
    own = tmp_path / "copy"
    shutil.copytree(model, own)
    said = run("classify", own, photos, "--learn", photos, "-s", "method=linear", "--json")
    assert said.status == 0
    assert said.answer["n"] == 90
    assert run("info", own, "--json").answer["tasks"]["classify"]["method"] == "linear"


def test_tasks_that_need_no_images(model: Path, tmp_path: Path) -> None:
    said = run("generate", model, "-s", "count=3", "-o", tmp_path / "new", "--json")
    assert said.status == 0
    assert said.answer["n"] == 3
    assert len(list((tmp_path / "new").rglob("*.png"))) >= 3
    refused = run("classify", model)
    assert refused.status == 2
    assert "needs images" in refused.err


def test_report(model: Path, photos: Path, tmp_path: Path) -> None:
    said = run("report", model, "-o", tmp_path / "page.html", "--json")
    assert said.status == 0, said
    assert said.answer == {"report": str(tmp_path / "page.html")}
    assert "<html" in (tmp_path / "page.html").read_text(encoding="utf-8").lower()
    assert run("report", model, photos).status == 0
    assert (model / "report.html").is_file()


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = pytest.importorskip("apercu.demo")

    def short(out: Path, echo: Callable[[str], None]) -> dict[str, Any]:
        echo("learning")
        return {"out": out, "accuracy": math.nan}

    monkeypatch.setattr(module, "demo", short)
    said = run("demo", "-o", tmp_path, "--json")
    assert said.answer == {"out": str(tmp_path), "accuracy": None}
    assert said.err == "learning\n"


def test_a_task_names_the_image_that_it_leaves_out(
    model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["reconstruct", str(model), str(photos), "-o", str(tmp_path / "out")]) == 0
    assert "broken [x].png: " in capsys.readouterr().err.replace("\n", "")
