"""Accuracy against labels: the statistics against references, what is kept, and the questions that are refused."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

from apercu import baselines
from apercu.baselines import cnn_on_labels
from apercu.curve import METHODS, Curve, conclude, methods
from apercu.curve.chart import APART, HEIGHT, draw, spread
from apercu.curve.methods import Bench, Method
from apercu.curve.run import FILE, Figure, usual_counts
from apercu.curve.verdict import compare, forecast, in_words, mean, power_law
from apercu.data.images import ImageSet
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError, FormatError
from apercu.fitting import Job
from apercu.model import Autoencoder
from apercu.objective import pixels
from apercu.study import Budget, TooLong
from apercu.tracking import Progress
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

TINY: dict[str, Any] = {"width": 4, "dim": 4, "hidden": 8}
SHORT = Training(epochs=1, batch=32)


@pytest.fixture(scope="module")
def images() -> Images:
    return open_images(shapes(150, side=8))


def figures(table: dict[str, dict[int, list[float]]], classes: int = 10) -> list[Figure]:
    """Figures of accuracies by method and labels per class, one for each seed."""
    return [
        Figure(method, count, count * classes, seed, accuracy, 1.0)
        for method, row in table.items()
        for count, values in row.items()
        for seed, accuracy in enumerate(values)
    ]


def test_an_interval_is_that_of_student() -> None:
    values = [0.91, 0.935, 0.92, 0.95]
    found = mean(values)
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert (found.value - found.half, found.value + found.half) == pytest.approx((low, high))  # type: ignore[operator]
    assert mean([0.5, 0.6]).half is None
    assert mean([0.5, 0.6]).sign == 0


def test_the_joint_model_is_compared_with_the_best_of_the_others_seed_by_seed() -> None:
    hard = [0.5, 0.6, 0.7]  # draws differ much, the difference between methods hardly
    found = figures(
        {
            "joint": {10: [value + gain for value, gain in zip(hard, (0.05, 0.06, 0.07), strict=True)]},
            "probe": {10: [0.99] * 3},
            "pca": {10: hard},
            "pixels": {10: [0.1, 0.2, 0.3]},
        }
    )
    (comparison,) = compare(found)
    assert (comparison.ours, comparison.other) == ("joint", "pca")
    assert comparison.gain.value == pytest.approx(0.06)
    assert comparison.gain.half == pytest.approx(stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3))
    assert comparison.gain.sign == 1


def test_only_seeds_that_all_have_are_compared() -> None:
    found = figures({"joint": {1: [0.9, 0.8, 0.7]}, "pca": {1: [0.5, 0.4]}, "pixels": {1: [0.6]}})
    (comparison,) = compare(found)
    assert (comparison.other, comparison.gain.count) == ("pixels", 1)
    assert compare(figures({"joint": {1: [0.9]}, "pca": {5: [0.9]}})) == []
    assert compare(figures({"pca": {1: [0.9]}})) == []


def test_a_power_law_is_found_and_extrapolated() -> None:
    counts = [5, 10, 20, 40]
    errors = [0.4 * n**-0.5 for n in counts]
    assert power_law(counts, errors) == pytest.approx((0.4, 0.5))
    found = forecast(figures({"joint": {n: [1 - e] * 3 for n, e in zip(counts, errors, strict=True)}}), 10_000)
    assert found is not None
    assert found.gain.value == pytest.approx(0.4 * 40**-0.5 - 0.4 * 80**-0.5)
    assert found.factor == pytest.approx(2**-0.5)
    assert found.check == pytest.approx((1 - errors[-1], 1 - errors[-1]))


def test_no_error_at_all_can_be_extrapolated_and_two_counts_cannot() -> None:
    found = forecast(figures({"joint": {1: [0.9], 2: [1.0], 5: [1.0]}}), 200)
    assert found is not None
    assert 0 <= found.gain.value < 0.5 / 200
    assert forecast(figures({"joint": {1: [0.9], 2: [1.0]}}), 200) is None
    assert forecast(figures({"pca": {1: [0.9], 2: [1.0], 5: [1.0]}}), 200) is None


def joint_against_pca(gains: dict[int, list[float]], at: float = 0.8) -> list[Figure]:
    others = {count: [at] * len(values) for count, values in gains.items()}
    return figures({"pca": others, "joint": {count: [at + g for g in values] for count, values in gains.items()}})


def test_the_verdict_in_words() -> None:
    sure, unsure, loss = [0.06, 0.061, 0.062], [0.02, -0.02, 0.0], [-0.03, -0.031, -0.032]
    said = in_words(joint_against_pca({10: sure, 100: unsure}), 10_000, 10)[0]
    assert said == (
        "The unlabelled images gave +6.1 ± 0.2 points at 10 labels per class, compared with PCA + SVM, the best of the "
        "other methods; nothing sure beyond 10."
    )
    many = in_words(joint_against_pca({1: sure, 5: unsure, 10: sure}), 10_000, 10)[0]
    assert "+6.1 ± 0.2 points at 1 label per class and +6.1 ± 0.2 at 10, compared with" in many
    assert many.endswith("; no sure difference at 5 (+0.0 ± 5.0).")
    assert in_words(joint_against_pca({1: unsure}), 10_000, 10)[0].startswith("The unlabelled images did not help;")
    harm = in_words(joint_against_pca({1: sure, 5: loss}), 10_000, 10)[0]
    assert "they cost 3.1 ± 0.2 points at 5 labels per class" in harm
    assert in_words(joint_against_pca({1: [0.06]}), 10_000, 10)[0].startswith("With 1 seed there is no verdict yet")


def test_whether_to_label_more_in_words() -> None:
    def about(accuracies: list[float]) -> str:
        return in_words(figures({"joint": {5 * 2**i: [a] * 3 for i, a in enumerate(accuracies)}}), 10_000, 10)[0]

    assert "Doubling the labels to 40 per class (200 more labels) would give about +5.0 ± 0.0" in about([0.6, 0.8, 0.9])
    assert "hardly worth it" in about([0.98, 0.985, 0.99])
    assert "promises nothing" in about([0.9, 0.9, 0.9])
    assert "at least three numbers of labels" in about([0.9, 0.95])
    assert "foretold 90.0 % at 40; measured: 85.0 %" in about([0.2, 0.6, 0.8, 0.85])


def test_few_test_images_are_said() -> None:
    few = joint_against_pca({1: [0.0]})
    assert "would move an accuracy by up to 7.8 points" in in_words(few, 100, 10)[-1]
    assert "would move" not in in_words(few, 10_000, 10)[-1]


@pytest.mark.parametrize(
    ("there", "counts"),
    [(1, [1]), (3, [1, 2, 3]), (11, [1, 2, 5, 10]), (80, [1, 2, 5, 10, 20, 50, 80]), (143, [1, 2, 5, 10, 20, 50, 100])],
)
def test_usual_counts_go_as_far_as_the_labels(there: int, counts: list[int]) -> None:
    assert usual_counts(there) == counts


def test_the_plan_gives_the_coarse_picture_first(images: Images, tmp_path: Path) -> None:
    plan = Curve(images, tmp_path, settings=TINY).plan([5, 1], 2, ["joint", "pixels"])
    assert plan[:4] == [("pixels", 1, 0), ("pixels", 5, 0), ("joint", 1, 0), ("joint", 5, 0)]
    assert [key.seed for key in plan] == [0] * 4 + [1] * 4


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The calls, (labels, seed), of a method "pixels" that costs nothing."""
    calls: list[tuple[int, int]] = []

    def answer(bench: Bench, few: Images, seed: int) -> np.ndarray:
        calls.append((int((few.train.labels >= 0).sum()), seed))
        return few.test.labels

    monkeypatch.setitem(METHODS, "pixels", Method("nothing", False, answer))
    return calls


