"""Segmenting: learnt from a handful of masks, in every layout, at any size; what is measured is what is defined."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.api import Model
from apercu.augment import DOMAINS
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.data.sources._masks import part_masks
from apercu.data.sources.coco import drawn, polygon
from apercu.errors import ApercuError
from apercu.presets import build, defaults
from apercu.segment.learn import Crops, loss, varied
from apercu.segment.marks import UNKNOWN, Marked, marked, names_in
from apercu.segment.measured import confusion, measured
from apercu.segment.network import Segmenter
from apercu.segment.shown import encode_mask, overlay, palette
from apercu.store import Recipe
from apercu.tasks._regions import coco
from apercu.tasks.segment import Segment
from apercu.types import ImageSpec
from tests.commands import run

SIDE = 40
SETTINGS: dict[str, dict[str, object]] = {
    "dae": {"width": 8, "blocks": 1},
    "vae": {"width": 4, "dim": 4},
    "vqvae": {"width": 4, "dim": 4},
    "mae": {"width": 8, "dim": 4, "blocks": 2},
    "codec": {"width": 4, "dim": 4},
}


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE), top: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """A disc, 1, and a square, 2, on texture: the image (H, W) and its mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = 0.35 + 0.08 * np.sin(columns / 2 + seed) + rng.normal(0, 0.05, size)
    mask = np.zeros(size, np.uint8)
    middle = size[1] // 2
    r = int(rng.integers(6, 9))
    y, x = rng.integers(r, size[0] - r), rng.integers(r, middle - r + 3)
    mask[(rows - y) ** 2 + (columns - x) ** 2 <= r**2] = 1
    y, x = rng.integers(7, size[0] - 7), rng.integers(middle + 7, size[1] - 6)
    mask[abs(rows - y) + 0 * columns <= 5] *= 1
    mask[(abs(rows - y) <= 5) & (abs(columns - x) <= 5)] = 2
    image[mask == 1] += 0.35
    image[mask == 2] -= 0.3
    return np.clip(image * top, 0, top).astype(np.uint8 if top == 255 else np.uint16), mask


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_scenes(
    folder: Path, seeds: range, size: tuple[int, int] = (SIDE, SIDE), levels: tuple[int, int] = (1, 2), top: int = 255
) -> Path:
    """images/ and masks/; `levels` are the values of disc and square."""
    for seed in seeds:
        image, mask = scene(seed, size, top)
        write(folder / "images" / f"{seed}.png", image)
        write(folder / "masks" / f"{seed}.png", np.array([0, *levels], np.uint8)[mask])
    return folder


def model_for(preset: str = "dae", channels: int = 1, side: int = SIDE, maximum: float = 255.0) -> Model:
    """A small model that has learnt nothing."""
    torch.manual_seed(0)
    image = ImageSpec(channels, side, side, maximum)
    settings = SETTINGS.get(preset, {})
    network = build(preset, image, 0, settings)
    return Model(network, Recipe(preset, defaults(preset) | settings, image), device="cpu")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("few"), range(8))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("many"), range(100, 112))


@pytest.fixture(scope="module")
def taught(few: Path) -> Segment:
    task = Segment(model_for(), steps=60, domain="texture")
    task.fit(task.model.images(few))
    return task


def test_shapes_are_learnt_from_eight_masks(taught: Segment, many: Path) -> None:
    found = taught.evaluate(taught.model.images(many))
    assert found["n"] == 12
    assert found["mean_iou"] > 0.7
    assert found["pixel_accuracy"] > 0.9


