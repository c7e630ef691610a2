"""Coordinates: their order, what moving them draws, and measures of disentanglement against what is known."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.api import Model
from apercu.bottlenecks.gaussian import kl_per_dimension
from apercu.data.open import Images
from apercu.errors import ApercuError
from apercu.explain.coordinates import STEPS, plane, traversals
from apercu.explain.disentanglement import Factor, dci, gaps, mutual_information, turned
from apercu.sheet import NARROWEST
from apercu.tasks.generate import on_the_way
from apercu.tasks.latent import Latent
from apercu.training import Training
from tests.commands import run

SMALL = Training(epochs=3, batch=128, device="cpu", precision="32", validations=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("latent") / "model"
    settings = {"dim": 2, "encoder": "dense", "width": 16}
    apercu.fit("sklearn:digits", preset="vae", settings=settings, training=SMALL, out=path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return apercu.load(folder, "cpu")


def test_a_traversal_moves_one_coordinate_and_passes_through_the_code() -> None:
    code, reach = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 4.0])
    moved = traversals(code, [2, 0], reach)
    assert moved.shape == (2, STEPS, 1, 3)
    torch.testing.assert_close(moved[:, STEPS // 2, 0], code.expand(2, 3))
    assert moved[0, [0, -1], 0].tolist() == [[1, 2, -1], [1, 2, 7]]
    assert (moved[1, :, 0, 1:] == code[1:]).all()


def test_the_plane_holds_the_middle_of_the_prior() -> None:
    codes = plane(15)
    assert codes.shape == (225, 1, 2)
    assert np.abs(codes).max() == pytest.approx(1.96, abs=1e-2)
    assert codes[0, 0, 0] < 0 < codes[0, 0, 1]  # the first image is at the upper left
    np.testing.assert_allclose(codes[112], 0, atol=1e-6)


def test_coordinates_come_in_the_order_of_their_divergence(model: Model, digits: Images, tmp_path: Path) -> None:
    result = Latent(model, n=2)(digits.test, tmp_path)
    held = [row["kl"] for row in result["coordinates"]]
    assert held == sorted(held, reverse=True)
    code = torch.from_numpy(model.encode(digits.test))
    scale = torch.cat([output.code.scale for _, output in model.outputs(digits.test, decode=False)])
    expected = kl_per_dimension(code, scale).mean((0, 1))
    assert [row["kl"] for row in result["coordinates"]] == pytest.approx(expected.sort(descending=True).values.tolist())
    assert all(row["effect"] > 0 for row in result["coordinates"])
    assert set(result["sheets"]) == {path.name for path in tmp_path.glob("*.png")}
    assert {"traversals.png", "manifold.png", "between.png"} < set(result["sheets"])
    assert len(result["sheets"]) == 3 + 2
    with Image.open(tmp_path / "between.png") as sheet:
        width, height = sheet.size
    assert width >= STEPS * NARROWEST
    assert height < width


def test_without_images_its_own_are_taken_and_where_they_are_gone_what_it_draws(folder: Path) -> None:
    said = run("latent", folder, "--json", "--device", "cpu")
    assert said.status == 0, said.err
    assert {"coordinate", "kl", "effect"} == set(said.answer["coordinates"][0])
    model = apercu.load(folder, "cpu")
    model.recipe.data["origin"] = "nowhere"
    rows = Latent(model)(None)["coordinates"]
    assert [row["effect"] for row in rows] == sorted((row["effect"] for row in rows), reverse=True)
    assert "kl" not in rows[0]


def test_a_code_that_is_a_map_has_only_ways_between_images(digits: Images, tmp_path: Path) -> None:
    settings = {"dim": 2, "codes": 8, "width": 4, "depth": 1}
    training = Training(epochs=1, batch=256, device="cpu", precision="32", validations=1)
    model = apercu.fit(digits, preset="vqvae", settings=settings, training=training)
    with pytest.raises(ApercuError, match="name images"):
        Latent(model)(None)
    result = Latent(model)(digits.test.subset(np.arange(4)), tmp_path)
    assert result["coordinates"] == []
    assert result["sheets"] == ["between.png"]


def test_a_way_ends_at_both_images_and_stays_as_far_from_the_middle() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 1, 50)).astype(np.float32)
    for spherical in (True, False):
        way = on_the_way(a, b, 7, spherical)
        np.testing.assert_allclose(way[[0, -1]], [a, b], atol=1e-5)
    norms = np.linalg.norm(on_the_way(a, b, 7, True), axis=(1, 2))
    assert norms.min() > 0.9 * min(norms[0], norms[-1])
    np.testing.assert_allclose(on_the_way(a, -a, 3, True)[1], 0, atol=1e-5)  # no way along the sphere is the shortest


def test_mutual_information_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import mutual_info_score

    rng = np.random.default_rng(0)
    a = rng.integers(0, 7, 500)
    b = (a + rng.integers(0, 3, 500)) % 7
    assert mutual_information(a, b) == pytest.approx(mutual_info_score(a, b))


@pytest.fixture(scope="module")
def known() -> tuple[np.ndarray, dict[str, Factor]]:
    """Codes of which the first number is one factor and the second another; the third is noise."""
    rng = np.random.default_rng(0)
    kind, size = rng.integers(0, 4, 600), rng.normal(size=600)
    codes = np.stack([kind + rng.normal(0, 0.02, 600), 2 * size, rng.normal(size=600)], 1)
    return codes, {"kind": Factor(kind, False), "size": Factor(size, True)}


def test_coordinates_that_stand_for_one_thing_each_are_told_from_mixed_ones(
    known: tuple[np.ndarray, dict[str, Factor]],
) -> None:
    codes, factors = known
    clean, mixed = gaps(codes, factors), gaps(turned(codes, 0), factors)
    assert min(clean.values()) > 0.7
    assert max(mixed.values()) < 0.4
    apart, together = dci(codes, factors, 0), dci(turned(codes, 0), factors, 0)
    assert apart["disentanglement"] > together["disentanglement"] + 0.2
    assert apart["completeness"] > together["completeness"] + 0.2
    assert min(apart["informativeness"].values()) > 0.95
    one = dci(codes, {"kind": factors["kind"]}, 0)
    assert one["disentanglement"] is None


def test_factors_are_classes_and_the_columns_of_a_file(folder: Path, digits: Images, tmp_path: Path) -> None:
    path = tmp_path / "factors.csv"
    test = digits.test
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "ink", "half"])
        for i, name in enumerate(test.ids):
            pixels = test.read([i])
            writer.writerow(
                [name, pixels.mean(), "upper" if pixels[..., :4, :].sum() > pixels[..., 4:, :].sum() else "lower"]
            )
    said = run("evaluate", "latent", folder, "sklearn:digits", "--json", "--device", "cpu", "-s", f"factors={path}")
    assert said.status == 0, said.err
    measured = said.answer
    assert measured["factors"] == ["class", "ink", "half"]
    assert measured["n"] == len(test)
    assert set(measured["mig_of_each"]) == set(measured["informativeness"]) == set(measured["factors"])
    assert 0 <= measured["disentanglement"] <= 1


@pytest.mark.parametrize(
    ("text", "advice"),
    [("", "no file"), ("ink,half\n1,2\n", "column of paths"), ("path,ink\nother.png,2\n", "none of these images")],
)
def test_factors_that_say_nothing(folder: Path, tmp_path: Path, text: str, advice: str) -> None:
    path = tmp_path / "factors.csv"
    if text:
        path.write_text(text, encoding="utf-8")
    said = run("evaluate", "latent", folder, "sklearn:digits", "-s", f"factors={path}")
    assert said.status == 2
    assert advice in said.err


def test_nothing_is_known_to_vary_without_classes(model: Model, digits: Images) -> None:
    with pytest.raises(ApercuError, match="factors=FILE"):
        Latent(model).evaluate(digits.test.with_labels(np.full(len(digits.test), -1)))
    with pytest.raises(ApercuError, match="40 images"):
        Latent(model).evaluate(digits.test.subset(np.arange(20)))
    with pytest.raises(ApercuError, match="no images"):
        Latent(model)(digits.test.subset([]))
    with pytest.raises(ApercuError, match="n must be"):
        Latent(model, n=0)
