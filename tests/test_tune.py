"""The search for settings: who judges, what is searched, what is kept, and whether its command does what it says."""

from __future__ import annotations

import csv
import shlex
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("optuna")

from optuna import create_study
from optuna.trial import FixedTrial

from apercu.data.open import Images, open_images
from apercu.errors import ApercuError, FormatError, TrainingError
from apercu.presets import defaults
from apercu.study import Budget, TooLong
from apercu.tracking import Progress
from apercu.training import Training
from apercu.tune import Tuning, conclude, make_judge
from apercu.tune import run as tune_run
from apercu.tune.run import LOG
from apercu.tune.space import Space, three_digits
from tests.commands import run
from tests.conftest import shapes

TINY: dict[str, Any] = {"width": 4, "dim": 4, "hidden": 8}
SHORT = Training(epochs=10, batch=32)


@pytest.fixture(scope="module")
def images() -> Images:
    return open_images(shapes(150, side=8))


def blind(images: Images, *splits: str) -> Images:
    """The same images without the labels of these splits."""
    hidden = {name: images.split(name).with_labels(np.full(len(images.split(name)), -1)) for name in splits}
    return replace(images, **hidden)


class Scripted:
    """A training whose validations say `accuracies`, one for each tenth of it; an exception among them is raised."""

    def __init__(self, accuracies: list[Any]) -> None:
        self.accuracies = accuracies

    def run(self) -> Iterator[Progress]:
        for step, accuracy in enumerate(self.accuracies, start=1):
            if isinstance(accuracy, BaseException):
                raise accuracy
            row = {"val_accuracy": accuracy}
            yield Progress(step, len(self.accuracies), 0, step, {}, 1.0, row, [], {}, [])  # type: ignore[arg-type]

    def finish(self) -> None:
        """There is no model."""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> list[list[Any]]:
    """What the next trainings say; taken from the front."""
    coming: list[list[Any]] = []
    monkeypatch.setattr(tune_run, "prepare", lambda data, **given: Scripted(coming.pop(0)))
    return coming


def tuning(images: Images, folder: Path, labels: int | None = None, **given: Any) -> Tuning:  # noqa: ANN401
    judge = make_judge(images, labels, 0)
    return Tuning(judge, folder, **({"minutes": 60, "presets": ["vae_cnn"], "training": SHORT} | given))


def test_labelled_validation_images_judge_where_there_are_some(images: Images) -> None:
    judge = make_judge(images, None, 0)
    assert judge.by_accuracy
    assert list(judge.images.ids) == list(images.val.ids)
    assert judge.on_the_way({"val_accuracy": 0.5, "val_pixels": 3.0}) == 0.5
    assert judge.on_the_way({"val_pixels": 3.0}) is None


def test_else_a_third_of_the_labels_is_held_out(images: Images) -> None:
    judge = make_judge(images, 20, 0)
    held, left = judge.data.val, judge.data.train
    assert np.bincount(held.labels).tolist() == [3, 3]
    assert np.bincount(left.labels[left.labels >= 0]).tolist() == [7, 7]
    assert not set(held.ids) & set(left.ids)
    assert len(held) + len(left) == len(images.train)
    assert "6 of the 20 labelled images" in judge.about
    assert list(make_judge(images, 20, 1).data.val.ids) != list(held.ids)


def test_without_labels_the_bound_judges_whatever_its_weights(images: Images) -> None:
    judge = make_judge(blind(images, "train", "val", "test"), None, 0)
    assert not judge.by_accuracy
    assert judge.on_the_way({"val_pixels": 3.0, "val_kl": 2.0, "val_commitment": 9.0}) == 5.0
    assert list(judge.images.ids) == list(images.val.ids)


def test_too_few_labels_to_hold_some_out(images: Images) -> None:
    with pytest.raises(ApercuError, match="no class has three"):
        make_judge(images, 4, 0)
    empty = replace(blind(images, "train"), val=images.val.subset([]))
    with pytest.raises(ApercuError, match="no validation images"):
        make_judge(empty, None, 0)


