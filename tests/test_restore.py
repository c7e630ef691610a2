"""Restoring: known pixels stay, tiles leave no seams, depth is kept, and training makes damaged images better."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.api import Model
from apercu.corruptions.holes import fill
from apercu.data.decode import decode_file
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.presets import FOR_TASKS, build, defaults
from apercu.sheet import encode_png
from apercu.store import Recipe
from apercu.tasks._classical import FILTERS, INPAINTING
from apercu.tasks._mending import Masks, Mender
from apercu.tasks.restore import Restore
from apercu.training import Training
from apercu.types import ImageSpec
from tests.commands import run
from tests.conftest import shapes

SIZE = (50, 37)


def model_for(image: ImageSpec, preset: str = "dae", **settings: object) -> Model:
    """A small model that has learnt nothing."""
    torch.manual_seed(0)
    small = {"dae": {"width": 4, "blocks": 1}, "mae": {"width": 8, "dim": 4, "blocks": 1}}
    given = small.get(preset, {"width": 4, "dim": 4}) | settings
    recipe = Recipe(preset, defaults(preset) | given, image)
    return Model(build(preset, image, 0, given), recipe, device="cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three grey pictures of several sizes, 16 bits deep, and one in a folder of its own."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(("a.png", "b.png", "more/c.d.png")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = np.kron(rng.integers(0, 65536, (1, 5, 4)), np.ones((1, 10 + number, 9))).astype(np.uint16)
        path.write_bytes(encode_png(smooth))
    return tmp_path / "photos"


def hole_of(size: tuple[int, int]) -> np.ndarray:
    hole = np.zeros(size, np.bool_)
    hole[5:20, 8:15] = True
    return hole


@pytest.fixture
def wide() -> Model:
    return model_for(ImageSpec(1, 50, 40, 65535.0, uniform=False))


def test_known_pixels_stay_bit_for_bit_and_the_hole_is_filled(photos: Path, wide: Model, tmp_path: Path) -> None:
    masks = tmp_path / "masks"
    for path in photos.rglob("*.png"):
        size = decode_file(path).pixels.shape[1:]
        there = masks / path.relative_to(photos)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(encode_png(hole_of(size)[None].astype(np.uint8) * 255))
    done = Restore(wide, mask=str(masks))(wide.images(photos), tmp_path / "out")
    assert done["n"] == 3
    assert not done["failed"]
    for path in photos.rglob("*.png"):
        before = decode_file(path).pixels
        after = decode_file(tmp_path / "out" / path.relative_to(photos)).pixels
        hole = hole_of(before.shape[1:])
        assert after.dtype == np.uint16
        assert np.array_equal(after[:, ~hole], before[:, ~hole])
        assert not np.array_equal(after[:, hole], before[:, hole])


@pytest.mark.parametrize("preset", ["dae", "mae"])
def test_what_stood_in_a_hole_has_no_say(preset: str) -> None:
    mender = Mender(model_for(ImageSpec(1, 16, 16), preset).network, 256, grey=preset == "dae")
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(2, 1, 16, 16, dtype=torch.bool)
    hole[..., 4:9, 3:8] = True
    once, again = mender(x, hole), mender(torch.where(hole, 0.9, x), hole)
    assert torch.equal(once[hole], again[hole])
    assert torch.equal(once[~hole], x[~hole])


def test_tiles_are_the_whole_image_without_seams() -> None:
    network = model_for(ImageSpec(2, 131, 90, uniform=False)).network
    x = torch.rand(1, 2, 131, 90, generator=torch.Generator().manual_seed(0))
    whole, tiled = Mender(network, 256)(x), Mender(network, 64)(x)
    assert tiled.shape == x.shape
    torch.testing.assert_close(tiled, whole, atol=0.1, rtol=0)
    assert float((tiled - whole).abs().mean()) < 0.005
    assert not torch.equal(tiled, whole)


@pytest.mark.parametrize(("channels", "maximum", "ending"), [(1, 255.0, "png"), (3, 255.0, "png"), (4, 65535.0, "tif")])
def test_images_keep_their_channels_and_depth(channels: int, maximum: float, ending: str, tmp_path: Path) -> None:
    model = model_for(ImageSpec(channels, 21, 30, maximum))
    array = (np.random.default_rng(0).random((2, channels, 21, 30)) * maximum).astype(model.recipe.image.dtype)
    Restore(model)(model.images(array), tmp_path)
    files = sorted(path for path in tmp_path.glob(f"*.{ending}") if path.stem != "sheet")
    assert len(files) == 2
    for file in files:
        pixels = decode_file(file).pixels
        assert pixels.shape == (channels, 21, 30)
        assert pixels.dtype == array.dtype


def test_super_resolution_doubles_the_sides(photos: Path, wide: Model, tmp_path: Path) -> None:
    done = Restore(wide, scale=2)(wide.images(photos), tmp_path / "out")
    assert {(row["height"], row["width"]) for row in done["images"]} == {(100, 72), (110, 72), (120, 72)}
    assert decode_file(tmp_path / "out" / "a.png").pixels.shape == (1, 100, 72)


def test_samples_show_where_the_code_is_unsure(tmp_path: Path) -> None:
    model = model_for(ImageSpec(1, 16, 16), "vae")
    images = model.images(shapes(3)[0])
    hole = np.zeros((1, 16, 16), np.uint8)
    hole[:, 4:9, 4:9] = 255
    (tmp_path / "hole.png").write_bytes(encode_png(hole))
    done = Restore(model, samples=3, mask=str(tmp_path / "hole.png"))(images, tmp_path / "out")
    again = Restore(model, samples=3, mask=str(tmp_path / "hole.png"))(images)
    assert [row["uncertainty"] for row in done["images"]] == [row["uncertainty"] for row in again["images"]]
    assert all(row["uncertainty"] > 0 for row in done["images"])
    assert len(list((tmp_path / "out").glob("*-sample-*.png"))) == 9
    unsure = decode_file(next((tmp_path / "out").glob("*-uncertainty.png"))).pixels
    assert unsure.shape == (1, 16, 16)
    assert not unsure[hole == 0].any(), "what is known is not uncertain"


def test_a_model_that_was_not_trained_to_restore_says_so() -> None:
    plain = model_for(ImageSpec(1, 16, 16), "ae")
    assert "was not trained to restore" in Restore(plain)(plain.images(shapes(2)[0]))["model"]
    dae = model_for(ImageSpec(1, 16, 16), corruption="salt:0.3")
    assert "salt:0.3" in Restore(dae)(dae.images(shapes(2)[0]))["model"]


def odd_masks(folder: Path, size: tuple[int, int]) -> Iterator[Path]:
    """The same hole as masks of many kinds."""
    hole = hole_of(size)
    grey = hole.astype(np.uint8) * 255
    kinds = {
        "one-bit.png": Image.fromarray(grey).convert("1"),
        "colour.png": Image.fromarray(np.stack([grey] * 3, 2)),
        "lossy.jpg": Image.fromarray(grey),
        "zeros-and-ones.png": Image.fromarray(hole.astype(np.uint8)),
        "palette.gif": Image.fromarray(grey).convert("P"),
        "wide.png": Image.fromarray(hole.astype(np.uint16) * 65535),
    }
    for name, image in kinds.items():
        image.save(folder / name, quality=95) if name.endswith("jpg") else image.save(folder / name)
        yield folder / name


def test_a_mask_may_be_any_picture(tmp_path: Path) -> None:
    for path in odd_masks(tmp_path, SIZE):
        assert np.array_equal(Masks(str(path)).of("any", SIZE), hole_of(SIZE)), path.name


def test_masks_are_found_by_name_with_and_without_their_usual_ending(tmp_path: Path) -> None:
    for name in ("x/a_mask.png", "b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(encode_png(hole_of(SIZE)[None].astype(np.uint8) * 255))
    masks = Masks(str(tmp_path))
    assert masks.of("x/a.jpg", SIZE).any()
    assert masks.of("deep/down/b.tif", SIZE).any()
    with pytest.raises(ApercuError, match=r"call it c\.png"):
        masks.of("c.png", SIZE)


@pytest.mark.parametrize(
    ("pixels", "advice"),
    [
        (np.full((1, 40, 36), 255, np.uint8), "must be of one size"),
        (np.zeros((1, 50, 36), np.uint8), "marks nothing"),
        (np.full((1, 50, 36), 255, np.uint8), "leaves nothing to go by"),
        (None, "cannot be read"),
    ],
)
def test_a_mask_that_cannot_be_used_is_refused(
    pixels: np.ndarray | None, advice: str, photos: Path, wide: Model, tmp_path: Path
) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(b"no picture" if pixels is None else encode_png(pixels))
    with pytest.raises(ApercuError, match=advice):
        Restore(wide, mask=str(mask))(wide.images(photos))
    with pytest.raises(ApercuError, match="there is no mask"):
        Restore(wide, mask=str(tmp_path / "nowhere"))


def test_a_bad_mask_costs_no_other_image(photos: Path, wide: Model, tmp_path: Path) -> None:
    mask = tmp_path / "mask.png"
    mask.write_bytes(encode_png(hole_of((50, 36))[None].astype(np.uint8) * 255))
    done = Restore(wide, mask=str(mask))(wide.images(photos), tmp_path / "out")
    assert [row["id"] for row in done["images"]] == ["a.png"]
    assert len(done["failed"]) == 2
    assert (tmp_path / "out" / "a.png").is_file()


@pytest.mark.parametrize(
    ("preset", "settings", "advice"),
    [
        ("dae", {"samples": 4}, "has no noise"),
        ("vae", {"samples": 1}, "at least 2"),
        ("dae", {"scale": 0}, "at least 1"),
        ("ae", {"scale": 2}, "cannot enlarge"),
        ("dae", {"tile": 3}, "at least 32"),
        ("dae", {"n": 0}, "at least 1"),
    ],
)
def test_settings_that_mean_nothing_are_refused(preset: str, settings: dict[str, int], advice: str) -> None:
    with pytest.raises(ApercuError, match=advice):
        Restore(model_for(ImageSpec(1, 16, 16), preset), **settings)  # type: ignore[arg-type]


def test_a_wide_code_starts_with_the_image_as_it_is() -> None:
    model = model_for(ImageSpec(1, 21, 18))
    x = torch.rand(1, 1, 21, 18, generator=torch.Generator().manual_seed(0)) * 0.9 + 0.05
    with torch.no_grad():
        mended = Mender(model.network, 256)(x)
    assert float((mended - x).abs().mean()) < 0.1


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of 400 small digits."""
    digits = open_images("sklearn:digits").train.subset(range(400))
    path = tmp_path_factory.mktemp("few") / "digits.npz"
    np.savez(path, x=digits.read(range(400))[:, 0])
    return path


