"""The task anomaly: promises that are kept, measures against plain computations, files that others can read."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.data.tiles import cut
from apercu.errors import ApercuError
from apercu.tasks._choice import damaged
from apercu.tasks._detector import Detector, Member, make
from apercu.tasks._false_alarms import threshold
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


def test_images_that_were_learnt_from_promise_nothing(parts: Path) -> None:
    model = apercu.fit(parts / "train" / "good", preset="ae", settings={"width": 8}, training=FAST)
    seen = model.images(parts / "train" / "good")
    task = Anomaly(model, score="pixel")
    assert "none were held out" in task.fit(seen)["threshold"]
    assert "takes 99 normal images" in task.fit(seen.subset(np.arange(40)), seen.subset(np.arange(40, 60)))["threshold"]
    promised = threshold(np.arange(1000.0), 0.01, held_out=False)
    assert (promised.value, promised.low, promised.high) == (990, 0, 1)


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


def test_the_map_is_chosen_by_what_it_marks(model: Model, images: ImageSet) -> None:
    learnt = Anomaly(model).learnt(images)
    detector, about = learnt.detector, learnt.about
    drawn = [member.name for member in detector.members if member.drawn]
    assert sorted(drawn) == sorted(about["map"].split("+"))
    assert about["score"] == "+".join(member.name for member in detector.members if member.counted)
    assert 0.1 < about["map_ap"] <= 1
    heat = next(seen.heat for seen in detector.scan(images) if seen.heat is not None)
    maps = [(m, m.score.map(torch.from_numpy(images.read([0]) / np.float32(255)))) for m in detector.members if m.drawn]
    joined = [(values[0].numpy() - m.scale.map_centre) / m.scale.map_spread for m, values in maps if values is not None]
    np.testing.assert_allclose(heat, np.mean(joined, axis=0), atol=1e-3)
    assert learnt.pixels[0] < learnt.edge


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
    good = np.flatnonzero(images.labels == images.classes.index("good"))
    with pytest.raises(ApercuError, match="one normal image does not tell"):
        Anomaly(model).fit(images.subset(good[:1]))


def test_sixteen_bits_and_colour_stay_what_they_are(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(20_000, 40_000, (60, 3, 16, 16)).astype(np.uint16)
    model = apercu.fit(x, preset="ae", settings={"width": 8, "dim": 4}, training=FAST)
    copies, _ = damaged(model.images(x), 0)
    assert copies.read([0]).dtype == np.uint16
    result = Anomaly(model, score="pixel")(model.images(x[:3]), tmp_path)
    assert result["n"] == 3
    assert len(list((tmp_path / "overlay").rglob("*.png"))) == 3


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
