"""Damage on purpose: the contract of every file in `corruptions/`, their mathematics, the grammar, training."""

from __future__ import annotations

import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from apercu import registry
from apercu.corruptions import Corruption, parse
from apercu.corruptions._grammar import Chain, Either
from apercu.corruptions.base import Graded
from apercu.corruptions.holes import fill
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.metrics import psnr
from apercu.presets import build
from apercu.types import Batch, ImageSpec
from apercu.validate import validate

PAGE = Path(__file__).resolve().parents[1] / "docs" / "corruptions.md"
MEMBERS = registry.names("corruptions")
SHAPES = [(1, 28, 28), (2, 17, 13), (3, 32, 20), (4, 9, 11)]


def pictures(count: int, channels: int = 1, height: int = 28, width: int = 28) -> Tensor:
    """Smooth pictures, all of them different."""
    generator = torch.Generator().manual_seed(channels * height * width)
    coarse = torch.rand(count, channels, 4, 4, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return fine.contiguous(memory_format=torch.channels_last)


def damaged(text: str, x: Tensor, seed: int = 0) -> Tensor:
    corruption = parse(text)
    assert corruption is not None
    torch.manual_seed(seed)
    return corruption(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", MEMBERS)
def test_damaged_images_are_images_of_the_same_kind(name: str, shape: tuple[int, int, int]) -> None:
    x = pictures(6, *shape)
    before = x.clone()
    seen = damaged(name, x.requires_grad_())
    assert seen.shape == x.shape
    assert seen.dtype == torch.float32
    assert seen.is_contiguous(memory_format=torch.channels_last)
    assert not seen.requires_grad
    assert 0 <= seen.min() <= seen.max() <= 1
    assert torch.equal(x, before)
    assert not torch.equal(seen, x)


@pytest.mark.parametrize("name", MEMBERS)
def test_damage_comes_from_the_seed_alone(name: str) -> None:
    x = pictures(1, 1, 24, 24).expand(12, -1, -1, -1)
    once = damaged(name, x)
    assert torch.equal(once, damaged(name, x))
    assert len(once.unique(dim=0)) > 1, "every image has its own strength"
    if name != "low":  # which only has whole factors to choose from
        assert not torch.equal(once, damaged(name, x, seed=1))


@pytest.mark.parametrize("name", MEMBERS)
def test_strength_0_changes_nothing_and_more_is_worse(name: str) -> None:
    x = pictures(16, 3, 32, 32)
    assert torch.allclose(damaged(f"{name}:0", x), x, atol=0)
    low, high = registry.part("corruptions", name).USUAL
    assert psnr(damaged(f"{name}:{low}", x), x).mean() > psnr(damaged(f"{name}:{high}", x), x).mean()


@pytest.mark.parametrize("name", MEMBERS)
def test_one_image_of_one_pixel_is_an_image_too(name: str) -> None:
    assert damaged(name, torch.full((1, 1, 1, 1), 0.4)).shape == (1, 1, 1, 1)


def test_noise_and_shot_noise_have_the_variance_that_is_asked_for() -> None:
    grey = torch.full((4, 1, 64, 64), 0.25)
    assert float((damaged("noise:0.05", grey) - grey).std()) == pytest.approx(0.05, rel=0.03)
    shot = damaged("shot:0.1", grey)
    assert float((shot - grey).std()) == pytest.approx(0.1 * math.sqrt(0.25), rel=0.03)
    assert float(shot.mean()) == pytest.approx(0.25, rel=0.01)


def test_salt_hits_the_share_of_pixels_in_all_channels() -> None:
    x = torch.full((8, 3, 64, 64), 0.5)
    seen = damaged("salt:0.2", x)
    assert float((seen == 1).float().mean()) == pytest.approx(0.1, rel=0.05)
    assert float((seen == 0).float().mean()) == pytest.approx(0.1, rel=0.05)
    assert torch.equal((seen != x).all(1), (seen != x).any(1))


def test_blur_is_that_of_scipy() -> None:
    x = pictures(3, 2, 21, 30)
    blurred = ndimage.gaussian_filter(x.numpy(), (0, 0, 1.5, 1.5), mode="nearest", radius=(0, 0, 5, 5))
    np.testing.assert_allclose(damaged("blur:1.5", x).numpy(), blurred, atol=1e-5)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [10, 30, 75])
def test_jpeg_is_that_of_pillow(mode: str, quality: int) -> None:
    stored = (pictures(1, len(mode), 32, 48)[0] * 255).round().permute(1, 2, 0).numpy().astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(stored[..., 0] if mode == "L" else stored, mode).save(file, "JPEG", quality=quality)
    theirs = torch.from_numpy(np.asarray(Image.open(file)).copy()).float().view(32, 48, -1).permute(2, 0, 1) / 255
    x = torch.from_numpy(stored).permute(2, 0, 1)[None] / 255
    ours = damaged(f"jpeg:{1 - quality / 100}", x)
    # Colours differ by the filter that doubles them, and grey by the rounding to whole levels.
    assert psnr(ours, theirs[None]) > (50 if mode == "L" else 34)
    assert psnr(ours, theirs[None]) > psnr(x, theirs[None]) + 3


def test_holes_have_the_size_that_is_asked_for_and_leave_the_rest() -> None:
    x = pictures(200, 3, 40, 40)
    changed = (damaged("holes:0.2", x) != x).any(1)
    assert 0.1 < float(changed.float().mean()) < 0.25
    blocks = [image for image in changed if bool(image[image.any(1)][:, image.any(0)].all())]
    assert 60 < len(blocks) < 140, "about half are blocks"
    assert float(torch.stack(blocks).float().mean()) == pytest.approx(0.2, rel=0.1)


def test_marked_holes_are_filled_as_half_of_those_in_training() -> None:
    x = torch.zeros(200, 1, 20, 20)
    seen = damaged("holes:0.2", x)
    grey = [image for image in seen if bool(((image == 0) | (image == 0.5)).all())]
    assert 60 < len(grey) < 140
    hole = torch.zeros(200, 1, 20, 20, dtype=torch.bool)
    hole[..., 3:8, 4:9] = True
    assert fill(x, hole).unique().tolist() == [0, 0.5]


def test_several_follow_each_other_or_are_drawn_for_each_image() -> None:
    x = pictures(30, 1, 24, 24)
    both, one = parse("blur:2 + salt:0.1"), parse("salt:1|holes:0|low:1 + noise:0")
    assert isinstance(both, Chain)
    assert isinstance(one, Either)
    torch.manual_seed(0)
    chained = both(x)
    torch.manual_seed(0)
    first = parse("blur:2")
    second = parse("salt:0.1")
    assert first is not None
    assert second is not None
    assert torch.equal(chained, second(first(x)))
    changed = (one(x) != x).flatten(1).any(1)
    assert int(changed.sum()) == 10, "every image gets one of the three, all equally often"


def test_nothing_is_no_damage() -> None:
    assert parse("") is None
    assert parse("  ") is None


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("nois:0.2", "choose from"),
        ("noise:", "is no strength"),
        ("noise:x", "is no strength"),
        ("noise:-1", "is no strength"),
        ("noise:1e9", "is no strength"),
        ("noise:0.5-0.1", "smaller one first"),
        ("holes:2", "from 0 to 0.95"),
        ("noise|", "choose from"),
        ("noise++blur", "choose from"),
        ("noise:0.1:0.2", "is no strength"),
    ],
)
def test_a_mistake_is_answered_with_advice(text: str, advice: str) -> None:
    with pytest.raises(ApercuError, match=re.escape(advice)):
        parse(text)


