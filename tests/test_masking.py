"""Hidden patches: how many, which, and that nothing is learnt of them but what the others tell."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from apercu import registry
from apercu.encoders.base import Encoder, ToVector
from apercu.errors import ApercuError
from apercu.masking import Masking, fill
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, cost
from apercu.presets import build
from apercu.types import Batch, ImageSpec

IMAGE = ImageSpec(2, 18, 14)  # sides that no patch of 4 divides
SHARES = st.floats(0.02, 0.98)
SIDES = st.integers(1, 40)


def batch_of(height: int = 18, width: int = 14, count: int = 3, channels: int = 2) -> Batch:
    x = torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0))
    return Batch(x, torch.full((count,), -1), torch.arange(count))


def mae(image: ImageSpec = IMAGE, **wanted: object) -> Autoencoder:
    torch.manual_seed(0)
    return build("mae", image, 0, {"width": 8, "blocks": 1, "dim": 4, "patch": 4, **wanted})


def mask_of(batch: Batch) -> Tensor:
    assert batch.hidden is not None
    assert batch.hidden.dtype == torch.bool
    assert batch.hidden.shape == (len(batch.x), 1, *batch.x.shape[2:])
    return batch.hidden[:, 0]


def patches_of(mask: Tensor, patch: int) -> Tensor:
    """(B, H, W) → (B, h, w), having checked that all pixels of a patch share its fate."""
    cells = mask[:, ::patch, ::patch]
    spread = cells.repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    assert torch.equal(spread[:, : mask.shape[1], : mask.shape[2]], mask)
    return cells


@settings(max_examples=60, deadline=None)
@given(share=SHARES, patch=st.integers(1, 9), height=SIDES, width=SIDES)
def test_the_share_of_patches_is_hidden_in_every_image(share: float, patch: int, height: int, width: int) -> None:
    count = math.ceil(height / patch) * math.ceil(width / patch)
    hidden = Masking(share, patch).drawn(batch_of(height, width))
    if count == 1:
        assert hidden.hidden is None  # what is seen whole cannot be hidden whole
        return
    found = patches_of(mask_of(hidden), patch).flatten(1).sum(1)
    assert (found == found[0]).all()
    assert 1 <= found[0] <= count - 1
    assert abs(float(found[0]) - share * count) <= 1


@settings(max_examples=60, deadline=None)
@given(share=SHARES, patch=st.integers(1, 9), height=SIDES, width=SIDES)
def test_fixed_masks_hide_every_patch(share: float, patch: int, height: int, width: int) -> None:
    masking, batch = Masking(share, patch), batch_of(height, width)
    masks = list(masking.fixed(batch))
    if masks[0].hidden is None:
        assert len(masks) == 1
        return
    times = torch.stack([patches_of(mask_of(one), patch) for one in masks]).sum(0)
    assert (times >= 1).all()
    assert (times == times[:1]).all(), "every image is scored under the same masks"
    assert all(torch.equal(mask_of(a), mask_of(b)) for a, b in zip(masks, masking.fixed(batch), strict=True))


def test_three_quarters_are_hidden_evenly_by_four_masks() -> None:
    masks = list(Masking(0.75, 4).fixed(batch_of(16, 32)))
    assert len(masks) == 4
    assert (torch.stack([mask_of(one) for one in masks]).sum(0) == 3).all()


def test_training_hides_other_patches_every_time_and_in_every_image() -> None:
    torch.manual_seed(0)
    first, second = (mask_of(Masking(0.5, 2).drawn(batch_of())) for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, math.nan])
def test_a_share_that_hides_nothing_or_all_is_refused(share: float) -> None:
    with pytest.raises(ApercuError, match="must lie between 0 and 1"):
        Masking(share, 4)


def test_hidden_pixels_are_filled_with_the_mean_of_the_visible_ones() -> None:
    batch = Masking(0.5, 3).drawn(batch_of())
    filled, mask = fill(batch.x, batch.hidden), mask_of(batch)
    for image, before, hidden in zip(filled, batch.x, mask, strict=True):
        assert torch.equal(image[:, ~hidden], before[:, ~hidden])
        mean = before[:, ~hidden].mean(1, keepdim=True)
        torch.testing.assert_close(image[:, hidden], mean.expand(-1, int(hidden.sum())))


@pytest.mark.parametrize("name", ["dense", "conv", "residual", "vit", "vit in a vector"])
def test_the_code_knows_nothing_of_hidden_pixels(name: str) -> None:
    torch.manual_seed(0)
    model = mae()
    encoder: Encoder = registry.part("encoders", name.split()[0])(IMAGE, width=8)
    if "vector" in name:
        encoder = ToVector(encoder, (9, 7))
    model.encoder, model.bottleneck = encoder, registry.part("bottlenecks", "identity")(encoder.features, 4)
    batch = Masking(0.6, 4).drawn(batch_of())
    changed = torch.where(batch.hidden, torch.rand_like(batch.x), batch.x)
    with torch.no_grad():
        assert torch.equal(model.encode(batch.x, hidden=batch.hidden).z, model.encode(changed, hidden=batch.hidden).z)
        assert not torch.equal(model.encode(batch.x).z, model.encode(changed).z)


def test_hidden_patches_are_left_out_and_zeros_stand_in_their_places() -> None:
    torch.manual_seed(0)
    encoder = registry.part("encoders", "vit")(ImageSpec(1, 16, 16), width=8, depth=2, blocks=2)
    batch = Masking(0.5, 4).drawn(batch_of(16, 16, channels=1))
    seen: list[int] = []
    encoder.transformer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    features, grid = encoder.masked(batch.x, batch.hidden)
    assert grid == (4, 4)
    assert seen == [8]
    assert torch.equal((features == 0).all(2), patches_of(mask_of(batch), 4).flatten(1))


def test_with_nothing_hidden_masked_features_are_the_usual_ones() -> None:
    torch.manual_seed(0)
    encoder = registry.part("encoders", "vit")(ImageSpec(1, 16, 16), width=8, blocks=2)
    x = torch.rand(3, 1, 16, 16)
    torch.testing.assert_close(encoder.masked(x, torch.zeros(3, 1, 16, 16, dtype=torch.bool))[0], encoder(x)[0])


def test_images_that_hide_more_than_others_are_read_as_if_alone() -> None:
    torch.manual_seed(0)
    encoder = registry.part("encoders", "vit")(ImageSpec(1, 16, 16), width=8, depth=2, blocks=2)
    x, hidden = torch.rand(4, 1, 16, 16), torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    hidden[1, :, :9] = True  # one pixel of a patch hides it whole
    hidden[2, :, 3, 5] = True
    hidden[3] = True
    together, _ = encoder.masked(x, hidden)
    alone = torch.cat([encoder.masked(x[i : i + 1], hidden[i : i + 1])[0] for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert [(row == 0).all(1).sum().item() for row in together] == [0, 12, 1, 16]


def test_hidden_pixels_are_priced_at_their_mean_for_the_whole_image() -> None:
    model, batch = mae(likelihood="mse"), Masking(0.7, 4).drawn(batch_of())
    output = model(batch)
    prices, mask = model.objective.prices(output, batch), mask_of(batch)
    for i, (image, decoded, hidden) in enumerate(zip(batch.x, output.pixels.mean, mask, strict=True)):
        error = (image - decoded).square()
        for name, counted in (("pixels", hidden), ("visible", ~hidden)):
            torch.testing.assert_close(prices[name][i], IMAGE.dimensions * error[:, counted].mean())


def test_a_score_is_the_mean_over_the_fixed_masks() -> None:
    model, batch = mae().eval(), batch_of()
    with torch.no_grad():
        each = [model.objective.prices(model(one), one)["pixels"] for one in model.masking.fixed(batch)]
        prices, output = model.price(batch)
        seen = model.encode(batch.x)
    torch.testing.assert_close(prices["pixels"], torch.stack(each).mean(0))
    assert torch.equal(output.code.z, seen.z), "the code that goes with a score is that of the whole image"


def test_a_model_that_predicts_no_pixels_sees_whole_images() -> None:
    model = mae()
    seen: list[Tensor | None] = []
    model.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].hidden))
    model.price(batch_of())
    model.objective = Objective({"nothing": Term(lambda output, batch: output.code.z.sum((1, 2)))})
    model.price(batch_of())
    assert seen[0] is not None
    assert seen[1] is None


def test_any_preset_can_be_asked_about_images_with_hidden_pixels() -> None:
    torch.manual_seed(0)
    model = build("vae", IMAGE, 0, {"width": 4, "dim": 4}).eval()
    batch = Masking(0.5, 4).drawn(batch_of())
    output = model(batch)
    assert output.pixels.mean.shape == batch.x.shape
    assert cost("kl")(output, batch).shape == (3,)
