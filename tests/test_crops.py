"""Learning from parts of large images: where crops lie, which images share a batch, and resuming."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import apercu
from apercu.checkpoint import NAME
from apercu.data.batches import Batches
from apercu.data.crops import centred
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.presets import build
from apercu.train import _Run, train
from apercu.training import Training
from tests.commands import run

SIDE = 16
SIZES = [(30, 41), (24, 20), (16, 50), (12, 33), (9, 9)]
SMALL = {"width": 4, "dim": 4, "codes": 8, "encoder": "conv"}
FAST = Training(epochs=3, batch=8, precision="32", device="cpu", crop=SIDE)


def places(count: int = 40, sizes: list[tuple[int, int]] | None = None) -> list[np.ndarray]:
    """Images whose pixels say where they are: row, column, and which image, (3, H, W)."""
    drawn = []
    for k in range(count):
        height, width = (sizes or SIZES)[k % len(sizes or SIZES)]
        rows, columns = np.indices((height, width))
        drawn.append(np.stack([rows, columns, np.full((height, width), k)]).astype(np.uint8))
    return drawn


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images(places()).split("all")


def shown(batches: Batches, epoch: int) -> dict[int, np.ndarray]:
    """The pixels of every image in an epoch, (3, h, w)."""
    return {
        int(index): np.rint(255 * pixels.numpy()).astype(int)
        for batch in batches.epoch(epoch)
        for index, pixels in zip(batch.index, batch.x, strict=True)
    }


def test_a_crop_is_a_part_of_its_image_and_another_one_in_every_epoch(images: ImageSet) -> None:
    batches = Batches(images, 8, seed=0, crop=SIDE)
    corners: dict[int, set[tuple[int, int]]] = {}
    for epoch in range(40):
        seen = shown(batches, epoch)
        assert set(seen) == set(range(len(images)))
        for k, pixels in seen.items():
            height, width = images.sizes[k]
            top, left = pixels[:2, 0, 0].tolist()
            assert pixels.shape[1:] == (min(height, SIDE), min(width, SIDE))
            np.testing.assert_array_equal(pixels, images.read([k])[0][:, top : top + SIDE, left : left + SIDE])
            corners.setdefault(k, set()).add((top, left))
    assert len(corners[0]) > 30  # of 15 × 26 places
    assert len(corners[2]) == pytest.approx(25, abs=10)  # a side as long as the crop leaves 1 × 35
    assert {top for top, _ in corners[1]} == set(range(24 - SIDE + 1))
    assert corners[4] == {(0, 0)}


def test_images_of_different_sizes_share_batches(images: ImageSet) -> None:
    batches = [batch.index.numpy() for batch in Batches(images, 8, seed=0, crop=SIDE).epoch(0)]
    alike = [np.minimum(images.sizes[index], SIDE) for index in batches]
    assert all((sizes == sizes[0]).all() for sizes in alike)
    assert any(len(np.unique(images.sizes[index], axis=0)) == 3 for index in batches)
    assert len(batches) == 5  # 24 that are cut on both sides, 8 on one, 8 whole


def test_crops_come_from_the_seed_the_epoch_and_the_image_alone(images: ImageSet) -> None:
    def pixels(seed: int, epoch: int, start: int = 0, rank: int = 0, processes: int = 1) -> list[torch.Tensor]:
        batches = Batches(images, 8, seed, rank=rank, processes=processes, crop=SIDE)
        return [batch.x for batch in batches.epoch(epoch, start)]

    first = pixels(1, 3)
    assert all(map(torch.equal, first, pixels(1, 3)))
    assert all(map(torch.equal, first[2:], pixels(1, 3, start=2)))
    assert not all(a.shape == b.shape and torch.equal(a, b) for a, b in zip(first, pixels(1, 4), strict=True))
    parts = [pixels(1, 3, rank=rank, processes=2) for rank in (0, 1)]
    for whole, even, odd in zip(first, *parts, strict=True):
        assert torch.equal(whole[0::2], even)
        assert torch.equal(whole[1::2], odd)


def test_a_fixed_share_of_crops_is_labelled_where_the_images_differ_in_size() -> None:
    several = open_images(places(60, SIZES[:3])).split("all")
    few = several.with_labels(np.where(np.arange(60) < 6, 0, -1), ("a",))
    for batch in Batches(few, 16, seed=0, crop=SIDE).epoch(0):
        assert int((batch.y >= 0).sum()) == 4


def test_validation_sees_the_middle(images: ImageSet) -> None:
    seen = _Run(build("vqvae", images.spec, 0, SMALL), images, images, FAST, None).validation
    assert len(seen) == len(images)
    for k in range(len(images)):
        pixels, (height, width) = seen.read([k])[0], images.sizes[k]
        assert pixels[:2, 0, 0].tolist() == [max(0, height - SIDE) // 2, max(0, width - SIDE) // 2]
        assert pixels[2, 0, 0] == k
    assert centred(images, None) is images
    assert centred(images, 64) is images


def test_resuming_is_exact(images: ImageSet, tmp_path: Path) -> None:
    def fresh() -> apercu.model.Autoencoder:
        torch.manual_seed(0)
        return build("vqvae", images.spec, 0, SMALL)

    whole, stopped, resumed = fresh(), fresh(), fresh()
    for _ in train(whole, images, images, FAST):
        pass
    running = train(stopped, images, images, dataclasses.replace(FAST, checkpoint_seconds=0.0), tmp_path)
    for _ in range(7):
        next(running)
    running.close()
    assert (tmp_path / NAME).is_file()
    for _ in train(resumed, images, images, FAST, tmp_path, resume=True):
        pass
    for (name, value), again in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(value, again), name


def test_what_cannot_learn_from_crops_says_so() -> None:
    x = np.zeros((12, 24, 24), np.uint8)
    with pytest.raises(ApercuError, match=r"preset vae sees every image as a whole.*choose a preset"):
        apercu.fit(x, preset="vae", training=FAST)
    with pytest.raises(ApercuError, match="a crop of 2 pixels is smaller than the 4"):
        apercu.fit(x, preset="vqvae", training=dataclasses.replace(FAST, crop=2))
    for wrong in (0, 1.5):
        with pytest.raises(ApercuError, match="crop must be a whole number"):
            Training(crop=wrong)  # type: ignore[arg-type]


def test_crops_on_the_command_line(tmp_path: Path) -> None:
    np.savez(tmp_path / "drawn.npz", x=np.stack(places(40, [(40, 40)])))
    words = [word for name, value in SMALL.items() for word in ("-s", f"{name}={value}")]
    call = ("fit", tmp_path / "drawn.npz", "-o", tmp_path / "model", "--preset", "vqvae", *words)
    said = run(*call, "--epochs", 1, "--crop", SIDE, "--json")
    assert said.status == 0, said.err
    assert said.answer["training"]["crop"] == SIDE
    assert said.answer["image"]["height"] == 40  # images are used whole
    assert apercu.load(tmp_path / "model").reconstruct(np.stack(places(2, [(40, 40)]))).shape == (2, 3, 40, 40)
