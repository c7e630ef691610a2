"""What segmenting learns from and is measured by, against its equations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from apercu.augment import DOMAINS
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.segment.learn import Crops, loss, varied
from apercu.segment.marks import UNKNOWN, Marked
from apercu.segment.measured import confusion, measured
from apercu.segment.shown import overlay, palette
from apercu.tasks._regions import coco
from tests.scenes import SIDE, scene


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