def test_the_first_trial_of_a_preset_is_its_defaults() -> None:
    space = Space(("vae_cnn", "vae"), {}, 64, True)
    for preset in space.presets:
        choice = space.choose(FixedTrial(space.usual(preset)))
        assert choice.preset == preset
        known = defaults(preset) | ({"lam": 64.0} if preset == "vae_cnn" else {})
        assert choice.settings.items() <= known.items()
        assert choice.learning_rate == Training.learning_rate
        assert {"dim", "width", "beta"} <= choice.settings.keys()


def test_what_is_pinned_stays_and_numbers_can_be_typed() -> None:
    space = Space(("vae_cnn",), {"dim": 6, "encoder": "conv"}, 64, True, learning_rate=0.01)
    study = create_study()
    for _ in range(20):
        choice = space.choose(study.ask())
        assert choice.settings["dim"] == 6
        assert choice.settings["encoder"] == "conv"
        assert choice.learning_rate == 0.01
        assert choice.settings["width"] in (8, 16, 32, 64)
        assert 6.4 <= choice.settings["lam"] <= 640
        assert choice.settings["beta"] == float(f"{choice.settings['beta']:g}") == three_digits(choice.settings["beta"])
    by_price = Space(("vae",), {}, 64, False)
    assert "beta" not in by_price.choose(study.ask()).settings


def test_a_search_that_was_stopped_goes_on(images: Images, tmp_path: Path, script: list[list[Any]]) -> None:
    script += [[0.5] * 10, [0.6, KeyboardInterrupt()], [0.7] * 10, [0.6] * 10]
    first = tuning(images, tmp_path)
    running = first.run(Budget())
    assert next(running).value == 0.5
    with pytest.raises(KeyboardInterrupt):
        next(running)
    (cut,) = [t.params for t in first.study.trials if t.state.name == "RUNNING"]
    again = tuning(images, tmp_path)
    found = list(again.run(Budget(), trials=3))
    assert [tried.value for tried in found] == [0.7, 0.6]
    assert next(t for t in again.study.trials if t.value == 0.7).params == cut
    assert again.best == found[0]
    assert again.usual is not None
    assert again.usual.value == 0.5
    assert list(tuning(images, tmp_path).run(Budget(), trials=3)) == []
    rows = list(csv.DictReader((tmp_path / "trials.csv").read_text().splitlines()))
    assert [row["accuracy"] for row in rows] == ["0.5", "0.7", "0.6"]


def test_hopeless_trials_are_given_up_and_failures_are_noted(
    images: Images, tmp_path: Path, script: list[list[Any]]
) -> None:
    script += [[0.5 + 0.01 * k] * 10 for k in range(4)]
    script += [[0.1] * 10, [TrainingError("not finite")], [0.4] * 2 + [0.9] * 8]
    search = tuning(images, tmp_path)
    states = [tried.state for tried in search.run(Budget(), trials=7)]
    assert states == ["finished"] * 4 + ["given up", "failed", "finished"]
    assert len(search.study.trials[4].intermediate_values) == tune_run.FIRST
    assert search.best is not None
    assert search.best.value == 0.9
    answer = conclude(search, ["IMAGES"])
    assert (answer["trials"], answer["given_up"], answer["failed"]) == (7, 1, 1)
    assert "the defaults of vae_cnn 50.0 %." in answer["verdict"]


def test_one_trial_is_always_tried_and_none_that_cannot_end(
    images: Images, tmp_path: Path, script: list[list[Any]]
) -> None:
    script += [[0.5] * 10, [0.6] * 10]
    search = tuning(images, tmp_path, training=replace(SHORT, epochs=None, minutes=3.0))
    assert len(list(search.run(Budget(2)))) == 1
    script.insert(0, [TooLong(600)])
    with pytest.raises(TooLong):
        list(search.run(Budget(), trials=2))
    assert len(search.tried) == 1
    with pytest.raises(ApercuError, match="at least 1"):
        next(search.run(Budget(), trials=0))


