"""Doubts: labels made wrong on purpose are found, copies contradict each other, and mistakes get one sentence."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.errors import ApercuError
from apercu.tasks.doubt import Doubt
from apercu.training import Training

SMALL = Training(epochs=12, batch=64, device="cpu", precision="32")


@pytest.fixture(scope="module")
def model() -> Model:
    return apercu.fit("sklearn:digits", preset="ae", settings={"dim": 16}, training=SMALL)


@pytest.fixture(scope="module")
def few(digits: Images) -> ImageSet:
    return digits.train.subset(np.arange(400))


def relabelled(images: ImageSet, rows: list[int], by: int = 1) -> ImageSet:
    labels = images.labels.copy()
    labels[rows] = (labels[rows] + by) % len(images.classes)
    return images.with_labels(labels)


def test_wrong_labels_are_named_with_the_likelier_one(model: Model, few: ImageSet, tmp_path: Path) -> None:
    wrong = list(range(0, 400, 20))
    said = Doubt(model)(relabelled(few, wrong), tmp_path)
    named = {row["id"]: row for row in said["doubts"]}
    found = [i for i in wrong if few.ids[i] in named]
    assert len(found) >= 14
    right = [named[few.ids[i]]["likelier"] == few.classes[few.labels[i]] for i in found]
    assert np.mean(right) > 0.8
    assert said["n"] == 400
    assert said["doubted"] == len(said["doubts"]) < 80
    p = [row["probability"] for row in said["doubts"]]
    assert p == sorted(p)
    assert all(row["given"] != row["likelier"] for row in said["doubts"])
    with (tmp_path / "doubts.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["given"]) for row in rows] == [(row["id"], row["given"]) for row in said["doubts"]]
    assert "label" not in rows[0]
    assert (tmp_path / "sheet.png").is_file()


def test_evaluation_finds_what_it_hid(model: Model, few: ImageSet) -> None:
    measured = Doubt(model, flipped=0.1).evaluate(few)
    assert measured == Doubt(model, flipped=0.1).evaluate(few)
    assert (measured["n"], measured["flipped"]) == (400, 40)
    assert measured["auroc"] > 0.9
    assert measured["precision"] > 0.5
    assert measured["recall"] > 0.6
    # Labels that say nothing of the images are as probable as the wrong ones among them.
    noise = few.with_labels(np.random.default_rng(0).integers(0, 10, 400))
    assert Doubt(model, flipped=0.1).evaluate(noise)["auroc"] == pytest.approx(0.5, abs=0.15)


def test_copies_with_two_labels_come_first_and_likenesses_are_named(model: Model, digits: Images) -> None:
    x, y = digits.train.read(np.arange(120)), digits.train.labels[:120]
    brighter = np.minimum(x[:3] * 1.05 + 0.4, 16).astype(x.dtype)
    other = (y[:3] + 1) % 10
    # Of the first two there is a copy and something like it with another label, of the third only the latter.
    images = model.images(np.concatenate([x, x[:2], brighter, x[3:4]]))
    rows = Doubt(model)(images.with_labels(np.r_[y, other[:2], other, y[3]], digits.train.classes))["doubts"]
    reasons = {row["id"]: row["reason"] for row in rows}
    first = {*list(reasons)[:2]}
    for pair in ({"image#0", "image#120"}, {"image#1", "image#121"}):
        (doubted,), (twin,) = pair & first, pair - first
        assert reasons[doubted] == f"the same image as {twin}"
    alike = {("image#2", "almost the same image as image#124"), ("image#124", "almost the same image as image#2")}
    assert len(alike & set(reasons.items())) == 1
    assert not {"image#3", "image#125"} & {i for i, reason in reasons.items() if "same" in reason}


def test_a_class_with_one_image_is_left_out_with_a_sentence(model: Model, few: ImageSet) -> None:
    rows = np.flatnonzero(few.labels < 4)
    rows = np.r_[rows[few.labels[rows] < 3], rows[few.labels[rows] == 3][:1]]
    said = Doubt(model)(few.subset(rows))
    assert said["n"] == len(rows)
    assert said["notes"] == ["the class 3 has a single image, so its label was not judged; add others"]
    assert "3" not in [row["given"] for row in said["doubts"]]


def test_what_users_can_mend_is_one_sentence(model: Model, few: ImageSet) -> None:
    for task in (Doubt(model), Doubt(model).evaluate):
        with pytest.raises(ApercuError, match="none of these images has a label"):
            task(few.with_labels(np.full(len(few), -1)))
        with pytest.raises(ApercuError, match="have 1 such"):
            task(few.subset(few.labels == 2))
    with pytest.raises(ApercuError, match="have 0 such"):
        Doubt(model)(few.subset([np.flatnonzero(few.labels == k)[0] for k in range(10)]))
    with pytest.raises(ApercuError, match="no images"):
        Doubt(model)(None)
    for flipped in (0.0, 0.5, float("nan")):
        with pytest.raises(ApercuError, match="a share between"):
            Doubt(model, flipped=flipped)


def test_without_cleanlab_it_says_how_to_get_it(model: Model, few: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab.filter", None)
    with pytest.raises(ApercuError, match=r"pip install 'apercu\[labels\]'"):
        Doubt(model)(few)
