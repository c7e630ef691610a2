"""Marking: a head that learns from synthetic defects which pixels do not belong to a good part."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import apercu
from apercu.anomaly.base import peak
from apercu.anomaly.marked import Marked
from apercu.api import Model
from apercu.blocks import standardised
from apercu.metrics import detection
from apercu.objective import mark
from apercu.presets import build
from apercu.training import Training
from apercu.types import Batch, Code, ImageSpec, Output

SETTINGS = {"width": 8, "depth": 1, "blocks": 1, "tile": 0, "corruption": "defects", "mark": 10.0}


def parts(count: int, seed: int) -> torch.Tensor:
    """Drawn parts: a bright square with a dark one in its middle, 16×16, and a little noise."""
    x = 0.35 + 0.02 * torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))
    x[:, :, 3:13, 3:13] += 0.3
    x[:, :, 6:10, 6:10] -= 0.2
    return x.clamp(0, 1)


@pytest.fixture(scope="module")
def model() -> Model:
    pixels = (255 * parts(96, 0)).round().byte().numpy()
    training = Training(epochs=25, batch=16, learning_rate=8e-3, device="cpu", precision="32", validations=1)
    return apercu.fit(pixels, preset="dae", settings=SETTINGS, training=training)


def test_the_price_is_that_of_the_pixels_which_were_changed() -> None:
    clean = torch.full((2, 1, 5, 6), 0.5)
    damaged = clean.clone()
    damaged[0, 0, 1:3, 2:4] = 0.9
    odds = torch.randn(2, 6, 6, generator=torch.Generator().manual_seed(0))  # the head speaks of whole cells
    output = Output(Code(odds, (1, 1), odds), heads={"mark": odds})
    nothing = torch.full((2,), -1)
    expected = F.softplus(odds[:, :5])
    expected[0, 1:3, 2:4] = F.softplus(-odds[0, 1:3, 2:4])
    torch.testing.assert_close(mark(output, Batch(damaged, nothing, nothing, clean=clean)), expected.sum((1, 2)))
    torch.testing.assert_close(mark(output, Batch(clean, nothing, nothing)), F.softplus(odds[:, :5]).sum((1, 2)))


def test_defects_that_were_never_seen_are_found_where_they_are(model: Model) -> None:
    good, bad = parts(40, 1), parts(40, 2)
    rng, truth = np.random.default_rng(0), np.zeros((40, 16, 16), bool)
    for k in range(40):
        top, left = rng.integers(0, 12, 2)
        bad[k, 0, top : top + 4, left : left + 4] += 0.3 if rng.random() < 0.5 else -0.3
        truth[k, top : top + 4, left : left + 4] = True
    score = Marked(model)
    bad, heat = bad.clamp(0, 1), score.map(bad.clamp(0, 1)).numpy()
    scores = torch.cat([score.score(good), score.score(bad)]).numpy()
    auroc, _ = detection(scores, np.repeat([False, True], 40))
    assert auroc is not None
    assert auroc > 0.85
    assert heat[truth].mean() > heat[~truth].mean() + 1


def test_the_map_fits_images_of_any_size_and_does_not_depend_on_the_batch(model: Model) -> None:
    score, x = Marked(model), torch.rand(3, 1, 13, 22, generator=torch.Generator().manual_seed(0))
    heat = score.map(x)
    assert heat.shape == (3, 13, 22)
    torch.testing.assert_close(score.map(x[1:2]), heat[1:2], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(score.score(x), peak(heat))
    assert torch.isfinite(score.map(torch.zeros(1, 1, 1, 1))).all()


def test_gradient_reaches_every_parameter() -> None:
    torch.manual_seed(0)
    network = build("dae", ImageSpec(3, 17, 13), 0, dict(SETTINGS)).train()
    x = torch.rand(4, 3, 17, 13)
    prices, _ = network.price(Batch(x, torch.full((4,), -1), torch.arange(4)))
    assert set(prices) == {"pixels", "mark"}
    network.objective.total(prices).mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]


def test_without_a_weight_there_is_no_head(model: Model) -> None:
    assert Marked.lacks(model) == ""
    assert not build("dae", ImageSpec(1, 16, 16), 0, SETTINGS | {"mark": 0.0}).heads


def test_standardised_images_have_no_level_and_no_contrast() -> None:
    x = torch.rand(2, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(standardised(0.5 * x + 0.3), standardised(x), rtol=1e-2, atol=1e-2)
    assert not standardised(torch.full((1, 2, 4, 4), 0.7)).abs().max() > 1e-3
    assert torch.isfinite(standardised(torch.ones(1, 2, 1, 1))).all()