def test_no_figure_is_measured_twice(images: Images, tmp_path: Path, counted: list[tuple[int, int]]) -> None:
    curve = Curve(images, tmp_path, settings=TINY)
    running = curve.run(curve.plan([1, 5], 2, ["pixels"]))
    next(running), next(running)
    running.close()  # stopped: what was measured is on the disk
    again = Curve(images, tmp_path, settings=TINY)
    plan = again.plan([1, 2, 5], 2, ["pixels"])
    assert len(again.missing(plan)) == 4
    assert len(list(again.run(plan))) == 4
    assert sorted(counted) == sorted((2 * count, seed) for count in (1, 2, 5) for seed in (0, 1))
    assert list(again.run(plan)) == []


def test_a_changed_question_is_refused(images: Images, tmp_path: Path, counted: list[tuple[int, int]]) -> None:
    curve = Curve(images, tmp_path, settings=TINY, training=SHORT)
    plan = curve.plan([1], 1, ["pixels"])
    list(curve.run(plan))
    with pytest.raises(ApercuError, match=r"other settings.*--overwrite"):
        Curve(images, tmp_path, settings=TINY | {"dim": 5}, training=SHORT)
    with pytest.raises(ApercuError, match="other training"):
        Curve(images, tmp_path, settings=TINY, training=Training(epochs=2, batch=32))
    with pytest.raises(ApercuError, match="other images"):
        Curve(open_images(shapes(150, side=8, seed=1)), tmp_path, settings=TINY, training=SHORT)
    assert Curve(images, tmp_path, settings=TINY, training=SHORT).missing(plan) == []
    assert Curve(images, tmp_path, settings={"dim": 5}, overwrite=True).missing(plan) == plan
    (tmp_path / FILE).write_text("{")
    with pytest.raises(FormatError, match="damaged"):
        Curve(images, tmp_path, settings=TINY)


