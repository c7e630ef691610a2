"""Properties that hold for every part and preset, because it is in the folder or the table."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apercu import registry
from apercu.bottlenecks.base import Bottleneck
from apercu.model import Autoencoder
from apercu.presets import build
from apercu.types import Batch, ImageSpec
from tests.conftest import DRAWING

IMAGES = {
    "digits": ImageSpec(1, 8, 8, 16.0),
    "grey": ImageSpec(1, 28, 28),
    "colour": ImageSpec(3, 32, 20),
    "many channels": ImageSpec(5, 17, 13, 65535.0),
}
LIKELIHOODS = registry.names("likelihoods")


def batch_of(image: ImageSpec, count: int = 6, seed: int = 0) -> Batch:
    x = torch.rand(count, *image.shape, generator=torch.Generator().manual_seed(seed))
    return Batch(x, torch.tensor([0, 1, 2, -1, -1, 0])[:count], torch.arange(count))


def make(preset: str, image: ImageSpec, **settings: object) -> Autoencoder:
    torch.manual_seed(0)
    return build(preset, image, 3, dict(settings))


@pytest.mark.parametrize("likelihood", LIKELIHOODS)
@pytest.mark.parametrize("kind", IMAGES)
@pytest.mark.parametrize("preset", DRAWING)
def test_prices_are_per_image_and_gradient_reaches_every_parameter(preset: str, kind: str, likelihood: str) -> None:
    own: dict[str, object] = {"likelihood": likelihood}
    if preset == "codec":  # two halvings: a single token has nothing around it
        own = {"distortion": "mse" if likelihood == "mse" else "ms-ssim", "depth": 2}
    model = make(preset, IMAGES[kind], width=8, **own)
    batch = batch_of(IMAGES[kind])
    prices, output = model.price(batch)
    assert all(price.shape == (6,) and price.dtype == torch.float32 for price in prices.values())
    assert output.pixels is not None
    assert output.pixels.mean.shape == batch.x.shape
    assert output.pixels.mean.min() >= 0
    assert output.pixels.mean.max() <= 1
    assert output.pixels.sample().shape == batch.x.shape
    model.objective.total(prices).mean().backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert not [name for name, g in gradients.items() if g is None or not g.isfinite().all() or not g.any()]


@pytest.mark.parametrize("preset", DRAWING)
def test_evaluation_is_repeatable_and_changes_nothing(preset: str) -> None:
    model = make(preset, IMAGES["grey"], width=8).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch = batch_of(IMAGES["grey"])
    with torch.no_grad():
        first, _ = model.price(batch, noise=False)
        second, output = model.price(batch, noise=False)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any(price.requires_grad for price in first.values())
    assert not output.code.z.requires_grad
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


@pytest.mark.parametrize("preset", DRAWING)
def test_a_batch_is_priced_as_its_images_are(preset: str) -> None:
    model = make(preset, IMAGES["grey"], width=8).eval()
    batch = batch_of(IMAGES["grey"])
    with torch.no_grad():
        together, _ = model.price(batch, noise=False)
        alone = [
            model.price(Batch(batch.x[i : i + 1], batch.y[i : i + 1], batch.index[:1]), False)[0] for i in range(6)
        ]
    for name, price in together.items():
        torch.testing.assert_close(price, torch.cat([one[name] for one in alone]), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("preset", ["vae_cnn"])
def test_unlabelled_images_price_their_label_at_nothing(preset: str) -> None:
    model = make(preset, IMAGES["grey"], width=8)
    batch = batch_of(IMAGES["grey"])
    prices, _ = model.price(batch)
    assert (prices["label"][batch.y < 0] == 0).all()
    assert (prices["label"][batch.y >= 0] > 0).all()
    model.objective.total(model.price(replace(batch, y=torch.full((6,), -1)))[0]).mean().backward()
    head = model.heads["label"]
    assert all(p.grad is None or (p.grad == 0).all() for p in head.parameters())


@settings(max_examples=25, deadline=None)
@given(height=st.integers(4, 41), width=st.integers(4, 41), channels=st.integers(1, 4))
def test_vqvae_takes_any_size(height: int, width: int, channels: int) -> None:
    model = make("vqvae", ImageSpec(channels, 32, 32, uniform=False), width=8, codes=16).eval()
    x = torch.rand(2, channels, height, width)
    with torch.no_grad():
        output = model(Batch(x, torch.tensor([-1, -1]), torch.arange(2)))
    assert output.pixels.mean.shape == x.shape
    assert output.code.grid == model.grid((height, width))
    assert output.code.symbols.shape == (2, output.code.grid[0] * output.code.grid[1], 1)


@pytest.mark.parametrize("name", registry.names("bottlenecks"))
@pytest.mark.parametrize("tokens", [1, 6])
def test_any_bottleneck_fits_any_encoder(name: str, tokens: int) -> None:
    torch.manual_seed(0)
    bottleneck: Bottleneck = registry.part("bottlenecks", name)(12, 4)
    features = torch.randn(5, tokens, 12)
    code = bottleneck(features, (1, tokens), torch.zeros(5, 1, 2, 2), noise=True)
    assert code.z.shape == code.mean.shape == (5, tokens, 4)
    assert all(cost.shape == (5,) for cost in code.costs.values())
    health = bottleneck.health(code)
    assert health.measures
    assert all(isinstance(value, float) for value in health.measures.values())


def test_contraction_needs_no_batch_and_matches_the_full_jacobian() -> None:
    image = ImageSpec(1, 5, 5)
    model = make("cae", image, dim=3, width=7)
    batch = batch_of(image, 4)
    price = model.price(batch)[0]["contraction"]

    def code(x: torch.Tensor) -> torch.Tensor:
        return model.encode(x[None]).z.flatten()

    exact = [torch.autograd.functional.jacobian(code, x).square().sum() for x in batch.x]
    torch.testing.assert_close(price, torch.stack(exact))


def test_stochastic_contraction_estimates_the_exact_one() -> None:
    from apercu.bottlenecks.contractive import Contractive

    torch.manual_seed(0)
    x = torch.randn(3, 1, 1, 6).requires_grad_()
    weight = torch.randn(6, 9)
    few, many = Contractive(9, 40, probes=1), Contractive(9, 40, probes=2000)
    many.load_state_dict(few.state_dict())
    features = (x.flatten(1) @ weight).tanh().unsqueeze(1)
    estimate = many(features, (1, 1), x, noise=True).costs["contraction"]

    def code(row: torch.Tensor) -> torch.Tensor:
        return few.to_code((row @ weight).tanh())

    exact = torch.stack([torch.autograd.functional.jacobian(code, row).square().sum() for row in x.detach().flatten(1)])
    torch.testing.assert_close(estimate, exact, rtol=0.1, atol=0)
