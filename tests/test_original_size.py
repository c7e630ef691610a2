"""Images that are resized for a model: what is said of them and drawn comes back at the size they were stored with."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import apercu
from apercu.api import Model
from apercu.data.convert import Fit
from apercu.data.images import join
from apercu.data.normal import normal_only
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.presets import build, defaults
from apercu.store import Recipe
from apercu.tasks.anomaly import Anomaly
from apercu.tasks.restore import Restore
from apercu.tasks.segment import Segment
from apercu.training import Training
from apercu.types import ImageSpec

STORED, SEEN = (40, 56), (16, 24)
REQUEST = {"size": "16x24", "fit": "resize"}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bright plate in each, at a place of its own, and its mask."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir()
    for k in range(6):
        x, mask = rng.integers(60, 90, STORED).astype(np.uint8), np.zeros(STORED, np.uint8)
        mask[8 + 2 * k : 24 + 2 * k, 12:40] = 1
        x[mask > 0] = 220
        Image.fromarray(x).save(root / "images" / f"{k}.png")
        Image.fromarray(mask).save(root / "masks" / f"{k}.png")
    return root


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def model_for(preset: str, **settings: object) -> Model:
    spec = ImageSpec(1, *SEEN, 255.0, True)
    recipe = Recipe(preset, defaults(preset) | settings, spec, data={"request": REQUEST})
    return Model(build(preset, spec, 0, settings), recipe, device="cpu")


@pytest.mark.parametrize(("fit", "size"), [("resize", 20), ("crop", 20), ("pad", 64), ("error", None)])
def test_the_images_as_they_were_stored_are_at_hand(fit: Fit, size: int | None, photos: Path) -> None:
    opened = open_images(photos / "images", size=size, fit=fit)
    plain = open_images(photos / "images").split("all")
    for images in (
        opened.split("all"),
        join([opened.train, opened.val, opened.test]),
        opened.split("all").subset([4, 1]),
    ):
        stored = images.as_stored()
        assert stored.spec.shape == (1, *STORED)
        assert (stored.sizes == STORED).all()
        for k, name in enumerate(images.ids):
            assert np.array_equal(stored.read([k])[0], plain.read([list(plain.ids).index(name)])[0])
    assert (opened.split("all").original is None) == (size is None)


def test_what_is_said_of_pixels_goes_back_to_their_places(photos: Path) -> None:
    for fit, size in (("crop", 20), ("pad", 64)):
        images = open_images(photos / "images", size=size, fit=fit).split("all")
        back = images.stored_map(0, images.read([0])[0].astype(np.float32))
        stored = images.as_stored().read([0])[0]
        seen = back > 0
        assert np.array_equal(back[seen], stored[seen])
        assert seen.sum() == min(size, 40) * min(size, 56)
    images = open_images(photos / "images", size=SEEN, fit="resize").split("all")
    back = images.stored_map(0, images.read([0])[0].astype(np.float32))
    assert back.shape == (1, *STORED)
    assert np.abs(back - images.as_stored().read([0])[0]).mean() < 15


def test_heat_masks_and_regions_have_the_size_of_the_image(photos: Path, tmp_path: Path) -> None:
    model = apercu.fit(
        photos / "images", preset="ae", size=SEEN, fit="resize", settings={"width": 8, "dim": 2},
        training=Training(epochs=1, device="cpu", precision="32", validations=1),
    )  # fmt: skip
    images = model.images(photos / "images")
    assert (images.sizes == SEEN).all()
    Anomaly(model, score="pixel")(images, tmp_path)
    heat = [tifffile.imread(path) for path in (tmp_path / "heat").glob("*.tif")]
    assert len(heat) == 6
    assert {values.shape for values in heat} == {STORED}
    for folder in ("mask", "overlay"):
        assert {drawn(path).shape[:2] for path in (tmp_path / folder).glob("*.png")} == {STORED}
    said = json.loads((tmp_path / "regions.json").read_text())
    assert {(image["height"], image["width"]) for image in said["images"]} == {STORED}


def test_segments_have_the_size_of_the_image(photos: Path, tmp_path: Path) -> None:
    model = model_for("dae", width=4, blocks=1)
    lesson = open_images(photos, size=SEEN, fit="resize").split("all")
    task = Segment(model, steps=30)
    task.fit(lesson)
    result = task(model.images(photos / "images"), tmp_path)
    masks = {path.stem: drawn(path) for path in (tmp_path / "mask").glob("*.png")}
    assert {mask.shape for mask in masks.values()} == {STORED}
    area = {row["id"]: sum(row["area"].values()) for row in result["images"]}
    assert area == {f"{name}.png": int((mask > 0).sum()) for name, mask in masks.items()}


def test_a_network_of_any_size_restores_the_image_as_it_is(photos: Path, tmp_path: Path) -> None:
    model = model_for("dae", width=4, blocks=1)
    result = Restore(model)(model.images(photos / "images"), tmp_path)
    assert {(row["height"], row["width"]) for row in result["images"]} == {STORED}
    assert "size" not in result
    assert drawn(tmp_path / "0.png").shape == STORED


def test_a_network_of_one_size_says_what_it_did_and_takes_masks_of_the_image(photos: Path, tmp_path: Path) -> None:
    model = model_for("vae", width=8, dim=2)
    images = model.images(photos / "images")
    result = Restore(model, mask=str(photos / "masks"))(images, tmp_path)
    assert "brought to 16×24 by resize" in result["size"]
    assert {(row["height"], row["width"]) for row in result["images"]} == {SEEN}
    share = 16 * 28 / (40 * 56)
    assert all(row["filled"] == pytest.approx(share, abs=0.1) for row in result["images"])
    assert all(row["filled"] >= share for row in result["images"])


def test_a_folder_of_defects_alone_is_not_taken_for_normal(photos: Path, tmp_path: Path) -> None:
    for name in ("bad", "worse"):
        (tmp_path / "two" / name).mkdir(parents=True)
        for k in range(3):
            pixels = np.full((8, 8), 20 * k + len(name), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "two" / name / f"{k}.png")
    opened = open_images(tmp_path / "two")
    with pytest.raises(ApercuError, match=r"bad, worse.*--normal NAME"):
        normal_only(opened)
    assert len(normal_only(opened, "all").split("all")) == 6
    assert len(normal_only(opened, "bad").split("all")) == 3
    assert len(normal_only(open_images(tmp_path / "two" / "bad")).split("all")) == 3
    (tmp_path / "one").mkdir()
    (tmp_path / "two" / "bad").rename(tmp_path / "one" / "parts")
    assert len(normal_only(open_images(tmp_path / "one")).split("all")) == 3
