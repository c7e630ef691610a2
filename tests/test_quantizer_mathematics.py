"""What quantizers compute, against references: gradients, distances, levels, stages, rates and priors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.bottlenecks._codebook import rotated
from apercu.bottlenecks.base import straight_through
from apercu.bottlenecks.fsq import FSQ
from apercu.bottlenecks.rvq import RVQ
from apercu.bottlenecks.uniform import PACE, Prior, Uniform
from apercu.bottlenecks.vq import VQ
from apercu.likelihoods.logistic import log_between
from tests.quantizing import encoded, plain, same_bits, trained


def test_straight_through_is_exact_forwards() -> None:
    value, path = torch.randn(1000) * 1e-3, (torch.randn(1000) * 1e3).requires_grad_()
    out = straight_through(value, path)
    assert same_bits(out, value)
    out.sum().backward()
    assert torch.equal(path.grad, torch.ones(1000))


def test_rotation_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    f, z = torch.randn(7, 1, 5, dtype=torch.float64), torch.randn(7, 1, 5, dtype=torch.float64)
    for row, target in zip(f[:, 0], z[:, 0], strict=True):
        e, q = row / row.norm(), target / target.norm()
        r = (e + q) / (e + q).norm()
        rotation = torch.eye(5, dtype=torch.float64) - 2 * torch.outer(r, r) + 2 * torch.outer(q, e)
        torch.testing.assert_close(rotation @ rotation.T, torch.eye(5, dtype=torch.float64))
        matrix = target.norm() / row.norm() * rotation
        torch.testing.assert_close(matrix @ row, target)

        def turn(v: Tensor, target: Tensor = target) -> Tensor:
            return rotated(v.view(1, 1, 5), target.view(1, 1, 5)).flatten()

        torch.testing.assert_close(turn(row), target)
        torch.testing.assert_close(torch.autograd.functional.jacobian(turn, row), matrix)


def test_rotation_stays_finite_where_it_is_not_defined() -> None:
    f = torch.tensor([[[0.0, 0.0], [1.0, 2.0], [1.0, 2.0]]], requires_grad=True)
    rotated(f, torch.tensor([[[1.0, 0.0], [-1.0, -2.0], [0.0, 0.0]]])).sum().backward()
    assert f.grad is not None
    assert f.grad.isfinite().all()


def test_cosine_distance_sees_directions_alone() -> None:
    torch.manual_seed(0)
    vq = plain(VQ(3, 3, codes=8, distance="cosine")).eval()
    f = torch.randn(2, 5, 3)
    code = encoded(vq, f)
    torch.testing.assert_close(code.z.norm(dim=-1), torch.ones(2, 5))
    cosine = F.normalize(f, dim=-1) @ F.normalize(vq.codebook, dim=-1).T
    assert torch.equal(code.symbols[..., 0], cosine.argmax(-1))
    assert torch.equal(encoded(vq, 100 * f).symbols, code.symbols)
    torch.testing.assert_close(code.costs["commitment"], (2 - 2 * cosine.max(-1).values).sum(1))


def test_fsq_is_the_loop_over_its_dimensions() -> None:
    torch.manual_seed(0)
    levels = (8, 5, 2, 3)
    fsq = plain(FSQ(4, 4, levels)).eval()
    h = 3 * torch.randn(2, 50, 4, requires_grad=True)
    h.retain_grad()
    code = encoded(fsq, h)
    z, rest = code.z.detach(), code.symbols[..., 0]
    for d, count in enumerate(levels):
        grid = [-1 + 2 * k / (count - 1) for k in range(count)]
        chosen, rest = rest % count, rest // count
        columns = (part.flatten().tolist() for part in (h[..., d], chosen, z[..., d]))
        for value, symbol, level in zip(*columns, strict=True):
            distance = [abs(np.tanh(value) - one) for one in grid]
            assert distance[symbol] == pytest.approx(min(distance), abs=1e-6)
            assert level == pytest.approx(grid[symbol], abs=1e-6)
        assert set(chosen.flatten().tolist()) == set(range(count))
    assert not rest.any()
    code.z.sum().backward()
    torch.testing.assert_close(h.grad, 1 - h.detach().tanh().square())
    assert code.costs == {}


def test_residual_stages_each_lower_the_error() -> None:
    torch.manual_seed(0)
    rvq = plain(RVQ(6, 6, codes=16, stages=4))
    trained(rvq, lambda: torch.randn(8, 64, 6), 30)
    f = torch.randn(4, 100, 6)
    code = encoded(rvq, f)
    symbols = code.symbols
    partial = [rvq.from_symbols(symbols[..., :k]) for k in range(1, 5)]
    errors = [(f - z).square().sum((1, 2)) for z in partial]
    means = [1.0, *(float(error.sum() / f.square().sum()) for error in errors)]
    assert all(later < 0.8 * earlier for earlier, later in itertools.pairwise(means))
    torch.testing.assert_close(code.costs["commitment"], torch.stack(errors).sum(0))
    left = f
    for stage in range(4):  # every stage takes the nearest of what is left
        codes = rvq.codebook[16 * stage : 16 * (stage + 1)]
        assert torch.equal(symbols[..., stage], torch.cdist(left, codes.expand(4, -1, -1)).argmin(-1))
        left = left - codes[symbols[..., stage]]


def test_fewer_stages_are_decoded_while_training_alone() -> None:
    torch.manual_seed(0)
    rvq = plain(RVQ(3, 3, codes=8, stages=3, dropout=1.0)).train()
    f = torch.randn(40, 20, 3)
    rvq._start(f.flatten(0, 1))
    codebook = rvq.codebook.clone()
    code = encoded(rvq, f, noise=True)
    rvq.codebook.copy_(codebook)
    partial = torch.stack([rvq.from_symbols(code.symbols[..., :k]) for k in (1, 2, 3)])
    apart = (partial - code.z.detach()).abs().flatten(2).amax(2)
    assert float(apart.min(0).values.max()) < 1e-5
    assert set(apart.argmin(0).tolist()) == {0, 1, 2}
    code = encoded(rvq.eval(), f, noise=True)
    assert same_bits(code.z, rvq.from_symbols(code.symbols))


def test_uniform_rate_is_the_length_of_the_symbols() -> None:
    torch.manual_seed(0)
    uniform = plain(Uniform(3, 3, reach=20)).eval()
    scales = torch.tensor([0.1, 0.8, 2.0])
    f = torch.randn(50, 400, 3) * scales
    optimizer = torch.optim.Adam([*uniform.prior.parameters()], 0.01)
    for _ in range(200):  # the prior alone learns
        optimizer.zero_grad()
        uniform.train()
        encoded(uniform, f[torch.randint(50, (8,))], noise=True).costs["rate"].mean().backward()
        optimizer.step()
    uniform.eval()
    code = encoded(uniform, f)
    pmf = uniform.pmf()
    nats = torch.stack([-pmf[d].log()[code.symbols[..., d]] for d in range(3)]).sum(0).sum(1)
    torch.testing.assert_close(code.costs["rate"], nats, rtol=1e-4, atol=1e-2)
    entropy = 400 * np.log(2) * uniform.health(code).measures["bits"]
    assert float(nats.mean()) == pytest.approx(entropy, rel=0.03)
    uniform.train()
    relaxed = encoded(uniform, f, noise=True).costs["rate"].detach()
    assert float(relaxed.mean()) == pytest.approx(float(nats.mean()), rel=0.05)
    torch.testing.assert_close(code.z, (f / 0.25).round().clamp(-20, 20) * 0.25)


def test_uniform_noise_is_a_box_of_one_step() -> None:
    torch.manual_seed(0)
    uniform = plain(Uniform(2, 2, relaxation="noise")).train()
    f = torch.zeros(1, 20000, 2)
    z = encoded(uniform, f, noise=True).z.detach()
    assert float(z.abs().max()) <= 0.125 + 1e-6
    torch.testing.assert_close(z.std(1)[0], torch.full((2,), 0.25 / 12**0.5), rtol=0.03, atol=0)


def test_uniform_steps_learn_from_the_rounding_error() -> None:
    torch.manual_seed(0)
    uniform = plain(Uniform(2, 2)).eval()
    f = torch.randn(1, 6, 2)
    weights = torch.randn(1, 6, 2)
    (encoded(uniform, f).z * weights).sum().backward()
    u = f / 0.25
    torch.testing.assert_close(uniform.log_step.grad, (weights * (u.round() - u) * 0.25).sum((0, 1)))


def test_prior_is_a_mixture_of_logistics() -> None:
    torch.manual_seed(0)
    prior = Prior(2)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(torch.randn_like(parameter) / PACE)
    u = torch.linspace(-9, 9, 37).repeat(2, 1).T

    def cdf(values: Tensor) -> Tensor:
        weight, place, width = (PACE * part.double() for part in (prior.weight, prior.place, prior.width))
        return (weight.softmax(-1) * ((values.double()[..., None] - place) / width.exp()).sigmoid()).sum(-1)

    torch.testing.assert_close(prior(u).exp(), (cdf(u + 0.5) - cdf(u - 0.5)).float(), rtol=1e-4, atol=1e-6)
    assert log_between(torch.tensor([-300.0, 299.0]), torch.tensor([-299.0, 300.0])).isfinite().all()
