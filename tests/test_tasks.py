"""Every task in the folder, on a small model: it answers in JSON, writes what it says, refuses with advice."""

from __future__ import annotations

import csv
import inspect
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import registry
from apercu.api import Model
from apercu.data.open import Images
from apercu.errors import ApercuError, FormatError
from apercu.tasks._probe import METHODS
from apercu.tasks.base import Task
from apercu.training import Training

TASKS = registry.names("tasks")
FAST = Training(epochs=8, batch=64, device="cpu", precision="32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tasks") / "model"
    apercu.fit("sklearn:digits", preset="vae_cnn", out=out, settings={"width": 8, "dim": 16}, training=FAST)
    return out


@pytest.fixture
def model(folder: Path) -> Model:
    return apercu.load(folder)


@pytest.fixture(scope="module")
def plain_model() -> Model:
    return apercu.fit("sklearn:digits", preset="ae", training=FAST)


@pytest.mark.parametrize("name", sorted(set(TASKS) - {"segment"}))  # which needs masks: see test_segment
def test_every_task_keeps_the_contract(name: str, model: Model, digits: Images, tmp_path: Path) -> None:
    part = registry.part("tasks", name)
    assert issubclass(part, Task)
    assert "Example: apercu" in registry.docstring("tasks", name)
    keywords = [p for p in inspect.signature(part).parameters.values() if p.name != "model"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in keywords)
    images = digits.test.with_labels(np.where(np.arange(len(digits.test)) % 4, digits.test.labels, -1))
    result = part(model)(images, tmp_path / "out with space")
    measured = part(model).evaluate(images)
    for answer in (result, measured):
        assert json.loads(json.dumps(answer, allow_nan=False)) == answer
        assert answer["n"] >= 1


@pytest.mark.parametrize("name", [n for n in TASKS if registry.part("tasks", n).needs_images])
def test_no_images_are_refused_with_advice(name: str, model: Model, digits: Images) -> None:
    with pytest.raises(ApercuError, match="no images"):
        registry.part("tasks", name)(model)(digits.test.subset([]))


def test_the_joint_head_recognises_and_the_table_adds_up(model: Model, digits: Images, tmp_path: Path) -> None:
    classify = registry.part("tasks", "classify")(model)
    measured = classify.evaluate(digits.test)
    assert measured["accuracy"] > 0.85
    confusion = np.array(measured["confusion"])
    assert confusion.sum() == measured["n"] == len(digits.test)
    assert confusion.trace() / confusion.sum() == pytest.approx(measured["accuracy"])
    answered = classify(digits.test, tmp_path)
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["label"] for row in answered["predictions"]]
    assert all(sum(float(row[c]) for c in model.classes) == pytest.approx(1, abs=1e-4) for row in rows)


@pytest.mark.parametrize("method", ["best", *METHODS, "finetune"])
def test_probes_are_fitted_kept_and_restored(method: str, folder: Path, digits: Images) -> None:
    part = registry.part("tasks", "classify")
    few = digits.train.subset(np.arange(200))
    first = part(apercu.load(folder), method=method, epochs=20)
    fitted = first.fit(few)
    assert fitted["labels"] == 200
    again = part(apercu.load(folder))
    np.testing.assert_allclose(first.probabilities(digits.test), again.probabilities(digits.test), atol=1e-6)
    assert again.evaluate(digits.test)["accuracy"] > 0.7


@pytest.mark.parametrize("labels", [2, 3, 4, 5])
def test_probes_live_with_very_few_labels_per_class(labels: int, plain_model: Model, digits: Images) -> None:
    chosen = np.concatenate([np.flatnonzero(digits.train.labels == k)[:labels] for k in range(3)])
    classify = registry.part("tasks", "classify")(plain_model)
    classify.fit(digits.train.subset(chosen))
    assert classify.probabilities(digits.test).shape == (len(digits.test), 10)


