"""The task anomaly: promises that are kept, measures against plain computations, files that others can read."""

from __future__ import annotations

import csv
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy.ndimage import label
from scipy.stats import binom

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.data.tiles import blend, boxes, cut
from apercu.errors import ApercuError
from apercu.metrics import detection, localisation
from apercu.tasks._choice import damaged
from apercu.tasks._detector import Detector, Member, make
from apercu.tasks._false_alarms import drift, threshold
from apercu.tasks._frames import events, natural, smoothed, told, videos
from apercu.tasks._heat import overlay, thumbnails
from apercu.tasks._regions import as_mask, coco, regions
from apercu.tasks.anomaly import Anomaly
from apercu.training import Training
from tests.commands import run

FAST = Training(epochs=4, batch=16, device="cpu", precision="32", validations=1)
SIZE = (24, 32)


def part(rng: np.random.Generator, odd: bool) -> tuple[np.ndarray, np.ndarray]:
    """A bright plate on grey noise, (H, W); an odd one has a dark hole, which is marked."""
    x, mask = rng.integers(90, 120, SIZE), np.zeros(SIZE, np.uint8)
    x[4:20, 4:28] = rng.integers(190, 210, (16, 24))
    if odd:
        top, left = rng.integers(5, 13), rng.integers(5, 20)
        x[top : top + 5, left : left + 6] = 20
        mask[top : top + 5, left : left + 6] = 255
    return x.astype(np.uint8), mask


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 good parts to learn from, and a test folder with holes, all but one with masks."""
    root, rng = tmp_path_factory.mktemp("parts"), np.random.default_rng(0)
    for split, kind, count in (("train", "good", 60), ("test", "good", 12), ("test", "hole", 8)):
        (root / split / kind).mkdir(parents=True)
        (root / "ground_truth" / kind).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            x, mask = part(rng, kind == "hole")
            Image.fromarray(x).save(root / split / kind / f"{k}.png")
            if kind == "hole" and k:
                Image.fromarray(mask).save(root / "ground_truth" / kind / f"{k}_mask.png")
    return root


@pytest.fixture(scope="module")
def folder(parts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("models") / "model"
    small = ("--preset", "vae", "-s", "width=8", "-s", "dim=4", "--epochs", 4, "--batch", 16)
    said = run("fit", parts, "-o", out, "--normal", "good", *small)
    assert said.status == 0, said.err
    assert "synthetic defects" in said.err
    assert "the class good is normal" in said.err
    return out


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Model:
    return apercu.load(shutil.copytree(folder, tmp_path / "model"))


@pytest.fixture(scope="module")
def images(parts: Path) -> ImageSet:
    return open_images(parts).test


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("n", [40, 99, 400])
def test_the_promise_is_kept_whatever_the_distribution(n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    for draw in (rng.exponential, rng.normal, lambda size: rng.random(size) ** 4):
        many = np.sort(draw(size=200_000))
        rates, inside = [], []
        for _ in range(200):
            promised = threshold(draw(size=n), rate)
            rates.append(1 - np.searchsorted(many, promised.value, side="right") / len(many))
            inside.append(promised.low <= rates[-1] <= promised.high)
        assert np.mean(rates) < (1.6 if promised.rank else 2.2) * rate
        assert np.mean(rates) > 0.4 * rate
        assert np.mean(inside) > 0.9


def test_an_order_statistic_has_the_bounds_of_a_binomial() -> None:
    promised = threshold(np.arange(1000.0), 0.01)
    assert promised.rank == 991
    assert promised.value == 990
    # As Clopper and Pearson have it: with a rate at either bound, so many exceedances would be rare.
    above = 1000 - promised.rank
    assert binom.cdf(above, 1000, promised.high) == pytest.approx(0.025, abs=1e-6)
    assert binom.sf(above, 1000, promised.low) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, 30, 98])
def test_too_few_images_are_said_to_be_too_few(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    promised = threshold(scores, 0.01)
    assert promised.value >= scores.max()
    assert promised.high == pytest.approx(1 - 0.05 ** (1 / n))
    assert f"takes 99 normal images that nothing was learnt from and there are {n}:" in promised.words
    assert threshold(np.zeros(n), 0.01).value == 0
    with pytest.raises(ApercuError, match="no normal images"):
        threshold(scores[:0], 0.01)
    with pytest.raises(ApercuError, match="between 0 and 1"):
        threshold(scores, 1.5)


def test_images_that_were_learnt_from_promise_nothing(parts: Path) -> None:
    model = apercu.fit(parts / "train" / "good", preset="ae", settings={"width": 8}, training=FAST)
    seen = model.images(parts / "train" / "good")
    task = Anomaly(model, score="pixel")
    assert "none were held out" in task.fit(seen)["threshold"]
    assert "takes 99 normal images" in task.fit(seen.subset(np.arange(40)), seen.subset(np.arange(40, 60)))["threshold"]
    promised = threshold(np.arange(1000.0), 0.01, held_out=False)
    assert (promised.value, promised.low, promised.high) == (990, 0, 1)


def test_a_rate_that_drifts_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    promised = threshold(rng.normal(size=500), 0.02)
    told_same = [drift(rng.normal(size=200), promised)["p_same"] < 0.01 for _ in range(200)]
    assert np.mean(told_same) < 0.04
    moved = drift(rng.normal(size=200) + 1, promised)
    assert moved["p_value"] < 1e-3
    assert moved["p_same"] < 0.01
    assert "more than promised" in moved["words"]
    few = threshold(rng.normal(size=20), 0.02)
    assert "as promised" in drift(rng.normal(size=20), few)["words"]


def brute_force(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """AUPRO threshold by threshold."""
    values = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    for t in values:
        shares = []
        for m, mask in zip(maps, masks, strict=True):
            numbered, count = label(mask, np.ones((3, 3)))
            shares += [float((m[numbered == k] >= t).mean()) for k in range(1, count + 1)]
        outside = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
        points.append((float((outside >= t).mean()), float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [7, 10_000])
def test_aupro_against_brute_force(limit: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    masks = [rng.random((9, 11)) < share for share in (0.15, 0.3, 0.0)]
    maps = [np.rint(levels * (rng.random((9, 11)) + 0.4 * mask)).astype(np.float32) for mask in masks]
    pixels, aupro = localisation(maps, masks, limit)
    assert aupro == pytest.approx(brute_force(maps, masks, limit), abs=1e-9)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert pixels == pytest.approx(detection(flat, truth)[0])


def test_measures_at_their_ends() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[1:3, 1:3] = True
    assert localisation([mask.astype(np.float32)], [mask]) == (1.0, 1.0)
    assert localisation([np.zeros((4, 4), np.float32)], [mask])[0] == 0.5
    assert localisation([mask.astype(np.float32)], [np.zeros_like(mask)]) == (None, None)
    assert detection(np.array([1.0, 2.0]), np.array([False, True])) == (1.0, 1.0)
    assert detection(np.array([1.0, 2.0]), np.array([True, True])) == (None, None)


def test_regions_grow_from_what_is_odd_and_become_coco() -> None:
    heat = np.zeros((10, 12), np.float32)
    heat[2:5, 3:8] = 1.0
    heat[3, 4] = 3.0
    heat[8, 0] = 1.5
    found = regions(heat, high=2.0, low=0.5)
    assert [region.as_dict() for region in found] == [{"box": [3, 2, 5, 3], "area": 15, "peak": 3.0}]
    mask = as_mask(found, (10, 12))
    assert mask.sum() == 15
    marked = coco(["a", "b"], np.array([[10, 12], [10, 12]]), [[], found])
    (region,) = marked["annotations"]
    assert (region["image_id"], region["bbox"], region["area"]) == (2, [3, 2, 5, 3], 15)
    inside = np.repeat(np.arange(len(region["segmentation"]["counts"])) % 2, region["segmentation"]["counts"])
    np.testing.assert_array_equal(inside.reshape(12, 10).T.astype(bool), mask)
    whole = regions(np.ones((3, 4), np.float32), 0.5, 0.2)
    assert coco(["a"], np.array([[3, 4]]), [whole])["annotations"][0]["segmentation"]["counts"] == [0, 12]


@pytest.mark.parametrize(("size", "window"), [((50, 70), (32, 32)), ((32, 33), (32, 32)), ((20, 90), (32, 32))])
def test_windows_cover_and_blend_to_what_they_were(size: tuple[int, int], window: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(size).astype(np.float32)
    places = boxes(size, window)
    assert len({(height, width) for _, _, height, width in places}) == 1
    parts = [values[top : top + height, left : left + width] for top, left, height, width in places]
    np.testing.assert_allclose(blend(parts, places, size), values, rtol=1e-5)


def test_large_images_are_looked_at_in_windows(model: Model, parts: Path) -> None:
    detector = Detector(model, [Member("pixel", make(model, "pixel", 0))])
    assert detector.window == SIZE
    large = open_images(np.random.default_rng(0).integers(0, 255, (3, 1, 60, 50)).astype(np.uint8)).split("all")
    seen = sorted(detector.scan(large), key=lambda s: s.index)
    windows = cut(large, SIZE)
    alone = detector.each(windows.images)[:, 0]
    for k, one in enumerate(seen):
        assert one.heat is not None
        assert one.heat.shape == (60, 50)
        assert one.each[0] == pytest.approx(alone[windows.owner == k].max(), rel=1e-4)


def test_fit_learns_from_good_parts_alone(folder: Path, parts: Path) -> None:
    model = apercu.load(folder)
    assert model.classes == ()
    assert model.recipe.data["train"] + model.recipe.data["val"] == 60
    about = model.recipe.tasks["anomaly"]["detector"]["about"]
    assert about["normal"] + about["held_out"] == 60
    assert set(about["score"].split("+")) <= set(about["aurocs"])
    assert about["auroc"] >= max(about["aurocs"].values())
    assert not {"mean", "pca"} & set(about["aurocs"])


def test_what_is_said_of_new_parts(folder: Path, parts: Path, tmp_path: Path) -> None:
    said = run("anomaly", folder, parts, "--split", "test", "-o", tmp_path, "--json")
    assert said.status == 0, said.err
    answer = said.answer
    rows = {row["id"]: row for row in answer["images"]}
    assert len(rows) == answer["n"] == 20
    holes = [row for name, row in rows.items() if "hole" in name]
    assert np.mean([row["odd"] for row in holes]) > 0.8
    assert answer["drift"]["n"] == 12
    assert all(row["odd"] == (row["score"] > answer["threshold"]) for row in rows.values())
    assert all(row["regions"] == [] for row in rows.values() if not row["odd"])
    with (tmp_path / "scores.csv").open(newline="") as file:
        assert [row["id"] for row in csv.DictReader(file)] == list(rows)
    heat = tifffile.imread(tmp_path / "heat" / "test" / "hole" / "3.tif")
    assert (heat.shape, heat.dtype) == (SIZE, np.float32)
    with Image.open(tmp_path / "overlay" / "test" / "hole" / "3.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", SIZE[::-1])
    with Image.open(tmp_path / "mask" / "test" / "hole" / "3.png") as picture:
        mask = np.asarray(picture) > 0
    assert mask.sum() == rows["test/hole/3.png"]["area"]
    marked = json.loads((tmp_path / "regions.json").read_text())
    assert [image["file_name"] for image in marked["images"]] == list(rows)
    assert len(marked["annotations"]) == sum(len(row["regions"]) for row in rows.values())
    assert (tmp_path / "sheet.png").is_file()


def test_evaluate_measures_images_pixels_and_kinds(folder: Path, parts: Path) -> None:
    said = run("evaluate", "anomaly", folder, parts, "--json")
    assert said.status == 0, said.err
    answer = said.answer
    assert (answer["n"], answer["normal"], answer["defects"]) == (20, 12, 8)
    for name in ("image_auroc", "ap", "f1", "pixel_auroc", "aupro", "baseline_auroc"):
        assert 0.5 < answer[name] <= 1
    assert set(answer["per_type"]) == {"hole"}
    assert answer["per_type"]["hole"]["n"] == 8
    assert answer["false_alarms"]["n"] == 12
    assert answer["baseline"] in ("mean", "pca")


def test_without_masks_pixels_are_not_measured(model: Model, images: ImageSet) -> None:
    bare = images.with_labels(images.labels)
    object.__setattr__(bare, "masks", {})
    answer = Anomaly(model).evaluate(bare)
    assert answer["pixel_auroc"] is answer["aupro"] is answer["per_type"]["hole"]["aupro"] is None
    assert answer["image_auroc"] > 0.8
    plain = Anomaly(model).evaluate(bare.with_labels(np.full(len(bare), -1), ()))
    assert plain["image_auroc"] is plain["baseline_auroc"] is plain["f1"] is None
    assert plain["false_alarms"]["n"] == 20


def test_what_was_learnt_is_kept_with_the_model(model: Model, images: ImageSet) -> None:
    first, again = (Anomaly(apercu.load(model.folder))(images)["images"] for _ in range(2))  # type: ignore[arg-type]
    assert first == again
    kept = model.recipe.tasks["anomaly"]["detector"]["about"]["score"]
    other = Anomaly(model, score="pixel+gradient")
    assert other(images)["score"] == "pixel+gradient"
    assert model.recipe.tasks["anomaly"]["detector"]["about"]["score"] == kept
    assert Anomaly(model, rate=0.5)(images)["threshold"] < Anomaly(model, rate=0.05)(images)["threshold"]


def test_known_defects_choose_the_score(parts: Path, tmp_path: Path) -> None:
    for kind in ("good", "hole"):
        shutil.copytree(parts / "test" / kind, tmp_path / kind)
    flat = open_images(tmp_path)
    model = apercu.fit(flat, preset="ae", normal="", settings={"width": 8, "dim": 4}, training=FAST)
    known = flat.split("all")
    fitted = Anomaly(model, score="auto").fit(known, flat.val)
    assert "known defects" in fitted["chosen_by"]
    odd = (known.labels == known.classes.index("hole")).sum()
    assert fitted["normal"] == len(known) - odd


def test_images_of_one_folder_are_all_taken_for_normal(parts: Path, tmp_path: Path) -> None:
    model = apercu.fit(parts / "train" / "good", preset="ae", normal="", settings={"width": 8}, training=FAST)
    task = Anomaly(model, score="pixel")
    result = task(model.images(parts / "train" / "good"))
    assert "all of these images are taken for normal" in task.learnt(model.images(parts)).about["taken_for_normal"]
    assert result["drift"] is None
    assert Anomaly(model, normal="all", score="pixel")(model.images(parts / "train" / "good"))["drift"]["n"] == 60


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"score": "magic"}, "no score 'magic'"),
        ({"score": "surprise"}, "has no symbols"),
        ({"score": "repair"}, "corruption=defects"),
        ({"normal": "fine"}, "no class is called 'fine'"),
    ],
)
def test_what_cannot_be_is_said_with_advice(
    settings: dict[str, str], reason: str, model: Model, images: ImageSet
) -> None:
    with pytest.raises(ApercuError, match=reason):
        Anomaly(model, **settings).fit(images)  # type: ignore[arg-type]
    with pytest.raises(ApercuError, match="rate lies between"):
        Anomaly(model, rate=0)
    with pytest.raises(ApercuError, match="no normal images"):
        Anomaly(model).fit(images.subset([]))


def test_sixteen_bits_and_colour_stay_what_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(20_000, 40_000, (60, 3, 16, 16)).astype(np.uint16)
    model = apercu.fit(x, preset="ae", settings={"width": 8, "dim": 4}, training=FAST)
    copies = damaged(model.images(x), 0)
    assert copies.read([0]).dtype == np.uint16
    result = Anomaly(model, score="pixel")(model.images(x[:3]), tmp_path)
    assert result["n"] == 3
    assert len(list((tmp_path / "overlay").rglob("*.png"))) == 3


def test_frames_in_their_natural_order_and_events(tmp_path: Path) -> None:
    ids = ["b/f10.png", "b/f9.png", "a/f2.png", "a/f1.png", "b/f100.png"]
    assert sorted(ids, key=natural) == ["a/f1.png", "a/f2.png", "b/f9.png", "b/f10.png", "b/f100.png"]
    assert videos(ids) == {"a": [3, 2], "b": [1, 0, 4]}
    curve = np.array([0, 3, 3, 0, 3, 0, 0, 0, 0, 5, 0.0])
    found = events(curve, 2.0, 1.0)
    assert [(e.start, e.end, e.peak) for e in found] == [(1, 4, 1), (9, 9, 9)]
    assert events(curve, 9.0, 1.0) == []
    np.testing.assert_allclose(smoothed(np.ones(7), 2.0), 1)
    assert smoothed(curve, 2.0).max() < 5
    (one, other) = told(ids, np.array([0.0, 9, 0, 0, 0]), 1.0, 0.0, tmp_path)
    assert one["events"] == []
    assert (other["video"], other["events"][0]["oddest"]) == ("b", "b/f9.png")
    with Image.open(tmp_path / "b-curve.png") as picture:
        assert picture.mode == "RGB"


def test_a_video_is_told_by_the_command(folder: Path, parts: Path, tmp_path: Path) -> None:
    for k, name in enumerate([*["good"] * 6, *["hole"] * 3]):
        shutil.copy(parts / "test" / name / f"{k % 6}.png", tmp_path / f"frame{k}.png")
    said = run("anomaly", folder, tmp_path, "-o", tmp_path / "out", "-s", "frames=true", "-s", "smooth=0.5", "--json")
    assert said.status == 0, said.err
    (video,) = said.answer["videos"]
    assert video["frames"] == [f"frame{k}.png" for k in range(9)]
    assert video["events"][-1]["end"] == 8
    assert json.loads((tmp_path / "out" / "events.json").read_text()) == [video]
    assert (tmp_path / "out" / "frames-curve.png").is_file()


def test_overlays_are_clear_where_nothing_is_odd() -> None:
    image = np.full((1, 12, 300), 0.4, np.float32)
    heat, mask = np.zeros((12, 300), np.float32), np.zeros((12, 300), np.bool_)
    np.testing.assert_allclose(overlay(image, heat, mask, 2.0), 0.4, atol=1e-6)
    heat[5, 5], mask[5, 5] = 4, True
    over = overlay(image, heat, mask, 2.0)
    assert abs(over[:, 5, 5] - 0.4).max() > 0.1
    assert abs(over[:, 4, 4] - 0.4).max() > 0.1
    assert max(thumbnails([image])[0].shape) == 224