@pytest.fixture(scope="module")
def trained(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained by the command for a few seconds to undo noise and holes of small digits."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    settings = ("-s", "width=8", "-s", "blocks=1", "-s", "corruption=noise:0.25|holes:0.2")
    said = run("fit", few, "-o", folder, "--task", "restore", *settings, "--epochs", 6, "--batch", 32)
    assert said.status == 0, said.err
    return folder


def test_training_makes_damaged_images_better(trained: Path, few: Path) -> None:
    for corruption, measure in (("noise:0.25", "psnr"), ("holes:0.2", "in_hole")):
        said = run(
            "evaluate", "restore", trained, few, "--split", "train", "-s", f"n={4 if measure == 'psnr' else 20}",
            "-s", f"corruption={corruption}", "--json",
        )  # fmt: skip
        assert said.status == 0, said.err
        answer = said.answer
        assert answer["n"] == (4 if measure == "psnr" else 20)
        assert answer["restored"][measure] > answer["damaged"][measure] + 0.5
        assert {"psnr", "ssim", "ms_ssim"} <= set(answer["restored"])
        there = set(answer["classical"]) | set(answer["not_installed"])
        assert there == set(INPAINTING if measure == "in_hole" else FILTERS)
        assert answer["best_classical"] in answer["classical"] or not answer["classical"]


def test_the_command_mends_files_with_a_mask(trained: Path, few: Path, tmp_path: Path) -> None:
    digits = apercu.load(trained, "cpu").images(few).subset([0, 1])
    for number in range(2):
        Image.fromarray((digits.read([number])[0, 0] / 16 * 255).astype(np.uint8)).save(tmp_path / f"{number}.png")
    hole = np.zeros((1, 8, 8), np.uint8)
    hole[:, 2:5, 2:5] = 255
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "0.png").write_bytes(encode_png(hole))
    said = run("restore", trained, tmp_path / "0.png", "-o", tmp_path / "out", "--mask", tmp_path / "masks", "--json")
    assert said.status == 0, said.err
    assert said.answer["images"][0]["filled"] == pytest.approx(9 / 64)
    after, before = (decode_file(folder / "0.png").pixels for folder in (tmp_path / "out", tmp_path))
    assert np.array_equal(after[hole == 0], before[hole == 0])
    assert json.dumps(said.answer)
    (tmp_path / "both").mkdir()
    for number in range(2):
        (tmp_path / f"{number}.png").rename(tmp_path / "both" / f"{number}.png")
    both = run("restore", trained, tmp_path / "both", "-o", tmp_path / "again", "--mask", tmp_path / "masks", "--json")
    assert both.status == 2
    assert "1.png: " in both.err
    assert [row["id"] for row in both.answer["images"]] == ["0.png"]