@pytest.mark.parametrize("encoder", ["finetuned", "frozen"])
def test_the_model_itself_never_changes_and_a_frozen_encoder_stays_bit_equal(encoder: str, few: Path) -> None:
    model = model_for()
    before = {name: values.clone() for name, values in model.network.state_dict().items()}
    task = Segment(model, steps=3, encoder=encoder)  # type: ignore[arg-type]
    task.fit(model.images(few))
    for name, values in model.network.state_dict().items():
        assert torch.equal(values, before[name])
    inner = "encoder.encoder."  # the denoising preset wraps its map encoder
    learnt = task._restored("pretrained").encoder.state_dict()
    same = [torch.equal(values, before[inner + name]) for name, values in learnt.items()]
    assert all(same) if encoder == "frozen" else not any(same[:1])
    kept = task.beside.find("pretrained")
    assert kept is not None
    assert any(name.startswith("encoder.") for name in kept) == (encoder == "finetuned")


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_map_encoder_takes_any_size_and_learns_everywhere(preset: str) -> None:
    network = Segmenter(model_for(preset).network, 3, crop=SIDE)
    for size in ((SIDE, SIDE), (37, 51), (5, 3)):
        logits = network(torch.rand(2, 1, *size))
        assert logits.shape == (2, 3, *size)
    network(torch.rand(2, 1, 37, 51)).square().sum().backward()
    unmoved = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not {name for name in unmoved if not name.startswith("encoder.")}
    # What stands behind the last stage is not asked: the final normalisation of a transformer.
    assert unmoved <= {"encoder.transformer.norm.weight", "encoder.transformer.norm.bias"}


def test_an_encoder_without_maps_is_refused_with_advice(few: Path) -> None:
    model = model_for("ae")
    with pytest.raises(ApercuError, match=r"makes no maps.*--preset dae"):
        Segment(model).fit(model.images(few))


def test_what_was_learnt_comes_back_with_the_model(taught: Segment, many: Path, tmp_path: Path) -> None:
    model = model_for()
    model.save(tmp_path / "model")
    task = Segment(model, steps=2, baseline=True)
    task.fit(model.images(many))
    loaded = Segment(apercu.load(tmp_path / "model", device="cpu"), baseline=True)
    images = model.images(many)
    assert loaded.evaluate(images) == task.evaluate(images)
    assert (tmp_path / "model" / "segment.pretrained.safetensors").is_file()
    task.baseline = False
    task.fit(images)
    with pytest.raises(ApercuError, match="baseline=true"):
        Segment(model, baseline=True).evaluate(images)
    again = Segment(model_for(), steps=2)
    again.fit(model.images(many))
    for one, other in zip(again.scan(images), task.scan(images), strict=True):
        np.testing.assert_array_equal(one.p, other.p)


def test_without_masks_or_learning_there_is_advice(tmp_path: Path, few: Path) -> None:
    model = model_for()
    with pytest.raises(ApercuError, match="--learn MASKS"):
        Segment(model)(model.images(few))
    write(tmp_path / "a.png", scene(0)[0])
    with pytest.raises(ApercuError, match="no mask marks anything"):
        Segment(model).fit(model.images(tmp_path))


@pytest.mark.parametrize("top", [255, 65535])
def test_files_have_the_size_of_their_image(top: int, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "odd", range(2), size=(37, 51), top=top)
    write_scenes(folder, range(2, 3), size=(53, 46), top=top)
    task = Segment(model_for(maximum=top), steps=2)
    images = task.model.images(folder)
    assert images.spec.maximum == top
    task.fit(images)
    answer = task(images, tmp_path / "out")
    for said in (answer, task.evaluate(images)):
        assert json.loads(json.dumps(said, allow_nan=False)) == said
    marked_there = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert [row["name"] for row in marked_there["categories"]] == ["1", "2"]
    for k, row in enumerate(answer["images"]):
        with Image.open(tmp_path / "out" / "mask" / f"images/{k}.png") as mask:
            assert mask.mode == "P"
            numbers = np.asarray(mask)
        assert numbers.shape == tuple(images.sizes[k])
        assert row["area"] == {"1": (numbers == 1).sum(), "2": (numbers == 2).sum()}
        assert sum(region["area"] for region in row["regions"]) == (numbers > 0).sum()
        with Image.open(tmp_path / "out" / "overlay" / f"images/{k}.png") as over:
            assert over.size == numbers.shape[::-1]