def test_classifying_without_a_classifier_says_how_to_get_one(digits: Images) -> None:
    model = apercu.fit("sklearn:digits", preset="ae", training=Training(epochs=1, device="cpu"))
    with pytest.raises(ApercuError, match="--learn"):
        registry.part("tasks", "classify")(model)(digits.test)
    with pytest.raises(ApercuError, match="at least two classes"):
        registry.part("tasks", "classify")(model).fit(digits.train.subset(digits.train.labels == 3))


def test_a_probe_of_foreign_types_is_not_opened() -> None:
    from skops.io import dumps

    from apercu.tasks._probe import restore

    with pytest.raises(FormatError, match="foreign types"):
        restore(dumps(Model))


def test_classes_are_matched_by_name(model: Model, digits: Images) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    place = np.argsort(order)
    shuffled = digits.test.with_labels(place[digits.test.labels], [str(k) for k in order])
    classify = registry.part("tasks", "classify")(model)
    assert classify.evaluate(shuffled)["accuracy"] == classify.evaluate(digits.test)["accuracy"]


def test_reconstructions_beat_the_mean_image(model: Model, digits: Images, tmp_path: Path) -> None:
    task = registry.part("tasks", "reconstruct")(model)
    measured = task.evaluate(digits.test)
    assert measured["psnr"] > measured["baseline_psnr"] + 1.5
    task(digits.test.subset(np.arange(5)), tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert len(names) == 6
    assert "sheet.png" in names


def test_generated_images_fill_a_folder_ready_to_train_with(model: Model, digits: Images, tmp_path: Path) -> None:
    task = registry.part("tasks", "generate")(model, count=12)
    assert task(None, tmp_path / "prior")["classes"] == {"all": 12}
    made = task(digits.train, tmp_path / "posterior")
    assert made["classes"] == {str(k): 12 for k in range(10)}
    (tmp_path / "posterior" / "sheet.png").unlink()
    opened = apercu.open_images(tmp_path / "posterior").split("all")
    assert (len(opened), opened.classes) == (120, tuple(map(str, range(10))))
    classify = registry.part("tasks", "classify")(model)
    assert classify.evaluate(model.images(tmp_path / "posterior"))["accuracy"] > 0.6


def test_interpolation_starts_at_one_image_and_ends_at_the_other(model: Model, digits: Images, tmp_path: Path) -> None:
    pixels = digits.test.read(np.array([0, 1]))
    for name, image in zip("ab", pixels, strict=True):
        Image.fromarray((image[0].astype(np.uint16) * 255 // 16).astype(np.uint8)).save(tmp_path / f"{name}.png")
    task = registry.part("tasks", "generate")(model, count=5, between=f"{tmp_path}/a.png,{tmp_path}/b.png")
    between = task.draw(None)["between"]
    ends = model.decode(model.encode([tmp_path / "a.png", tmp_path / "b.png"]))
    assert np.abs(between[[0, -1]].astype(int) - ends).max() <= 1
    with pytest.raises(ApercuError, match="two image files"):
        registry.part("tasks", "generate")(model, between="one.png").draw(None)


def test_a_code_without_prior_asks_for_images(plain_model: Model, digits: Images) -> None:
    generate = registry.part("tasks", "generate")(plain_model, count=4)
    with pytest.raises(ApercuError, match="give images"):
        generate(None)
    assert generate(digits.train)["n"] == 40
    with pytest.raises(ApercuError, match="no posterior"):
        registry.part("tasks", "likelihood")(plain_model)(digits.test)


def test_more_importance_samples_tighten_the_bound(model: Model, digits: Images) -> None:
    few, many = (registry.part("tasks", "likelihood")(model, samples=k).evaluate(digits.test) for k in (1, 50))
    assert few["nll"] == pytest.approx(few["negative_elbo"], rel=1e-5)
    assert many["nll"] < few["nll"]
    assert many["negative_elbo"] == pytest.approx(few["negative_elbo"], abs=3)