def test_the_length_of_a_trial_stays_that_of_the_first_call(images: Images, tmp_path: Path) -> None:
    assert tuning(images, tmp_path, minutes=30, training=Training()).training.minutes == pytest.approx(3)
    assert tuning(images, tmp_path, minutes=60, training=Training()).training.minutes == pytest.approx(3)
    with pytest.raises(ApercuError, match="other training"):
        tuning(images, tmp_path, training=Training(epochs=3))
    with pytest.raises(ApercuError, match="other settings"):
        tuning(images, tmp_path, training=Training(), pinned={"dim": 3})
    fresh = tuning(images, tmp_path, training=Training(epochs=3), overwrite=True)
    assert (fresh.training.epochs, fresh.training.minutes) == (3, None)
    (tmp_path / LOG).write_text("this is no log\n")
    with pytest.raises(FormatError, match="damaged"):
        tuning(images, tmp_path)


def test_the_command_learns_what_the_trial_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = shapes(150, side=8)
    np.savez(tmp_path / "drawn.npz", x=x, y=y)
    monkeypatch.chdir(tmp_path)
    options = ("-s", "width=4", "-s", "hidden=8", "--epochs", "2", "--batch", "32", "--preset", "vae_cnn")
    said = run("tune", "drawn.npz", "-o", "tuned", "--trials", "2", *options, "--json")
    assert said.status == 0, said.err
    assert said.answer["trials"] == 2
    words = shlex.split(said.answer["command"])
    assert run(*words[1:]).status == 0
    history = list(csv.DictReader((tmp_path / "model" / "history.csv").read_text().splitlines()))
    assert float(history[-1]["val_accuracy"]) == said.answer["best"]["value"]
    again = run("tune", "drawn.npz", "-o", "tuned", "--trials", "2", *options)
    assert said.answer["command"] in again.out


def test_presets_without_a_head_are_judged_by_a_probe(images: Images, tmp_path: Path) -> None:
    search = tuning(images, tmp_path, presets=["vae"], pinned=TINY, training=replace(SHORT, epochs=1))
    (tried,) = search.run(Budget(), trials=1)
    assert tried.value is not None
    assert 0.0 <= tried.value <= 1.0
    assert asdict(tried.choice)["settings"]["dim"] == 4


def test_prices_of_different_presets_are_not_compared(images: Images, tmp_path: Path) -> None:
    unlabelled = blind(images, "train", "val")
    assert tuning(unlabelled, tmp_path / "one", presets=[]).space.presets == ("vae",)
    with pytest.raises(ApercuError, match="only those of one preset"):
        tuning(unlabelled, tmp_path / "two", presets=["vae", "ae"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--minutes", "nan"], "minutes must be a positive number"),
        (["--minutes", "0"], "minutes must be a positive number"),
        (["--minutes", "-3"], "minutes must be a positive number"),
        (["--minutes-per-run", "inf"], "minutes must be a positive number"),
        (["--learning-rate", "nan"], "learning_rate must be a positive number"),
        (["--preset", "vae_cnn,resnet"], "there is no preset 'resnet'"),
        (["-s", "colour=1"], "vae_cnn has no setting 'colour'"),
        (["--labels", "10"], "no class has three of them"),
        (["--labels", "3"], "fewer than the 10 classes"),
    ],
)
def test_bad_questions_are_refused_before_any_work(options: list[str], words: str, tmp_path: Path) -> None:
    said = run("tune", "sklearn:digits", "-o", tmp_path / "out", *options)
    assert said.status == 2
    assert words in said.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_without_optuna_there_is_advice(images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ApercuError, match=r"apercu\[tune\]"):
        tuning(images, tmp_path)