def test_large_images_are_learnt_from_in_tiles(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 255, (6, 1, 40, 70)).astype(np.uint8)
    job = apercu.prepare(
        x, preset="dae", settings={"width": 4, "blocks": 1, "tile": 32}, training=Training(epochs=1, device="cpu")
    )
    assert job.seen.train.spec.shape == (1, 32, 32)
    assert len(job.seen.train) > len(job.data.train)
    assert any("tiles" in note for note in job.recipe.data["notes"])
    assert job.recipe.image.shape == (1, 40, 70)
    next(job.run())


def test_each_task_with_a_preset_of_its_own_has_one_that_there_is() -> None:
    for preset, settings in FOR_TASKS.values():
        assert set(settings) <= set(defaults(preset))
    said = run("fit", "sklearn:digits", "-o", "nowhere", "--task", "paint")
    assert said.status == 2
    assert "restore" in said.err
    said = run("fit", "sklearn:digits", "-o", "nowhere", "--task", "restore", "--preset", "ae")
    assert said.status == 2
    assert "give one" in said.err


def test_a_marked_hole_is_grey() -> None:
    hole = torch.zeros(1, 1, 2, 2, dtype=torch.bool)
    hole[..., 0] = True
    assert fill(torch.ones(1, 3, 2, 2), hole)[0, 0].tolist() == [[0.5, 1], [0.5, 1]]
