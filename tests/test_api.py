"""The Python interface: everything that is an image goes in, and mistakes are answered with advice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.api import Model, batch_size
from apercu.training import Training
from apercu.types import ImageSpec
from tests.conftest import shapes

FAST = Training(epochs=1, batch=32, device="cpu", precision="32")


@pytest.fixture(scope="module")
def model() -> Model:
    return apercu.fit(shapes(60), preset="vae_cnn", settings={"width": 8, "dim": 6}, training=FAST)


@pytest.fixture(scope="module")
def maps() -> Model:
    return apercu.fit(shapes(60, 3), preset="vqvae", settings={"width": 8, "dim": 4, "codes": 16}, training=FAST)


def test_arrays_tensors_pictures_paths_and_folders_mean_the_same(model: Model, tmp_path: Path) -> None:
    x = shapes(4, seed=3)[0]
    for i, image in enumerate(x):
        Image.fromarray(image[0]).save(tmp_path / f"{i}.png")
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    expected = model.encode(x)
    assert expected.shape == (4, 1, 6)
    for given in (
        x[:, 0],
        x.astype(np.int64),
        x.astype(np.float32),
        torch.from_numpy(x),
        [image[0] for image in x],
        [Image.fromarray(image[0]) for image in x],
        [str(path) for path in paths],
        tmp_path,
        str(tmp_path),
    ):
        np.testing.assert_allclose(model.encode(given), expected, atol=1e-6)
    np.testing.assert_allclose(model.encode(x[0, 0]), expected[:1], atol=1e-6)
    np.testing.assert_allclose(model.encode(paths[2]), expected[2:3], atol=1e-6)


def test_decode_undoes_encode_as_reconstruct_does(model: Model, maps: Model) -> None:
    for which, channels in ((model, 1), (maps, 3)):
        x = shapes(4, channels, seed=3)[0]
        assert np.array_equal(which.decode(which.encode(x)), which.reconstruct(x))
        assert which.reconstruct(x).dtype == np.uint8
        assert which.reconstruct(x).shape == x.shape


def test_maps_take_other_sizes_and_give_one_vector_each(maps: Model) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (h, w, 3)).astype(np.uint8) for h, w in [(20, 30), (16, 16), (21, 30), (20, 30)]]
    features = maps.features(pictures)
    assert features.shape == (4, maps.features(shapes(1, 3)[0]).shape[1])
    np.testing.assert_allclose(features[1], maps.features([pictures[1]])[0], atol=1e-5)
    assert maps.reconstruct(pictures[:1]).shape == (1, 3, 20, 30)
    assert len(maps.price(pictures)["total"]) == 4


def test_a_price_does_not_depend_on_the_images_beside_it(model: Model) -> None:
    x = shapes(6, seed=3)[0]
    together = model.price(x)
    np.testing.assert_allclose(together["total"][2:3], model.price(x[2:3])["total"], rtol=1e-4)
    np.testing.assert_allclose(together["total"], together["pixels"] + together["kl"], rtol=1e-4)
    assert np.array_equal(model.price(x, noise=True)["total"], model.price(x, noise=True)["total"])


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        (np.zeros((2, 3, 16, 16), np.uint8), "has 3 channels, this model was trained on 1; convert"),
        (np.zeros((2, 20, 16), np.uint8), "is 20×16, this model was trained on 16×16.*--size 16x16"),
        (np.full((2, 16, 16), 0.5), "multiply them by 255"),
        (np.full((2, 16, 16), 300), "from 0 to 255"),
        (np.full((2, 16, 16), np.nan), "from 0 to 255"),
        ("no such folder", "no file or folder"),
        (None, "NoneType"),
        ([], "no image"),
    ],
)
def test_images_of_another_kind_are_refused_with_advice(model: Model, given: object, advice: str) -> None:
    with pytest.raises(apercu.ApercuError, match=advice):
        model.encode(given)


def test_large_images_are_taken_a_few_at_a_time(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [batch_size(ImageSpec(3, side, side)) for side in (28, 224, 1024, 9000)] == [250, 106, 5, 1]
    x = shapes(7, seed=3)[0]
    expected, price = model.reconstruct(x), model.price(x)["total"]
    monkeypatch.setattr("apercu.api.VALUES", 2 * 16 * 16)
    sizes = [len(batch.y) for batch, _ in model.outputs(model.images(x))]
    assert sizes == [2, 2, 2, 1]
    assert np.abs(model.reconstruct(x).astype(int) - expected).max() <= 1
    np.testing.assert_allclose(model.price(x)["total"], price, rtol=1e-4)


def test_codes_of_another_shape_are_refused(model: Model) -> None:
    with pytest.raises(apercu.ApercuError, match=r"\(B, 1, 6\)"):
        model.decode(np.zeros((2, 1, 5), np.float32))


def test_images_are_treated_as_the_training_images_were(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 255, (18 + i % 3, 20, 3)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    model = apercu.fit(
        tmp_path, preset="ae", settings={"width": 8}, training=FAST, size="16x12", fit="resize", channels=1
    )
    assert model.recipe.image.shape == (1, 16, 12)
    assert model.encode(tmp_path).shape == (12, 1, 32)
    assert model.encode(np.zeros((1, 40, 30, 3), np.uint8)).shape == (1, 1, 32)


@pytest.mark.parametrize(
    ("call", "advice"),
    [
        ({"preset": "gan"}, "choose one of: ae, cae"),
        ({"settings": {"colour": 3}}, "no setting 'colour'; it has: dim"),
        ({"settings": {"dim": 0}}, "dim must be"),
        ({"settings": {"likelihood": "cauchy"}}, "choose one of: mse"),
        ({"labels": 1000}, "label"),
        ({"labels": "no.csv"}, r"no\.csv"),
    ],
)
def test_wishes_that_cannot_be_met_are_answered_before_training(call: dict[str, object], advice: str) -> None:
    with pytest.raises(apercu.ApercuError, match=advice):
        apercu.fit(shapes(40), **call)  # type: ignore[arg-type]


def test_without_classes_the_preset_is_vae() -> None:
    assert apercu.fit(shapes(40)[0], settings={"width": 8}, training=FAST).recipe.preset == "vae"
    with pytest.raises(apercu.ApercuError, match="--preset vae"):
        apercu.fit(shapes(40)[0], preset="vae_cnn")


def test_every_public_name_is_there() -> None:
    assert sorted(apercu.__all__) == apercu.__all__
    assert all(getattr(apercu, name) is not None for name in apercu.__all__)
    assert set(apercu.__all__) <= set(dir(apercu))


def test_two_passes_that_take_turns_leave_gradients_on(model: Model) -> None:
    images = model.images(shapes(4)[0])
    first, second = model.outputs(images), model.outputs(images)
    next(first), next(second)
    assert torch.is_grad_enabled()
    first.close(), second.close()
    assert torch.is_grad_enabled()
