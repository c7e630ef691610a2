"""Every score in the folder, on every kind of model: the contract, and the mathematics against a plain computation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import LedoitWolf

import apercu
from apercu import registry
from apercu.anomaly._codes import codes_of
from apercu.anomaly._drawn import drawn, smooth
from apercu.anomaly._stages import encoded, features, stages_of
from apercu.anomaly.bank import Bank, coreset
from apercu.anomaly.base import Score, peak
from apercu.anomaly.gradient import Gradient
from apercu.anomaly.layout import Layout
from apercu.anomaly.mahalanobis import Mahalanobis
from apercu.anomaly.neighbours import Neighbours
from apercu.anomaly.pca import PCA
from apercu.anomaly.price import Price
from apercu.anomaly.ssim import SSIM
from apercu.anomaly.surprise import Surprise
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.metrics import ssim
from apercu.tasks._choice import learn
from apercu.training import Training
from tests.conftest import shapes

SCORES = registry.names("anomaly")
SETTINGS: dict[str, dict[str, object]] = {
    "ae": {"width": 8, "dim": 4},
    "vae": {"width": 4, "dim": 4},
    "vqvae": {"width": 8, "dim": 4, "codes": 8},
    "mae": {"width": 16, "blocks": 1, "dim": 4},
    "dae": {"width": 8, "blocks": 1, "corruption": "defects", "mark": 1.0, "tile": 0},
}
PAIRS = {
    "ae": {"bank", "layout", "surprise", "repair", "marked"},
    "vae": {"surprise", "repair", "marked"},
    "vqvae": {"repair", "marked"},
    "mae": {"surprise", "repair", "marked"},
    "dae": {"surprise"},
}


@pytest.fixture(scope="module")
def squares() -> ImageSet:
    """Images of one class: squares on dark noise, 18×18."""
    x, y = shapes(120, side=18)
    return open_images(x[y == 0]).split("all")


@pytest.fixture(scope="module")
def models(squares: ImageSet) -> dict[str, Model]:
    pixels = squares.read(np.arange(len(squares)))
    training = Training(epochs=2, batch=30, device="cpu", precision="32", validations=1)
    return {name: apercu.fit(pixels, preset=name, settings=own, training=training) for name, own in SETTINGS.items()}


@pytest.fixture(autouse=True)
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apercu.anomaly.surprise.STEPS", 20)


def images_of(images: ImageSet, count: int) -> torch.Tensor:
    return torch.from_numpy(images.read(np.arange(count)).astype(np.float32) / 255)


def fitted(name: str, model: Model, images: ImageSet) -> Score:
    score: Score = registry.part("anomaly", name)(model)
    score.fit(images)
    return score


@pytest.mark.parametrize("preset", SETTINGS)
def test_what_a_model_lacks_is_said(preset: str, models: dict[str, Model]) -> None:
    lacking = {name: registry.part("anomaly", name).lacks(models[preset]) for name in SCORES}
    assert {name for name, reason in lacking.items() if reason} == PAIRS[preset]


@pytest.mark.parametrize("preset", SETTINGS)
@pytest.mark.parametrize("name", SCORES)
def test_every_score_keeps_the_contract(name: str, preset: str, models: dict[str, Model], squares: ImageSet) -> None:
    model, part = models[preset], registry.part("anomaly", name)
    if part.lacks(model):
        return
    score, x = fitted(name, model, squares), images_of(squares, 7)
    values, heat = score.score(x), score.map(x)
    assert values.shape == (7,)
    assert torch.isfinite(values).all()
    # What is said of an image does not depend on those beside it.
    torch.testing.assert_close(score.score(x[:1]), values[:1], rtol=1e-3, atol=1e-4)
    if heat is not None:
        assert heat.shape == (7, 18, 18)
        assert torch.isfinite(heat).all()
    again = part(model)
    again.restore(score.arrays())
    torch.testing.assert_close(again.score(x), values, rtol=1e-5, atol=1e-6)
    if name in (
        "bank",
        "layout",
        "price",
        "mean",
        "pca",
    ):  # what others make of a network of two epochs, nobody can say
        stripes = torch.where(torch.arange(18) % 2 == 0, 1.0, 0.0).expand(1, 1, 18, 18).contiguous()
        assert float(score.score(stripes)) > float(score.score(images_of(squares, 40)).median())


def test_a_blot_is_found_where_it_is(models: dict[str, Model], squares: ImageSet) -> None:
    x = images_of(squares, 8)
    spoilt = x.clone()
    spoilt[:, :, 12:16, 12:16] = 0.9
    score = fitted("bank", models["vqvae"], squares)
    change = score.map(spoilt) - score.map(x)  # type: ignore[operator]
    assert (change[:, 10:, 10:].mean((1, 2)) > 5 * change[:, :6, :6].abs().mean((1, 2))).all()


def test_the_price_is_the_models_own(models: dict[str, Model], squares: ImageSet) -> None:
    score, some = Price(models["vae"]), squares.subset(np.arange(9))
    expected = models["vae"].price(some)["total"] / some.spec.dimensions
    np.testing.assert_allclose(score.score(images_of(squares, 9)), expected, rtol=1e-4)


def test_codes_against_plain_computations(models: dict[str, Model], squares: ImageSet) -> None:
    model, x = models["vae"], images_of(squares, 5)
    distant, near = fitted("mahalanobis", model, squares), fitted("neighbours", model, squares)
    assert isinstance(distant, Mahalanobis)
    assert isinstance(near, Neighbours)
    codes, known = codes_of(near, x), near.codes
    expected = np.sort(np.linalg.norm(codes[:, None] - known[None], axis=2), axis=1)[:, :5].mean(1)
    np.testing.assert_allclose(near.score(x), expected, atol=1e-3)
    shrunk = LedoitWolf().fit(known.astype(np.float64))
    np.testing.assert_allclose(distant.score(x), np.sqrt(shrunk.mahalanobis(codes)), rtol=1e-3)


def test_the_bank_is_the_nearest_neighbour_of_every_cell(models: dict[str, Model], squares: ImageSet) -> None:
    model = models["vqvae"]
    bank = Bank(model)
    bank.fit(squares)
    x = images_of(squares, 3) * 0.5
    joined = torch.cat(features(model, x), 1)
    cells = joined.permute(0, 2, 3, 1).reshape(-1, joined.shape[1]) / bank.spread
    brute = torch.stack([(bank.kept - cell).norm(dim=1).min() for cell in cells]).view(3, *joined.shape[2:])
    assert brute.min() > 0
    torch.testing.assert_close(bank.map(x).mean((1, 2)), brute.mean((1, 2)), rtol=0.1, atol=0.05)
    assert len(stages_of(model)) == len(features(model, x)) >= 1


def test_the_layout_is_the_nearest_image_in_whitened_components(models: dict[str, Model], squares: ImageSet) -> None:
    model = models["vqvae"]
    layout = Layout(model)
    layout.fit(squares)
    count = len(layout.kept)
    assert count == len(squares)
    assert len(layout.components) == count // 2
    torch.testing.assert_close(layout.kept.var(0), torch.ones(count // 2), rtol=1e-2, atol=1e-2)
    known = images_of(squares, 6)
    assert layout.score(known).max() < 0.05  # an image that is kept lies nowhere but where it is
    x = 1 - known
    rows = torch.stack([(layout.kept - place).norm(dim=1).min() for place in layout._placed(layout._pooled(x))])
    torch.testing.assert_close(layout.score(x), rows, rtol=1e-3, atol=1e-3)
    assert rows.min() > 1


def test_images_of_any_size_have_a_layout(models: dict[str, Model]) -> None:
    rng = np.random.default_rng(0)
    images = open_images([rng.integers(0, 255, (1, n, n + 4), dtype=np.uint8) for n in (12, 40, 90, 33)]).split("all")
    layout = Layout(models["vqvae"])
    layout.fit(images)
    known = torch.cat([layout.score(x) for x in layout.batches(images)])
    assert known.abs().max() < 1e-3


def test_a_coreset_covers_as_the_greedy_one_does() -> None:
    rng = np.random.default_rng(0)
    points = torch.from_numpy(rng.normal(size=(200, 3)).astype(np.float32))
    chosen = coreset(points, 12, torch.Generator().manual_seed(0)).tolist()
    expected = chosen[:1]
    while len(expected) < 12:
        expected.append(int(torch.cdist(points, points[expected]).min(1).values.argmax()))
    assert chosen == expected
    twice = torch.cat([points[:5], points[:5]])
    assert len(coreset(twice, 10, torch.Generator().manual_seed(0))) == 5
    wide = torch.from_numpy(rng.normal(size=(300, 200)).astype(np.float32))
    assert len(set(coreset(wide, 40, torch.Generator().manual_seed(0)).tolist())) == 40


def test_bits_are_those_of_the_stream(models: dict[str, Model], squares: ImageSet) -> None:
    score = fitted("surprise", models["vqvae"], squares)
    assert isinstance(score, Surprise)
    symbols = score._symbols(images_of(squares, 30))
    bits = score.prior.bits(symbols)
    assert bits.shape == symbols.shape
    assert (bits >= 0).all()
    lengths = np.array([8 * len(stream) for stream in score.prior.encode(symbols)])
    difference = lengths - bits.sum((1, 2, 3))
    assert (abs(difference) < 16).all()  # zeros at the end of a stream are left out
    assert 0 < difference.mean() < 8


def test_ssim_is_that_of_the_measure(models: dict[str, Model], squares: ImageSet) -> None:
    x = images_of(squares, 4)
    inner = 1 - SSIM(models["vae"]).map(x)[:, 5:-5, 5:-5].mean((1, 2))
    np.testing.assert_allclose(inner, ssim(x, drawn(models["vae"], x)), atol=0.05)


def test_gradients_see_edges_and_not_brightness(
    models: dict[str, Model], squares: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = images_of(squares, 2) * 0.5
    score = Gradient(models["vae"])
    for change, low, high in ((lambda x: x + 0.2, -1e-6, 1e-4), (torch.zeros_like, 0.05, 1.0)):
        monkeypatch.setattr("apercu.anomaly.gradient.drawn", lambda model, x, change=change: change(x))
        assert low <= float(score.map(x).mean()) <= high


def test_a_masked_model_predicts_what_it_does_not_see(models: dict[str, Model], squares: ImageSet) -> None:
    model, x = models["mae"], images_of(squares, 2)
    patch = model.network.encoder.stride
    other = x.clone()
    other[:, :, :patch, :patch] = 1 - other[:, :, :patch, :patch]
    one, two = drawn(model, x), drawn(model, other)
    torch.testing.assert_close(one[:, :, :patch, :patch], two[:, :, :patch, :patch], rtol=1e-4, atol=1e-5)
    assert not torch.allclose(one, two, atol=1e-4)


def test_components_leave_nothing_of_what_they_span(models: dict[str, Model], squares: ImageSet) -> None:
    score = fitted("pca", models["ae"], squares)
    assert isinstance(score, PCA)
    basis = score.components[:2]
    inside = (score.mean + 0.3 * basis[0] - 0.2 * basis[1]).view(1, 1, 18, 18)
    assert float(score.score(inside)) < 1e-9
    assert float(score.score(images_of(squares, 1))) > 1e-6


def test_smoothing_keeps_the_mean_of_a_constant_and_spreads_a_point() -> None:
    torch.testing.assert_close(smooth(torch.full((1, 9, 30), 0.7), 2.0), torch.full((1, 9, 30), 0.7))
    point = torch.zeros(1, 31, 31)
    point[0, 15, 15] = 1
    spread = smooth(point, 2.0)[0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    rows = (spread.sum(1) * (torch.arange(31) - 15) ** 2).sum()
    assert float(rows) == pytest.approx(4, rel=0.05)
    assert smooth(torch.ones(2, 1, 1), 2.0).shape == (2, 1, 1)


def test_a_peak_is_the_mean_of_the_largest() -> None:
    maps = torch.arange(1000.0).view(1, 20, 50)
    assert float(peak(maps)) == 998.5
    assert float(peak(torch.tensor([[[3.0, 1.0]]]))) == 3


def test_what_a_batch_is_asked_for_is_made_once_and_not_for_another_model(
    models: dict[str, Model], squares: ImageSet
) -> None:
    first, second, x = models["vqvae"], models["vae"], images_of(squares, 3)
    again = drawn(first, x)
    assert drawn(first, x) is again
    assert encoded(first, x)[0] is encoded(first, x)[0]
    assert not torch.equal(drawn(second, x), again)
    assert drawn(first, x.clone()) is not again


def test_without_images_held_out_scores_are_measured_on_some_that_they_were_not_fitted_to(
    models: dict[str, Model], squares: ImageSet
) -> None:
    learnt = learn(models["vqvae"], "layout", squares, squares.subset([]), squares.subset([]), 0)
    assert learnt.about["held_out"] == 0  # they promise nothing all the same: the network has seen them
    assert len(learnt.known) == len(squares) // 3
    assert learnt.detector.members[0].scale.centre > 0.1
    few = learn(models["vqvae"], "layout", squares.subset([0, 1, 2]), squares.subset([]), squares.subset([]), 0)
    assert few.detector.members[0].scale.spread == 1  # of distances that are all zero
