"""Suggestions: the coverage that they maximise, against a plain search; what is left out; the file to fill in."""

from __future__ import annotations

import copy
import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.labels import hide_labels
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError
from apercu.tasks._alike import pairs_alike
from apercu.tasks._herding import herd
from apercu.tasks.suggest import Suggest
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

NONE = np.empty((0, 2), np.int64)
SMALL = Training(epochs=12, batch=64, device="cpu", precision="32")


@pytest.fixture(scope="module")
def model() -> Model:
    return apercu.fit("sklearn:digits", preset="ae", settings={"dim": 8}, training=SMALL)


def some_known(images: ImageSet, count: int) -> ImageSet:
    return images.with_labels(np.where(np.arange(len(images)) < count, images.labels, -1))


def blobs(*sizes: int, far: float = 20.0) -> np.ndarray:
    """Round groups of points, (sum of sizes, 2), far from each other."""
    rng = np.random.default_rng(0)
    return np.concatenate([rng.normal(far * k, 1, (size, 2)) for k, size in enumerate(sizes)]).astype(np.float32)


def plain_greedy(points: np.ndarray, labelled: np.ndarray, u: np.ndarray, n: int) -> list[int]:
    """The point that adds most coverage, again and again, every gain computed anew."""
    squared = ((points[:, None] - points[None]) ** 2).sum(-1)
    reach = max(len(points) // (len(labelled) + n), 5) - 1
    radius = np.median(np.sort(squared[:500], axis=1)[:, reach])
    near = np.exp(-squared / radius)
    covered = np.zeros(len(points))
    for point in labelled:
        covered = np.maximum(covered, np.exp(-((points - point) ** 2).sum(1) / radius))
    chosen: list[int] = []
    for _ in range(n):
        gains = np.maximum(near - covered, 0) @ u
        gains[chosen] = -1
        chosen.append(int(gains.argmax()))
        covered = np.maximum(covered, near[chosen[-1]])
    return chosen


@pytest.mark.parametrize("labels", [0, 1, 30])
def test_herding_is_the_greedy_maximum_of_weighted_coverage(labels: int) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(400, 3)).astype(np.float32)
    labelled, u = points[:labels] + np.float32(0.1), rng.random(400).astype(np.float32)
    chosen = herd(points, labelled, u, 40, NONE)
    assert chosen.rows.tolist() == plain_greedy(points, labelled, u, 40)
    assert herd(10 * points, 10 * labelled, u, 40, NONE).rows.tolist() == chosen.rows.tolist()
    assert 0 < chosen.stands_for.sum() <= 1
    assert ((chosen.typicality >= 0) & (chosen.typicality < 1)).all()


def test_large_groups_come_first_and_labelled_ones_last() -> None:
    points, u = blobs(300, 200, 100), np.ones(600, np.float32)
    group = np.repeat([0, 1, 2], [300, 200, 100])
    first = herd(points, points[:0], u, 3, NONE)
    assert group[first.rows].tolist() == [0, 1, 2]
    np.testing.assert_allclose(first.stands_for, [1 / 2, 1 / 3, 1 / 6], atol=0.01)
    assert group[herd(points, points[:1], u, 2, NONE).rows].tolist() == [1, 2]
    doubtful = np.where(group == 2, 1, 0.1).astype(np.float32)
    assert group[herd(points, points[:0], doubtful, 3, NONE).rows[0]] == 2


def test_copies_are_not_chosen_twice() -> None:
    distinct = blobs(3, 3, 3)
    points, u = np.tile(distinct, (5, 1)), np.ones(45, np.float32)
    assert sorted(herd(points, points[:0], u, 40, NONE).rows % 9) == list(range(9))
    assert sorted(herd(points, distinct[:2], u, 40, NONE).rows % 9) == list(range(2, 9))
    rows = herd(distinct, points[:0], u[:9], 9, np.array([[0, 1], [0, 2], [1, 2]])).rows
    assert sorted(np.maximum(rows, 2)) == list(range(2, 9))
    assert herd(np.ones((4, 2), np.float32), points[:0], u[:4], 4, NONE).rows.tolist() == [0]


def test_what_is_labelled_is_not_suggested_and_the_seed_decides(model: Model, digits: Images) -> None:
    images = some_known(digits.train, 50)
    first, again = (Suggest(model, n=30, seed=3)(images) for _ in range(2))
    assert first == again
    ids = [row["id"] for row in first["suggestions"]]
    assert len(set(ids)) == 30
    assert not set(ids) & set(images.ids[:50])
    assert (first["n"], first["labelled"], first["unlabelled"]) == (30, 50, len(images) - 50)
    for row in first["suggestions"]:
        assert row["guess"] in images.classes
        assert row["guess"] in row["reason"]
        assert 0 < row["uncertainty"] <= 1
        assert (" or " in row["reason"]) == (row["uncertainty"] > 0.5)


def test_without_any_label_the_most_typical_come_first(model: Model, digits: Images) -> None:
    rows = Suggest(model, n=10)(some_known(digits.train, 0))["suggestions"]
    assert all(row["guess"] is row["probability"] is row["uncertainty"] is None for row in rows)
    assert np.mean([row["typicality"] for row in rows]) > 0.6
    one_class = digits.train.with_labels(np.where(digits.train.labels == 3, 3, -1))
    assert Suggest(model, n=2)(one_class)["suggestions"][0]["guess"] is None


