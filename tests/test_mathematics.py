"""Mathematics against a reference: torch.distributions, numerical integration, and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from apercu import metrics, registry
from apercu.bottlenecks.gaussian import Gaussian, kl_per_dimension
from apercu.bottlenecks.vq import VQ
from apercu.likelihoods.gaussian import Gaussian as GaussianPixels
from apercu.likelihoods.logistic import Logistic
from apercu.objective import Objective, Term, cost


def test_kl_is_the_divergence_of_torch() -> None:
    mean, scale = torch.randn(50), torch.rand(50) + 0.1
    torch.testing.assert_close(
        kl_per_dimension(mean, scale), kl_divergence(Normal(mean, scale), Normal(torch.zeros(50), torch.ones(50)))
    )


def test_gaussian_pixels_are_the_density_of_torch() -> None:
    likelihood = GaussianPixels(sigma=0.2)
    raw, x = torch.randn(3, 2, 4, 4), torch.rand(3, 2, 4, 4)
    sigma = likelihood(raw).sigma  # the floor of half a grey level bends it by very little
    assert float(sigma) == pytest.approx(0.2, rel=0.02)
    expected = -Normal(raw.sigmoid(), sigma).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(likelihood(raw).nll(x), expected)


def test_bernoulli_pixels_are_the_density_of_torch() -> None:
    likelihood = registry.part("likelihoods", "bernoulli")()
    raw, x = torch.randn(3, 1, 4, 4), torch.rand(3, 1, 4, 4).round()
    torch.testing.assert_close(likelihood(raw).nll(x), -Bernoulli(logits=raw).log_prob(x).flatten(1).sum(1))


@pytest.mark.parametrize("top", [16, 255, 65535])
def test_logistic_probabilities_of_all_grey_levels_sum_to_one(top: int) -> None:
    levels = (torch.arange(top + 1) / top).view(-1, 1, 1, 1)
    for mean, log_scale in [(0.3, 1.0), (-3.0, -1.0), (0.0, 3.0), (4.0, 0.0)]:
        raw = torch.tensor([mean, log_scale]).view(1, 2, 1, 1).expand(top + 1, 2, 1, 1)
        total = (-Logistic(float(top))(raw).nll(levels)).exp().double().sum()
        assert float(total) == pytest.approx(1.0, abs=2e-3)


def test_logistic_stays_finite_where_it_is_certain_and_wrong() -> None:
    raw = torch.tensor([[12.0, -40.0], [-12.0, -40.0]]).view(2, 2, 1, 1).requires_grad_()
    nll = Logistic(255.0)(raw).nll(torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
    nll.sum().backward()
    assert nll.isfinite().all()
    assert raw.grad is not None
    assert raw.grad.isfinite().all()


def test_free_bits_raise_each_dimension_and_only_while_training() -> None:
    torch.manual_seed(0)
    bottleneck = Gaussian(3, 4, free_bits=0.5)
    features, x = torch.randn(6, 1, 3) * 0.1, torch.zeros(6, 1, 1, 1)
    assert (bottleneck.train()(features, (1, 1), x, True).costs["kl"] >= 4 * 0.5 - 1e-6).all()
    assert (bottleneck.eval()(features, (1, 1), x, False).costs["kl"] < 4 * 0.5).all()


def test_noise_has_the_posterior_scale() -> None:
    torch.manual_seed(0)
    bottleneck = Gaussian(3, 2)
    features = torch.randn(1, 1, 3).expand(20000, 1, 3)
    code = bottleneck(features, (1, 1), torch.zeros(1), noise=True)
    torch.testing.assert_close(code.z.std(0)[0], code.scale[0, 0], rtol=0.03, atol=0)
    torch.testing.assert_close(code.z.mean(0)[0], code.mean[0, 0], rtol=0.03, atol=0.03)


def test_straight_through_passes_the_decoder_gradient_to_the_features() -> None:
    torch.manual_seed(0)
    vq = VQ(4, 3, codes=8).eval()
    features = torch.randn(2, 5, 4, requires_grad=True)
    code = vq(features, (1, 5), torch.zeros(1), noise=False)
    weights = torch.randn(2, 5, 3)
    (code.z * weights).sum().backward()
    torch.testing.assert_close(features.grad, weights @ vq.to_code.weight)


@pytest.mark.parametrize("update", ["ema", "gradient"])
def test_vq_chooses_the_nearest_and_prices_the_squared_distance(update: str) -> None:
    torch.manual_seed(0)
    vq = VQ(4, 3, codes=8, update=update).eval()
    features = torch.randn(2, 5, 4)
    code = vq(features, (1, 5), torch.zeros(1), noise=False)
    f = vq.to_code(features)
    distance = torch.cdist(f.flatten(0, 1), vq.codebook).view(2, 5, 8)
    assert torch.equal(code.symbols[..., 0], distance.argmin(2))
    torch.testing.assert_close(code.costs["commitment"], distance.min(2).values.square().sum(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(code.z, vq.codebook[code.symbols[..., 0]])


def test_ema_codebook_moves_to_the_mean_of_what_chose_it() -> None:
    torch.manual_seed(0)
    vq = VQ(2, 2, codes=2, decay=0.5).train()
    with torch.no_grad():
        vq.to_code.weight.copy_(torch.eye(2))
        vq.to_code.bias.zero_()
        vq._place(torch.arange(2), torch.tensor([[3.0, 3.0], [7.0, 3.0]]), 1.0)
        vq.started.fill_(True)
    points = torch.tensor([[[0.0, 0.0], [0.0, 2.0], [10.0, 0.0], [10.0, 2.0]]])
    for _ in range(20):
        vq(points, (1, 4), torch.zeros(1), noise=True)
    centres = vq.codebook[vq.codebook[:, 0].argsort()]
    torch.testing.assert_close(centres, torch.tensor([[0.0, 1.0], [10.0, 1.0]]), atol=0.05, rtol=0)


def test_dead_codes_are_revived() -> None:
    torch.manual_seed(0)
    vq = VQ(2, 2, codes=4, decay=0.5).train()
    vq(torch.randn(1, 64, 2), (1, 64), torch.zeros(1), noise=True)
    vq._place(torch.tensor([3]), torch.full((1, 2), 1e6), 1.0)
    for _ in range(vq.revive + 5):
        vq(torch.randn(1, 64, 2), (1, 64), torch.zeros(1), noise=True)
    assert vq.codebook[3].abs().max() < 1e3


def test_warmup_raises_the_weight_linearly_to_its_value() -> None:
    term = Term(cost("kl"), weight=4.0, warmup=0.5)
    assert [term.weight_at(p) for p in (0.0, 0.25, 0.5, 1.0)] == [0.0, 2.0, 4.0, 4.0]
    objective = Objective({"kl": term})
    assert float(objective.total({"kl": torch.tensor([2.0])}, 0.25)) == 4.0


def test_psnr_and_ssim_agree_with_their_definitions() -> None:
    x = torch.rand(2, 1, 20, 20)
    noisy = (x + 0.1).clamp(0, 2)
    torch.testing.assert_close(metrics.psnr(x, noisy), torch.full((2,), 20.0), atol=1e-3, rtol=0)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(2))
    assert (metrics.ssim(x, torch.rand(2, 1, 20, 20)) < 0.3).all()
    for side in (2, 4, 8):
        tiny = torch.rand(1, 1, side, side)
        assert float(metrics.ssim(tiny, tiny)) == pytest.approx(1.0, abs=1e-4)


def test_frechet_is_the_closed_form_for_gaussians() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, (200_000, 2)), rng.normal(3, 2, (200_000, 2))
    assert metrics.frechet(a, b) == pytest.approx(2 * 9 + 2 * (1 + 4 - 2 * 2), rel=0.02)
    assert metrics.frechet(a, a) == pytest.approx(0, abs=1e-6)


def test_importance_weights_are_those_of_the_densities() -> None:
    from apercu.api import Model
    from apercu.presets import build
    from apercu.store import Recipe
    from apercu.tasks.likelihood import Likelihood
    from apercu.types import ImageSpec

    image = ImageSpec(1, 2, 3)
    torch.manual_seed(0)
    network = build("vae", image, 0, {"dim": 2, "encoder": "dense", "width": 4})
    task = Likelihood(Model(network, Recipe("vae", {}, image), device="cpu"), samples=7)
    x = torch.rand(4, 1, 2, 3)
    with torch.no_grad():
        torch.manual_seed(1)
        ours = task._log_weights(x)
        torch.manual_seed(1)
        code = network.encode(x)
        z = code.mean + code.scale * torch.randn(7, *code.mean.shape)
        prior = Normal(0, 1).log_prob(z).flatten(2).sum(2)
        posterior = Normal(code.mean, code.scale).log_prob(z).flatten(2).sum(2)
        pixels = torch.stack([-network.decode(draw, code.grid, (2, 3)).nll(x) for draw in z])
    torch.testing.assert_close(ours, pixels + prior - posterior, atol=1e-4, rtol=1e-4)


def test_doubling_is_a_transposed_convolution() -> None:
    from apercu.blocks import Doubling

    torch.manual_seed(0)
    reference, ours = torch.nn.ConvTranspose2d(5, 3, 4, stride=2, padding=1), Doubling(5, 3)
    with torch.no_grad():
        # Phase (a, b) of output channel c uses the taps (3 − a − 2i, 3 − b − 2j) … of the 4×4 kernel, flipped.
        for a in (0, 1):
            for b in (0, 1):
                taps = reference.weight[:, :, [3 - (1 - a), 1 - (1 - a)]][:, :, :, [3 - (1 - b), 1 - (1 - b)]]
                ours.phases.weight[(2 * a + b) * 3 + torch.arange(3)] = taps.transpose(0, 1)
                ours.phases.bias[(2 * a + b) * 3 + torch.arange(3)] = reference.bias
    x = torch.randn(2, 5, 6, 7)
    torch.testing.assert_close(ours(x), reference(x), atol=1e-5, rtol=1e-5)