def test_every_kind_of_damage_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8").partition("\n## What there is")[2]
    for name in MEMBERS:
        part: type[Graded] = registry.part("corruptions", name)
        low, high = part.USUAL
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert f"{low:g}–{high:g}" in row
        assert part.UNIT in row


SPEC = ImageSpec(1, 16, 16)
TINY: dict[str, dict[str, object]] = {
    "ae": {"width": 8, "dim": 4},
    "vae": {"width": 4, "dim": 4},
    "vae_cnn": {"width": 4, "dim": 4, "hidden": 8, "augment": 0.0},
    "vqvae": {"width": 4, "dim": 4, "codes": 8},
    "mae": {"width": 8, "dim": 4, "blocks": 1},
    "dae": {"width": 4},
}


class Record(Corruption):
    """Turns every image black, and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []

    def damage(self, x: Tensor) -> Tensor:
        self.seen.append(x)
        return torch.zeros_like(x)


@pytest.mark.parametrize("preset", TINY)
def test_training_sees_the_damage_and_is_priced_by_the_clean_image(preset: str) -> None:
    torch.manual_seed(0)
    model = build(preset, SPEC, 2, TINY[preset] | {"corruption": "noise:0.3"})
    assert isinstance(model.corruption, Corruption)
    record = model.corruption = Record()
    x = pictures(4, 1, 16, 16)
    batch = Batch(x, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    model.train()
    model.price(batch)
    assert len(record.seen) == 1
    assert torch.equal(record.seen[0], x)
    model.eval()
    model.price(batch)
    assert len(record.seen) == 1, "a score is of the image as it is"


def test_the_price_is_that_of_the_clean_image() -> None:
    torch.manual_seed(0)
    model = build("ae", SPEC, 0, TINY["ae"] | {"corruption": "noise:0.3"}).train()
    x = pictures(4, 1, 16, 16)
    batch = Batch(x, torch.zeros(4, dtype=torch.int64), torch.arange(4))
    torch.manual_seed(1)
    prices, output = model.price(batch)
    assert output.pixels is not None
    assert torch.allclose(prices["pixels"], output.pixels.nll(x))
    torch.manual_seed(1)
    assert model.corruption is not None
    seen = model.corruption(x)
    assert torch.allclose(output.pixels.mean, model(Batch(seen, batch.y, batch.index)).pixels.mean)


def test_validation_damages_in_the_same_way_every_time(drawn: ImageSet) -> None:
    torch.manual_seed(0)
    damaging = build("ae", SPEC, 0, TINY["ae"] | {"corruption": "salt:0.4"})
    torch.manual_seed(0)
    plain = build("ae", SPEC, 0, TINY["ae"])
    state = torch.get_rng_state()
    first = validate(damaging, drawn).score
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(5)
    assert validate(damaging, drawn).score == first
    assert validate(plain, drawn).score != first
