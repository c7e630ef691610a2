"""The layout of the field: splits, kinds of defects, masks apart; and which images of a set are normal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apercu.data.images import join
from apercu.data.normal import defective, normal_class, normal_only
from apercu.data.open import open_images
from apercu.data.sources._masks import part_masks
from apercu.errors import ApercuError

SIZE = (12, 16)


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def grey(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, SIZE).astype(np.uint8)


def square(level: int = 255) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[2:6, 3:9] = level
    return mask


@pytest.fixture
def root(tmp_path: Path) -> Path:
    seed = iter(range(1000))
    for split, kind, count in (("train", "good", 30), ("test", "good", 4), ("test", "hole", 3), ("test", "crack", 2)):
        for k in range(count):
            write(tmp_path / split / kind / f"{k:03}.png", grey(next(seed)))
            if kind == "hole":
                write(tmp_path / "ground_truth" / kind / f"{k:03}_mask.png", square())
    return tmp_path


def test_ground_truth_is_no_class_and_its_masks_are_found(root: Path) -> None:
    images = open_images(root)
    assert images.train.classes == ("crack", "good", "hole")
    assert len(images.test) == 9
    assert not any("ground_truth" in name for name in images.split("all").ids)
    marked = {name: images.test.mask(k) for k, name in enumerate(images.test.ids)}
    for name, mask in marked.items():
        assert (mask is not None) == ("hole" in name)
        if mask is not None:
            np.testing.assert_array_equal(mask, square() > 0)
    assert any("3 files are masks, of 3 of the images" in note for note in images.notes)


def test_masks_stay_with_their_images(root: Path) -> None:
    images = open_images(root)
    some = images.test.subset(images.test.labels == images.test.classes.index("hole"))
    whole = join([images.val, some])
    assert all(whole.mask(k) is not None for k in range(len(images.val), len(whole)))
    assert all(whole.mask(k) is None for k in range(len(images.val)))


def test_masks_are_resized_with_their_images(root: Path) -> None:
    images = open_images(root, size=(24, 32), fit="resize").test
    hole = images.ids.index("test/hole/000.png")
    mask = images.mask(hole)
    assert mask is not None
    assert mask.shape == (24, 32)
    assert mask.mean() == pytest.approx((square() > 0).mean(), rel=0.1)


@pytest.mark.parametrize("level", [1, 200, 255])
def test_masks_beside_their_images_and_masks_of_ones(level: int, tmp_path: Path) -> None:
    for k in range(4):
        write(tmp_path / f"{k}.png", grey(k))
    write(tmp_path / "1_mask.png", square(level))
    images = open_images(tmp_path).split("all")
    assert images.ids == ["0.png", "1.png", "2.png", "3.png"]
    mask = images.mask(1)
    assert mask is not None
    np.testing.assert_array_equal(mask, square() > 0)


def test_a_mask_of_another_size_is_named_when_it_is_read(root: Path) -> None:
    write(root / "ground_truth" / "hole" / "001_mask.png", np.zeros((5, 5), np.uint8))
    images = open_images(root).test
    assert images.mask(images.ids.index("test/hole/000.png")) is not None
    with pytest.raises(ApercuError, match=r"test/hole/001\.png is 5×5 and the image 12×16"):
        images.mask(images.ids.index("test/hole/001.png"))
    (root / "ground_truth" / "hole" / "002_mask.png").write_bytes(b"no picture")
    with pytest.raises(ApercuError, match=r"the mask of test/hole/002\.png"):
        images.mask(images.ids.index("test/hole/002.png"))


@pytest.mark.parametrize(
    ("files", "images", "masks"),
    [
        (["a/ground_truth/x.png", "a/ground_truth/y.png"], 2, {}),
        (["x.png", "x_mask.png", "y_mask.png"], 2, {"x.png": "x_mask.png"}),
        (["set/test/bad/1.jpg", "set/ground_truth/bad/1.png"], 1, {"set/test/bad/1.jpg": "set/ground_truth/bad/1.png"}),
        (["bad/1.png", "ground_truth/bad/1_mask.png"], 1, {"bad/1.png": "ground_truth/bad/1_mask.png"}),
        (
            ["test/b/1.png", "test/c/1.png", "ground_truth/b/1_mask.png"],
            2,
            {"test/b/1.png": "ground_truth/b/1_mask.png"},
        ),
    ],
)
def test_which_files_are_masks(files: list[str], images: int, masks: dict[str, str]) -> None:
    found, belonging = part_masks(files)
    assert len(found) == images
    assert belonging == masks


def test_the_normal_class_goes_by_its_name_or_is_named() -> None:
    assert normal_class(("crack", "Good")) == 1
    assert normal_class(("crack", "hole")) is None
    assert normal_class(("good", "ok")) is None
    assert normal_class(("crack", "hole"), "hole") == 1
    assert normal_class(("crack", "good"), "all") is None
    with pytest.raises(ApercuError, match=r"no class is called 'fine'.*crack, hole"):
        normal_class(("crack", "hole"), "fine")


def test_only_normal_images_are_left(root: Path) -> None:
    images = open_images(root)
    bad, words = defective(images.test)
    assert bad.sum() == 5
    assert "good" in words
    left = normal_only(images)
    assert (len(left.test), left.train.classes) == (4, ())
    assert len(left.train) + len(left.val) == 30
    assert (left.split("all").labels == -1).all()
    bad, words = defective(images.test, "all")
    assert not bad.any()
    strange = images.train.with_labels(images.train.labels, ("a", "b", "c"))
    assert "-s normal=NAME" in defective(strange)[1]
    with pytest.raises(ApercuError, match="no training image is"):
        normal_only(images, "crack")
