"""Synthetic defects: each image has its own, masks mark what they changed, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from apercu.anomaly.base import some
from apercu.corruptions import parse
from apercu.corruptions._shapes import masks
from apercu.corruptions.base import SEEN
from apercu.corruptions.defects import UNTOUCHED, Defects
from apercu.data.images import ImageSet
from apercu.tasks._choice import damaged

USUAL = Defects(*Defects.USUAL)


def waves(count: int, channels: int, height: int, width: int) -> torch.Tensor:
    place = torch.arange(height).view(-1, 1) * 0.3 + torch.arange(width) * 0.2
    phase = torch.arange(count * channels).view(count, channels, 1, 1)
    return 0.5 + 0.3 * torch.sin(place + phase)


@pytest.mark.parametrize("shape", [(40, 1, 32, 32), (24, 3, 17, 40), (24, 5, 9, 8), (3, 1, 64, 32), (1, 1, 16, 16)])
def test_every_image_has_a_defect_where_the_mask_is_and_nowhere_else(shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(0)
    x = waves(*shape)
    spoilt, mask = USUAL.with_mask(x)
    assert spoilt.shape == x.shape
    assert mask.shape == (shape[0], *shape[2:])
    assert 0 <= spoilt.min() <= spoilt.max() <= 1
    assert mask.flatten(1).any(1).all()
    outside = ~mask[:, None].expand_as(x)
    assert (spoilt - x).abs()[outside].max() <= SEEN
    assert mask.float().mean() < 0.4


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_even_plain_images_get_a_defect(level: float) -> None:
    torch.manual_seed(0)
    x = torch.full((60, 3, 28, 28), level)
    assert USUAL.with_mask(x)[1].flatten(1).any(1).all()


def test_training_sees_good_parts_too_and_images_stay_in_range() -> None:
    torch.manual_seed(0)
    x = waves(400, 1, 16, 16)
    spoilt = USUAL(x)
    untouched = (spoilt == x).flatten(1).all(1).float().mean()
    assert abs(float(untouched) - UNTOUCHED) < 0.08
    assert 0 <= spoilt.min() <= spoilt.max() <= 1
    assert torch.equal(Defects(0.0, 0.0)(x), x)


def test_each_image_has_its_own_and_the_seed_decides() -> None:
    x = waves(1, 1, 32, 32).expand(30, -1, -1, -1)

    def masks(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return USUAL.with_mask(x)[1]

    first = masks(0)
    assert torch.equal(first, masks(0))
    assert not torch.equal(first, masks(1))
    assert len({tuple(mask.flatten().tolist()) for mask in first}) == 30


def test_defects_are_local_on_the_whole() -> None:
    torch.manual_seed(0)
    areas = USUAL.with_mask(waves(300, 1, 64, 64))[1].flatten(1).float().mean(1)
    assert areas.median() < 0.05
    assert areas.max() > 0.05


def test_places_vary_from_a_few_pixels_to_a_fifth_of_the_image_and_some_have_soft_edges() -> None:
    torch.manual_seed(0)
    places = masks(torch.zeros(600, 1, 64, 64))
    assert places.shape == (600, 1, 64, 64)
    areas = (places > 0.5).flatten(1).float().mean(1)
    shown = areas[areas > 0]
    assert shown.quantile(0.1) < 0.003
    assert shown.max() > 0.2
    between = ((places > 0.05) & (places < 0.95)).flatten(1).float().mean(1) / areas.clamp_min(1e-3)
    assert (between > 0.6).float().mean() > 0.1


def test_strong_defects_change_more_than_weak_ones() -> None:
    x, change = waves(200, 1, 32, 32), []
    for strength in (0.2, 1.0):
        torch.manual_seed(0)
        change.append(float((Defects(strength, strength).with_mask(x)[0] - x).abs().mean()))
    assert change[1] > 3 * change[0]


def test_they_are_written_as_any_damage_is() -> None:
    assert parse("defects") == USUAL
    assert parse("defects:0.5-0.7") == Defects(0.5, 0.7)


def test_damaged_copies_keep_names_type_and_size(drawn: ImageSet) -> None:
    images = some(drawn, 20, 0)
    copies, masks = damaged(images, 0, 3)
    assert len(copies) == 60
    before, after = images.read(np.arange(20)), copies.read(np.arange(60))
    assert after.dtype == before.dtype
    change = np.abs(after.reshape(3, *before.shape).astype(float) - before)
    assert (change > 0).any((2, 3, 4)).all()
    assert not (
        (change > SEEN * images.spec.maximum + 1).any(2).reshape(60, *before.shape[2:]) & ~np.stack(masks)
    ).any()
