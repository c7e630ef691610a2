"""What masks mean: folders, values, palettes, COCO; and what is said of those that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apercu.data.open import open_images
from apercu.data.sources._masks import part_masks
from apercu.data.sources.coco import drawn, polygon
from apercu.errors import ApercuError
from apercu.segment.marks import UNKNOWN, marked, names_in
from apercu.segment.shown import encode_mask
from apercu.tasks.segment import Segment
from tests.scenes import SIDE, model_for, scene, write, write_scenes


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("few"), range(8))


def test_files_below_masks_belong_to_images_and_are_none_themselves() -> None:
    files = [
        *("train/images/a.jpg", "train/masks/a.png", "images/b.png", "masks/b_mask.png", "masks/c.png"),
        *("faces/masks/d.png", "faces/gloves/d.png"),
    ]
    images, found = part_masks(files)
    assert images == ["train/images/a.jpg", "images/b.png", "faces/masks/d.png", "faces/gloves/d.png"]
    assert found == {"train/images/a.jpg": "train/masks/a.png", "images/b.png": "masks/b_mask.png"}


@pytest.mark.parametrize(
    ("levels", "names"),
    [((1, 2), ("1", "2")), ((255, 255), ("1",)), ((1, 1), ("1",)), ((1, 255), ("1",)), ((3, 1), ("1", "2", "3"))],
)
def test_values_are_classes_or_only_mark(levels: tuple[int, int], names: tuple[str, ...], tmp_path: Path) -> None:
    images = open_images(write_scenes(tmp_path, range(2), levels=levels)).split("all")
    assert names_in(images) == names
    lesson = marked(images, names)
    numbers = {1: 1, 2: 2, 3: 3, 255: 1 if levels == (255, 255) else UNKNOWN}
    for k, got in enumerate(lesson.numbers):
        expected = np.array([0, *(numbers[level] for level in levels)])[scene(k)[1]]
        np.testing.assert_array_equal(got, expected)


def test_soft_edges_are_cut_at_half(tmp_path: Path) -> None:
    image, mask = scene(0)
    write(tmp_path / "images" / "a.png", image)
    soft = np.where(mask > 0, 240, 20).astype(np.uint8)
    soft[mask == 2] = 100
    write(tmp_path / "masks" / "a.png", np.where(mask == 0, 0, soft))
    images = open_images(tmp_path).split("all")
    np.testing.assert_array_equal(marked(images, names_in(images)).numbers[0], mask == 1)


def test_masks_with_a_palette_count_by_their_index(tmp_path: Path) -> None:
    image, mask = scene(0)
    write(tmp_path / "images" / "a.png", image)
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(encode_mask(mask))
    images = open_images(tmp_path).split("all")
    np.testing.assert_array_equal(images.numbers(0), mask)
    np.testing.assert_array_equal(images.mask(0), mask > 0)


def test_resizing_mixes_no_classes(few: Path) -> None:
    resized = open_images(few, size=(60, 80), fit="resize").split("all")
    plain = open_images(few).split("all")
    got, drawn_there = resized.numbers(0), plain.numbers(0)
    assert got is not None
    assert drawn_there is not None
    assert set(np.unique(got)) == {0, 1, 2}
    np.testing.assert_array_equal(got[::3, ::4][:, :], drawn_there[::2, ::2])


def test_a_mask_of_another_size_is_named_and_costs_no_other(few: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path, range(2))
    write(tmp_path / "masks" / "1.png", np.ones((7, 9), np.uint8) * 2)
    model = model_for()
    result = Segment(model, steps=1).fit(model.images(tmp_path))
    assert result["masks"] == 1
    assert result["skipped"] == ["the mask of images/1.png is 7×9 and the image 40×40: draw it at that size"]
    (tmp_path / "masks" / "0.png").unlink()
    with pytest.raises(ApercuError, match=r"the mask of images/1\.png is 7×9 and the image 40×40"):
        Segment(model).fit(model.images(tmp_path))


def test_a_damaged_mask_is_named(tmp_path: Path) -> None:
    write_scenes(tmp_path, range(2))
    (tmp_path / "masks" / "1.png").write_bytes(b"no picture")
    lesson = marked(open_images(tmp_path).split("all"), ("1", "2"))
    assert len(lesson.images) == 1
    assert lesson.skipped == ["the mask of images/1.png: not an image of a known format"]


def test_the_layout_of_the_field_gives_the_class_of_the_folder(tmp_path: Path) -> None:
    for kind, number in (("disc", 1), ("square", 2)):
        for seed in range(2):
            image, mask = scene(seed)
            write(tmp_path / "test" / kind / f"{seed}.png", image)
            write(tmp_path / "ground_truth" / kind / f"{seed}_mask.png", (mask == number).astype(np.uint8) * 255)
    write(tmp_path / "train" / "good" / "0.png", scene(9)[0])
    write(tmp_path / "test" / "square" / "2.png", scene(8)[0])  # a defect that nobody drew a mask of
    images = open_images(tmp_path).split("all")
    assert names_in(images) == ("disc", "square")
    lesson = marked(images, ("disc", "square"))
    by_id = dict(zip(lesson.images.ids, lesson.numbers, strict=True))
    assert "test/square/2.png" not in by_id
    assert not by_id["train/good/0.png"].any()
    np.testing.assert_array_equal(by_id["test/square/1.png"], np.where(scene(1)[1] == 2, 2, 0))
    hidden = images.with_labels(np.where(images.labels == images.classes.index("disc"), -1, images.labels))
    assert names_in(hidden) == ("square",)
    values = np.unique(np.concatenate([own.ravel() for own in marked(hidden, ("disc", "square")).numbers]))
    assert values.tolist() == [UNKNOWN, 0, 2]
    only = marked(images, ("square",))
    assert (only.numbers[only.images.ids.index("test/disc/0.png")] == UNKNOWN).any()


def packed(counts: list[int]) -> str:
    """Run lengths as the text that COCO packs them into."""
    text = ""
    for place, count in enumerate(counts):
        value = count - counts[place - 2] if place > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
            if not more:
                break
    return text


def runs(mask: np.ndarray) -> list[int]:
    turns = np.flatnonzero(np.diff(mask.T.ravel().astype(int))) + 1
    counts = np.diff([0, *turns, mask.size]).tolist()
    return [0, *counts] if mask[0, 0] else counts


def annotated(folder: Path, shape: Callable[[np.ndarray], object], count: int = 3) -> Path:
    """Images and a JSON file in which `shape` says how a mask is written."""
    rows = []
    for k in range(count):
        image, mask = scene(k)
        write(folder / "images" / f"{k}.png", image)
        rows += [
            {"id": 10 * k + c, "image_id": k, "category_id": 7 * c, "segmentation": shape(mask == c)} for c in (1, 2)
        ]
    content = {
        "images": [{"id": k, "file_name": f"{k}.png", "height": SIDE, "width": SIDE} for k in range(count)],
        "annotations": rows,
        "categories": [{"id": 14, "name": "square"}, {"id": 7, "name": "disc"}, {"id": 0, "name": "background"}],
    }
    path = folder / "annotations.json"
    path.write_text(json.dumps(content))
    return path


def outline(mask: np.ndarray) -> list[list[float]]:
    """Each row of the mask as a rectangle: together they cover it exactly."""
    shapes = []
    for y in np.flatnonzero(mask.any(1)).tolist():
        x0, x1 = np.flatnonzero(mask[y])[[0, -1]].tolist()
        shapes.append([x0, y, x1 + 1, y, x1 + 1, y + 1, x0, y + 1])
    return shapes


@pytest.mark.parametrize("written", ["polygons", "runs", "packed"])
def test_coco_agrees_with_masks(written: str, tmp_path: Path) -> None:
    shape: dict[str, Callable[[np.ndarray], object]] = {
        "polygons": outline,
        "runs": lambda mask: {"size": [SIDE, SIDE], "counts": runs(mask)},
        "packed": lambda mask: {"size": [SIDE, SIDE], "counts": packed(runs(mask))},
    }
    path = annotated(tmp_path, shape[written])
    for images in (open_images(path).split("all"), open_images(tmp_path).split("all")):
        assert images.marked == ("disc", "square")
        for k, name in enumerate(images.ids):
            np.testing.assert_array_equal(images.numbers(k), scene(int(Path(name).stem))[1])


def test_packed_runs_are_those_of_its_own_tools() -> None:
    # What pycocotools writes for an empty mask of 1080×1920.
    assert not drawn({"size": [1080, 1920], "counts": "PPYo1"}, (1080, 1920)).any()


def test_a_polygon_holds_the_pixels_whose_centre_it_holds() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:20, :30] + 0.5
    for _ in range(20):
        a, b, c = corners = rng.uniform(-5, 32, (3, 2))
        sides = [
            (q[0] - p[0]) * (rows - p[1]) - (q[1] - p[1]) * (columns - p[0]) > 0 for p, q in ((a, b), (b, c), (c, a))
        ]
        np.testing.assert_array_equal(polygon(corners, (20, 30)), np.all(sides, 0) | ~np.any(sides, 0))


@pytest.mark.parametrize(
    "shape",
    [
        {"size": [3, 4], "counts": [2, 5]},
        {"size": [4, 3], "counts": [12]},
        {"size": [3, 4], "counts": "~~~"},
        {"size": [3, 4], "counts": [20, -8]},
        {"counts": [12]},
        [["x"]],
        [[1, 2, 3]],
        [[float("nan")] * 6],
    ],
)
def test_a_segmentation_that_means_nothing_is_refused(shape: object) -> None:
    with pytest.raises(ApercuError):
        drawn(shape, (3, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON .*: restore it from a copy"),
        ("[]", "no file of COCO: export it again"),
        ('{"images": []}', r"no file of COCO \('categories' is missing\): export it again"),
        ('{"images": [], "annotations": 5, "categories": []}', r"no file of COCO \('int' object .*\): export it again"),
        ('{"images": [], "annotations": [], "categories": []}', "0 categories"),
        (
            '{"images": [{"id": 1, "file_name": "x.png"}], "annotations": [], "categories": [{"id": 1, "name": "a"}]}',
            "put them beside it",
        ),
    ],
)
def test_a_file_that_is_not_of_coco_is_named(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ApercuError, match=message):
        open_images(tmp_path / "a.json")


def test_an_image_that_the_file_names_and_is_not_there_costs_no_other(tmp_path: Path) -> None:
    path = annotated(tmp_path, outline)
    (tmp_path / "images" / "1.png").unlink()
    opened = open_images(path)
    assert len(opened.split("all")) == 2
    assert [problem.id for problem in opened.problems] == ["1.png"]