def test_the_models_own_classifier_is_asked(model: Model, digits: Images) -> None:
    own = Model(model.network, copy.deepcopy(model.recipe))
    task = Suggest(own, n=5)
    few = np.concatenate([np.flatnonzero(digits.val.labels == k)[:2] for k in (3, 7)])
    assert task.fit(digits.val.subset(few))["labels"] == 4
    rows = task(some_known(digits.train, 50))["suggestions"]
    assert {row["guess"] for row in rows} <= {"3", "7"}


def test_pictures_that_look_the_same_are_suggested_once(model: Model, digits: Images, tmp_path: Path) -> None:
    x = digits.test.read(np.arange(6))
    brighter = np.minimum(x * 1.05 + 0.4, 16).astype(x.dtype)
    images = model.images(np.concatenate([x, x, brighter]))
    assert {(i, i + 6) for i in range(6)} <= set(map(tuple, pairs_alike(images).tolist()))
    rows = Suggest(model, n=18)(images, tmp_path)["suggestions"]
    numbers = [int(row["id"].partition("#")[2]) % 6 for row in rows]
    assert sorted(numbers) == list(range(6))


def test_constant_copies_are_alike() -> None:
    flat = np.full((3, 1, 8, 8), 7, np.uint8)
    flat[2] = 9
    assert pairs_alike(open_images(flat).split("all")).tolist() == [[0, 1]]


def test_what_users_can_mend_is_one_sentence(model: Model, digits: Images) -> None:
    with pytest.raises(ApercuError, match="no images"):
        Suggest(model)(None)
    with pytest.raises(ApercuError, match=r"has a label already; put .* unlabelled"):
        Suggest(model)(digits.test)
    with pytest.raises(ApercuError, match="at least 1"):
        Suggest(model, n=0)
    with pytest.raises(ApercuError, match="-s n=2"):
        Suggest(model, n=20).evaluate(digits.test.subset(np.arange(9)))


def test_suggested_labels_are_worth_more_than_random_ones(model: Model, digits: Images) -> None:
    measured = Suggest(model, n=15).evaluate(digits.train)
    assert measured["labels"] == [15, 30]
    assert measured["suggested"][0] > measured["random"][0] + 0.03
    assert measured["gain"] == pytest.approx(measured["suggested"][1] - measured["random"][1])
    assert measured["standard_error"] > 0


def fill(file: Path, truth: dict[str, str]) -> list[dict[str, str]]:
    """Label the suggestions as a person would, and return the rows as they were."""
    with file.open(newline="") as opened:
        rows = list(csv.DictReader(opened))
    with file.open("w", newline="") as opened:
        writer = csv.DictWriter(opened, rows[0])
        writer.writeheader()
        writer.writerows(row | {"label": row["label"] or truth[row["path"]]} for row in rows)
    return rows


def test_the_file_is_filled_in_and_learnt_from_round_after_round(tmp_path: Path) -> None:
    x, y = shapes(60, side=12)
    truth = {f"image {i} é.png": ("square", "cross")[k] for i, k in enumerate(y)}
    photos, labels = tmp_path / "photos", tmp_path / "next" / "suggestions.csv"
    photos.mkdir()
    for name, pixels in zip(truth, x, strict=True):
        Image.fromarray(pixels[0]).save(photos / name)
    fit = ("--preset", "ae", "-s", "dim=4", "--epochs", "2", "--json", "--device", "cpu", "--overwrite")
    assert run("fit", photos, "-o", tmp_path / "m", *fit).status == 0
    said = run("suggest", tmp_path / "m", photos, "-n", 6, "-o", tmp_path / "next", "--json")
    assert said.answer["n"] == 6
    assert (tmp_path / "next" / "sheet.png").is_file()
    first = fill(labels, truth)
    assert [row["path"] for row in first] == [row["id"] for row in said.answer["suggestions"]]
    assert {row["label"] for row in first} == {""}
    fitted = run("fit", photos, "-o", tmp_path / "m", *fit, "--labels", labels)
    assert fitted.status == 0, fitted.err
    again = run(
        "suggest", tmp_path / "m", photos, "--labels", labels, "-n", 4, "-o", tmp_path / "next", "--json"
    ).answer
    assert (again["n"], again["labelled"], again["unlabelled"]) == (4, 6, 54)
    second = fill(labels, truth)
    assert [row["label"] for row in second[:4]] == [""] * 4
    assert {(row["path"], row["label"]) for row in second[4:]} == {(row["path"], truth[row["path"]]) for row in first}
    assert open_images(photos).train.classes == ()
    known = hide_labels(open_images(photos), labels, 0).split("all")
    assert {i: known.classes[k] for i, k in zip(known.ids, known.labels, strict=True) if k >= 0} == {
        row["path"]: truth[row["path"]] for row in second
    }


def test_the_number_of_suggestions_is_an_option_of_its_own() -> None:
    assert "-n N" in run("suggest", "--help").out
    assert "-n N" not in run("reconstruct", "--help").out