def test_large_images_are_read_in_windows(taught: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    images = taught.model.images(np.stack([scene(k, (70, 90))[0][None] for k in range(2)]))
    whole = list(taught.scan(images))
    monkeypatch.setattr("apercu.tasks.segment.WINDOW", 48)
    for one, tiled in zip(whole, taught.scan(images), strict=True):
        np.testing.assert_allclose(tiled.p.sum(0), 1, atol=1e-5)
        assert (one.numbers == tiled.numbers).mean() > 0.9


def test_colour_is_learnt_too(tmp_path: Path) -> None:
    for k in range(3):
        image, mask = scene(k)
        write(tmp_path / "images" / f"{k}.png", np.stack([image, image, 255 - image], 2))
        write(tmp_path / "masks" / f"{k}.png", mask)
    task = Segment(model_for(channels=3), steps=2, domain="objects")
    task.fit(task.model.images(tmp_path))
    assert task(task.model.images(tmp_path))["n"] == 3


# What masks mean


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


# COCO


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
        ("{", "cannot be read as JSON"),
        ("[]", "no file of COCO"),
        ('{"images": []}', "no file of COCO"),
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


def test_what_is_written_can_be_learnt_from(taught: Segment, many: Path, tmp_path: Path) -> None:
    images = taught.model.images(many)
    taught(images, tmp_path)
    (tmp_path / "images").symlink_to(many / "images")
    again = open_images(tmp_path / "regions.json").split("all")
    for k, name in enumerate(again.ids):
        with Image.open(tmp_path / "mask" / name) as mask:
            np.testing.assert_array_equal(again.numbers(k), np.asarray(mask))


# What learning does


def a_lesson(count: int = 4) -> Marked:
    pixels, masks = zip(*(scene(k) for k in range(count)), strict=True)
    images: ImageSet = open_images(np.stack(pixels)[:, None]).split("all")
    return Marked(images, [mask.astype(np.int16) for mask in masks], [])


def test_crops_show_what_is_rare_and_continue_small_images() -> None:
    lesson = a_lesson()
    lesson.numbers[1][:] = 0
    lesson.numbers[1][3, 4] = 7
    x, y = Crops(lesson, 16, 0).draw(200)
    assert (y == 7).flatten(1).any(1).float().mean() > 0.1
    for pixels, numbers in zip(x[:20], y[:20], strict=True):
        assert any(
            np.array_equal(windows, pixels[0]) and np.array_equal(lesson.numbers[k][i : i + 16, j : j + 16], numbers)
            for k in range(4)
            for i in range(25)
            for j in range(25)
            for windows in [lesson.images.read([k])[0, 0, i : i + 16, j : j + 16].astype(np.float32) / np.float32(255)]
        )
    x, y = Crops(lesson, 48, 0).draw(4)
    assert x.shape == (4, 1, 48, 48)
    assert (y[:, SIDE:] == UNKNOWN).all()
    assert (y[:, :, SIDE:] == UNKNOWN).all()
    assert torch.equal(x[:, :, SIDE:], x[:, :, SIDE - 1 : SIDE].expand(-1, -1, 8, -1))


@pytest.mark.parametrize("domain", DOMAINS)
def test_views_move_an_image_and_its_mask_alike(domain: str) -> None:
    y = torch.from_numpy(np.stack([scene(k)[1] for k in range(16)]).astype(np.int64))
    torch.manual_seed(0)
    warps = tuple(op for op in DOMAINS[domain].strong if hasattr(op, "symmetry"))
    assert warps
    x, moved = varied(warps, y[:, None] / 2, y)
    assert not torch.equal(moved, y)
    assert set(moved.unique().tolist()) <= {0, 1, 2}
    assert ((2 * x[:, 0]).round() == moved).float().mean() > 0.95
    x, moved = varied(DOMAINS[domain].strong, y[:, None] / 2, y)
    assert x.shape == (16, 1, SIDE, SIDE)


def test_the_loss_is_its_equation_and_unknown_pixels_have_no_say() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    y = torch.randint(0, 2, (2, 4, 5))
    y[0, 0] = UNKNOWN
    price = loss(logits, y)
    p, known = logits.detach().softmax(1).movedim(1, 3)[y >= 0], y[y >= 0]
    truth = torch.eye(3)[known]
    dice = [(2 * (p * truth)[:, c].sum() + 1) / ((p + truth)[:, c].sum() + 1) for c in (0, 1)]
    entropy = -p[torch.arange(len(known)), known].log().mean()
    assert price.item() == pytest.approx(float(entropy + 1 - sum(dice) / 2), rel=1e-5)
    price.backward()
    assert logits.grad is not None
    assert not logits.grad[0, :, 0].any()
    assert logits.grad[0, :, 1:].any()
    assert loss(logits, torch.full_like(y, UNKNOWN)).item() == 0
    sure = 50 * torch.eye(3)[y.clamp_min(0)].movedim(3, 1)
    assert loss(sure, y).item() < 1e-4


# What is measured


def test_figures_are_those_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.integers(-1, 4, (2, 9, 11)), rng.integers(0, 4, (2, 9, 11))
    said[said == 3] = 2
    truth[truth == 3] = 0
    found = measured(confusion(truth, said, 4), ("a", "b", "never"))
    known = truth >= 0
    for number, name in enumerate(("background", "a", "b")):
        both = ((truth == number) & (said == number) & known).sum()
        either = (((truth == number) | (said == number)) & known).sum()
        sizes = (truth == number).sum() + ((said == number) & known).sum()
        assert found["per_class"][name]["iou"] == pytest.approx(both / either)
        assert found["per_class"][name]["dice"] == pytest.approx(2 * both / sizes)
        assert found["per_class"][name]["pixels"] == (truth == number).sum()
    assert found["per_class"]["never"] == {"iou": None, "dice": None, "pixels": 0}
    ious = [found["per_class"][name]["iou"] for name in ("background", "a", "b")]
    assert found["mean_iou"] == pytest.approx(np.mean(ious[1:]))
    assert found["mean_iou_all"] == pytest.approx(np.mean(ious))
    assert found["pixel_accuracy"] == pytest.approx((truth == said)[known].mean())


def test_classes_that_were_not_learnt_are_named_and_left_out(taught: Segment, tmp_path: Path) -> None:
    found = taught.evaluate(taught.model.images(write_scenes(tmp_path, range(3), levels=(1, 3))))
    assert found["not_learnt"] == ["3"]
    assert sum(row["pixels"] for row in found["per_class"].values()) < 3 * SIDE**2


def test_colours_tell_classes_apart_and_overlays_tint_what_is_marked() -> None:
    colours = palette(256)
    assert colours.shape == (256, 3)
    assert len(np.unique(colours[:22], axis=0)) == 22
    image, mask = scene(0)
    over = overlay(image[None].astype(np.float32) / 255, mask)
    assert over.shape == (3, SIDE, SIDE)
    plain = np.broadcast_to(image / np.float32(255), over.shape)
    np.testing.assert_allclose(over[:, mask == 0], plain[:, mask == 0], atol=1e-6)
    assert (np.abs(over - plain)[:, mask > 0].max(0) > 0.05).mean() > 0.9


def test_regions_carry_their_class() -> None:
    assert coco([], np.zeros((0, 2), np.int64), [], ("a", "b"))["categories"] == [
        {"id": 1, "name": "a"},
        {"id": 2, "name": "b"},
    ]


def test_the_command_learns_marks_and_measures(few: Path, many: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model_for().save(model)
    said = run("segment", model, many, "--learn", few, "-o", tmp_path / "out", "-s", "steps=2", "--json")
    assert said.status == 0, said.err
    assert said.answer["n"] == 12
    assert "masks: 8" in said.err
    assert (tmp_path / "out" / "sheet.png").is_file()
    said = run("evaluate", "segment", model, many, "--split", "all", "-s", "baseline=true", "--json")
    assert said.status == 2
    assert "--learn MASKS -s baseline=true" in said.answer["error"]
    said = run(
        *("evaluate", "segment", model, many, "--split", "all", "--json"),
        *("--learn", few, "-s", "baseline=true", "-s", "steps=2"),
    )
    assert said.answer["gain"] == said.answer["mean_iou"] - said.answer["baseline"]["mean_iou"]