def test_what_does_not_fit_into_the_budget_is_left_out(
    images: Images, tmp_path: Path, counted: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    def slow(bench: Bench, few: Images, seed: int) -> np.ndarray:
        tries.append(seed)
        raise TooLong(600)

    monkeypatch.setitem(METHODS, "joint", Method("slow", True, slow))
    curve = Curve(images, tmp_path, settings=TINY)
    plan = curve.plan([1, 2], 2, ["pixels", "joint"])
    assert len(list(curve.run(plan, Budget(60)))) == 4
    assert curve.too_long == {"joint": 600}
    assert tries == [0]
    answer = conclude(curve, plan)
    assert answer["missing"] == 4
    spent = Budget(1)
    spent.ends = 0.0
    assert list(curve.run(plan, spent)) == []
    with pytest.raises(ApercuError, match=r"--minutes-per-run"):
        conclude(Curve(images, tmp_path / "new", settings=TINY), plan)


def test_every_method_on_drawn_images(tmp_path: Path) -> None:
    x, y = shapes(150, side=8)
    np.savez(tmp_path / "drawn.npz", x=x, y=y)
    out, tiny = tmp_path / "out", [word for name, value in TINY.items() for word in ("-s", f"{name}={value}")]
    call = ("curve", tmp_path / "drawn.npz", "-o", out, "--labels", "1,3", "--seeds", "1", "--epochs", "1", *tiny)
    said = run(*call, "--batch", "32", "--json")
    assert said.status == 0, said.err
    answer = said.answer
    assert {(row["method"], row["labels_per_class"]) for row in answer["table"]} == {
        (m, n) for m in METHODS for n in (1, 3)
    }
    assert all(0 <= row["accuracy"] <= 1 for row in answer["table"])
    assert len(said.err.splitlines()) >= 12
    assert len(list((out / "codes").iterdir())) == 1
    rows = list(csv.DictReader((out / "curve.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["accuracy"]) for row in rows] == [
        f["accuracy"] for f in json.loads((out / FILE).read_text())["figures"]
    ]
    picture = ElementTree.parse(out / "curve.svg").getroot()
    text = "".join(picture.itertext())
    assert all(method.name in text for method in METHODS.values())
    again = run(*call, "--batch", "32")
    assert "0 of them to measure" in again.err
    assert "labels per class" in again.out
    assert "With 1 seed there is no verdict yet" in again.out
    assert "over 1 seed:" in again.out


def test_the_code_is_learnt_once_for_each_seed_and_without_labels(
    images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared: list[tuple[str, int]] = []
    real = methods.prepare

    def watched(data: Images, **given: Any) -> Job:  # noqa: ANN401
        prepared.append((given["preset"], int((data.train.labels >= 0).sum() + (data.val.labels >= 0).sum())))
        return real(data, **given)

    monkeypatch.setattr(methods, "prepare", watched)
    curve = Curve(images, tmp_path, settings=TINY, training=SHORT)
    list(curve.run(curve.plan([1, 2], 2, ["probe"])))
    assert prepared == [("vae", 0)] * 2


def test_the_same_network_sees_the_labelled_images_alone_in_the_same_views(
    images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Autoencoder, ImageSet]] = []

    def watched(network: Autoencoder, seen: ImageSet, *given: object) -> Iterator[Progress]:
        trained.append((network, seen))
        return iter(())

    monkeypatch.setattr(baselines, "train", watched)
    few = hide_labels(images, 8, 0).train
    cnn_on_labels(few, images.test, 0, 1, TINY)
    ((network, seen),) = trained
    assert list(seen.ids) == list(few.subset(few.labels >= 0).ids)
    joint = methods.build("vae_cnn", images.train.spec, 2, TINY)
    assert network.views == joint.views
    assert not network.objective.reads_pixels
    kept = {name for name, term in joint.objective.terms.items() if term.price is not pixels and name != "kl"}
    assert set(network.objective.terms) == kept >= {"label", "taught"}


def test_names_in_the_chart_stand_apart_and_inside() -> None:
    places = spread({"a": 100.0, "b": 101.0, "c": HEIGHT - 1.0, "d": float(HEIGHT), "e": 3.0})
    ordered = sorted(places.values())
    assert min(np.diff(ordered)) >= APART
    assert ordered[-1] <= HEIGHT
    assert places["e"] == 3.0


def test_a_chart_of_one_figure_and_of_perfect_ones() -> None:
    for accuracies in ([1.0], [1.0, 1.0, 1.0], [0.0]):
        text = draw(figures({"joint": {5: accuracies}}), "all <right> & well")
        assert "nan" not in text
        assert ElementTree.fromstring(text) is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--labels", "0"], "0 labels per class cannot be drawn"),
        (["--labels", "1,5000"], "ask for 1 to"),
        (["--labels", "1,x"], "whole numbers with commas"),
        (["--labels", ""], "whole numbers with commas"),
        (["--methods", "svm"], "there is no method 'svm'; choose from: pixels"),
        (["--seeds", "0"], "at least 1, better 3"),
        (["--minutes", "nan"], "minutes must be a positive number"),
        (["--minutes-per-run", "nan"], "minutes must be a positive number"),
        (["--epochs", "0"], "epochs must be a whole number"),
        (["-s", "colour=3"], "vae_cnn has no setting 'colour'"),
    ],
)
def test_bad_questions_are_refused_before_any_work(options: list[str], words: str, tmp_path: Path) -> None:
    said = run("curve", "sklearn:digits", "-o", tmp_path / "out", *options)
    assert said.status == 2
    assert words in said.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_images_that_no_curve_can_be_drawn_of(images: Images, tmp_path: Path) -> None:
    none = np.full(len(images.train), -1)
    for labels in (none, np.where(images.train.labels == 1, 1, -1)):
        images_of_one = Images(images.train.with_labels(labels), images.val, images.test, [], [], "here")
        with pytest.raises(ApercuError, match=r"two classes or more .* these have [01]"):
            Curve(images_of_one, tmp_path)
    blind = Images(images.train, images.val, images.test.with_labels(np.full(len(images.test), -1)), [], [], "here")
    with pytest.raises(ApercuError, match="none of the test images is labelled"):
        Curve(blind, tmp_path)
