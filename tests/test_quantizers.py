"""Every quantizer: symbols and back, probabilities, settings, the use of codes, and models of before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import apercu
from apercu.api import Model
from apercu.bottlenecks.base import Quantizer
from apercu.bottlenecks.fsq import FSQ
from apercu.bottlenecks.rvq import RVQ
from apercu.bottlenecks.uniform import Uniform
from apercu.bottlenecks.vq import VQ
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.presets import build, vqvae
from apercu.report.health import code_size, show_health
from apercu.report.look import look
from apercu.settings import parse_settings
from apercu.tasks.generate import Generate
from apercu.types import Batch, Code, ImageSpec
from tests.conftest import shapes
from tests.quantizing import encoded, plain, same_bits, trained

GOLDEN = Path(__file__).parent / "golden" / "vqvae-format-1"
SETTINGS: dict[str, dict[str, Any]] = {
    "vq": {"codes": 16},
    "vq, gradient codebook": {"codes": 16, "codebook": "gradient"},
    "vq, cosine": {"codes": 16, "distance": "cosine"},
    "vq, cosine, gradient codebook": {"codes": 16, "distance": "cosine", "codebook": "gradient"},
    "vq, rotation": {"codes": 16, "gradient": "rotation"},
    "rvq": {"quantizer": "rvq", "codes": 8, "stages": 3},
    "rvq, rotation": {"quantizer": "rvq", "codes": 8, "stages": 2, "gradient": "rotation"},
    "fsq": {"quantizer": "fsq", "levels": (5, 4, 2)},
    "uniform": {"quantizer": "uniform"},
}
SIZES = [(13, 9), (8, 21), (5, 5)]


@pytest.fixture(scope="module", params=SETTINGS)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """A tiny model of each quantizer, trained a little, written and read again."""
    folder = tmp_path_factory.mktemp("model")
    settings = SETTINGS[request.param] | {"width": 4, "dim": 4, "encoder": "conv"}
    training = apercu.Training(epochs=2, batch=20, device="cpu", precision="32")
    apercu.fit(shapes(60, 3)[0], preset="vqvae", settings=settings, training=training, out=folder)
    return apercu.load(folder, device="cpu")


def quantizer_of(model: Model) -> Quantizer:
    quantizer = model.network.bottleneck
    assert isinstance(quantizer, Quantizer)
    return quantizer


@pytest.mark.parametrize("size", SIZES)
def test_symbols_decode_to_the_same_bits(model: Model, size: tuple[int, int]) -> None:
    quantizer = quantizer_of(model)
    x = torch.rand(3, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        code = model.network.encode(x)
        symbols = code.symbols
        assert symbols is not None
        assert symbols.dtype == torch.int64
        assert symbols.shape == (*code.z.shape[:2], len(quantizer.alphabet))
        assert (symbols >= 0).all()
        assert (symbols < torch.tensor(quantizer.alphabet)).all()
        z = quantizer.from_symbols(symbols)
        assert same_bits(z, code.z)
        assert same_bits(quantizer.from_symbols(symbols[1:2, :1]), code.z[1:2, :1])
        read, drawn = (model.network.decode(part, code.grid, size).mean for part in (z, code.z))
    assert same_bits(read, drawn)


def test_probabilities_of_symbols_are_ready_for_a_coder(model: Model) -> None:
    quantizer = quantizer_of(model)
    pmf = quantizer.pmf()
    assert tuple(len(part) for part in pmf) == quantizer.alphabet
    for part in pmf:
        assert float(part.sum()) == pytest.approx(1.0, abs=1e-5)
        assert (part > 0).all()
        assert not part.requires_grad


def test_a_code_is_its_own_nearest(model: Model) -> None:
    quantizer = quantizer_of(model)
    with torch.no_grad():
        z = model.network.encode(torch.rand(4, 3, 12, 12)).z
        again = quantizer.quantise(z)
        if isinstance(quantizer, RVQ):  # greedy stages may find another sum that is as near
            assert (again - z).square().sum() <= z.square().sum()
        else:
            torch.testing.assert_close(again, z)


def test_gradient_reaches_every_parameter_while_training(model: Model) -> None:
    network = build("vqvae", model.recipe.image, 0, model.recipe.settings)
    x = torch.rand(6, 3, 16, 16)
    batch = Batch(x, torch.full((6,), -1), torch.arange(6))
    prices, output = network.price(batch)
    assert set(prices) == set(network.objective.terms)
    assert (output.code.symbols < torch.tensor(network.bottleneck.alphabet)).all()
    network.objective.total(prices).mean().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not idle


@pytest.mark.filterwarnings("ignore:.*duplicate.*")
def test_quantised_codes_are_drawn_and_reported(model: Model) -> None:
    quantizer, images = quantizer_of(model), open_images(shapes(60, 3)[0]).split("all")
    assert len(next(iter(Generate(model, count=3).draw(images).values()))) == 3
    looked = look(model, images)
    section = show_health(model, looked)
    assert len(looked.health.symbols) == len(quantizer.alphabet)
    assert "in use" in section.verdict
    assert "symbols" in code_size(model, looked).sentence


def test_evaluation_counts_nothing(model: Model) -> None:
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    with torch.no_grad():
        model.network.encode(torch.rand(2, 3, 16, 16), noise=True)
    assert all(torch.equal(before[name], value) for name, value in model.network.state_dict().items())


def test_what_is_not_a_number_stays_so_and_breaks_nothing(model: Model) -> None:
    quantizer = quantizer_of(model)
    with torch.no_grad():
        code = encoded(quantizer, torch.full((2, 3, quantizer.to_code.in_features), float("nan")))
    assert (code.symbols >= 0).all()
    assert (code.symbols < torch.tensor(quantizer.alphabet)).all()
    assert code.z.isnan().all()  # so that training can name the images


@pytest.mark.parametrize("levels", [(8, 1), (), 8, (2.5, 3), "5,5", (8,) * 6])
def test_levels_that_make_no_sense_are_named(levels: object) -> None:
    with pytest.raises(ApercuError, match="levels"):
        build("vqvae", ImageSpec(1, 8, 8), 0, {"quantizer": "fsq", "levels": levels})


def test_settings_of_quantizers() -> None:
    assert parse_settings(["levels=4,3", "quantizer=fsq"], vqvae) == {"levels": (4, 3), "quantizer": "fsq"}
    with pytest.raises(ApercuError, match="one for each"):
        FSQ(4, 3, (8, 5))
    with pytest.raises(ApercuError, match="vq, fsq, rvq, uniform"):
        build("vqvae", ImageSpec(1, 8, 8), 0, {"quantizer": "lattice"})
    with pytest.raises(ApercuError, match="stages"):
        build("vqvae", ImageSpec(1, 8, 8), 0, {"stages": 0})


@pytest.mark.parametrize("make", [lambda: VQ(8, 8, codes=64), lambda: VQ(8, 8, codes=64, distance="cosine")])
def test_codes_that_the_start_placed_badly_come_into_use(make: Callable[[], Quantizer]) -> None:
    torch.manual_seed(0)
    centres = 4 * torch.randn(16, 8)
    vq = plain(make()).train()
    with torch.no_grad():
        encoded(vq, 20 + 0.1 * torch.randn(4, 64, 8), noise=True)  # it starts far from all that comes later

    def batch() -> Tensor:
        return centres[torch.randint(16, (8, 64))] + torch.randn(8, 64, 8)

    before = vq.eval().health(encoded(vq, batch())).symbols[0].used
    trained(vq, batch, 150)
    health = vq.health(encoded(vq, torch.cat([batch() for _ in range(8)])))
    assert before < 0.5 * 64
    assert health.symbols[0].used >= 0.95 * 64
    assert health.measures["revived"] > 0
    assert health.warnings == []


def test_every_stage_of_a_residual_codebook_comes_into_use() -> None:
    torch.manual_seed(0)
    rvq = trained(plain(RVQ(4, 4, codes=32, stages=3)), lambda: torch.randn(8, 64, 4), 60)
    health = rvq.health(encoded(rvq, torch.randn(32, 64, 4)))
    assert all(use.used >= 0.95 * 32 for use in health.symbols)
    assert health.per_dimension == [use.bits for use in health.symbols]


def test_health_counts_each_position_and_says_what_to_do() -> None:
    rvq = RVQ(4, 4, codes=8, stages=2)
    symbols = torch.stack([torch.arange(64) % 8, torch.zeros(64, dtype=torch.long)], 1)[None]
    health = rvq.health(Code(torch.zeros(1, 64, 4), (8, 8), torch.zeros(1, 64, 4), symbols=symbols))
    assert [(use.used, use.dead) for use in health.symbols] == [(8, 0), (1, 7)]
    assert [use.bits for use in health.symbols] == pytest.approx([3.0, 0.0])
    assert [use.perplexity for use in health.symbols] == pytest.approx([8.0, 1.0])
    assert health.measures["perplexity"] == pytest.approx(8**0.5)
    assert health.measures["codebook_use"] == 9 / 16
    assert len(health.warnings) == 1
    assert "1 of 8 codes are in use at stage 2" in health.warnings[0]
    assert "moved" in health.warnings[0]
    fsq = plain(FSQ(2, 2, (8, 8))).eval()
    spread = torch.linspace(-3, 3, 60)
    few = fsq.health(encoded(fsq, torch.stack([spread, 0 * spread], 1)[None]))
    assert "8 of 64 combinations" in few.warnings[0]
    uniform = plain(Uniform(2, 2, reach=4)).eval()
    assert "collapsed" in uniform.health(encoded(uniform, torch.zeros(1, 60, 2))).warnings[0]
    assert "clamped" in uniform.health(encoded(uniform, 9 * torch.randn(1, 60, 2))).warnings[0]


@pytest.mark.parametrize("make", [VQ, RVQ, FSQ])
def test_symbols_are_counted_over_all_processes(
    make: Callable[[int, int], Quantizer], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    features = torch.randn(4, 64, 4)
    alone = plain(make(4, 4)).train()
    together = plain(make(4, 4)).train()
    together.load_state_dict(alone.state_dict())
    if hasattr(alone, "started"):
        alone.started.fill_(True)
        together.started.fill_(True)
    encoded(alone, features)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda value: value.mul_(2))  # the other saw the same
    encoded(together, features)
    start = torch.ones_like(alone.usage) * 0.99
    torch.testing.assert_close(together.usage - start, 2 * (alone.usage - start), rtol=1e-4, atol=1e-5)


def test_models_of_before_still_say_what_they_said() -> None:
    model = apercu.load(GOLDEN, device="cpu")
    expected = dict(np.load(GOLDEN / "expected.npz"))
    images: ImageSet = model.images(expected["x"])
    symbols = [output.code.symbols for _, output in model.outputs(images)]
    assert np.array_equal(np.concatenate(symbols), expected["symbols"])
    np.testing.assert_allclose(model.encode(expected["x"]), expected["code"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(model.price(expected["x"])["total"], expected["price"], rtol=1e-4)
    assert np.array_equal(model.reconstruct(expected["x"]), expected["reconstruction"])
