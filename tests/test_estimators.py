"""The estimators keep scikit-learn's contract, and do what their pages say."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from apercu import api
from apercu.errors import ApercuError
from apercu.estimators import AutoencoderClassifier, AutoencoderTransformer

Rows = NDArray[np.float64]
SHORT: dict[str, Any] = {"epochs": 20, "dim": 8, "learning_rate": 0.02, "random_state": 0, "device": "cpu"}
ONCE: dict[str, Any] = SHORT | {"epochs": 1}


@parametrize_with_checks([AutoencoderTransformer(**SHORT), AutoencoderClassifier(**SHORT)])
def test_scikit_learn_contract(
    estimator: BaseEstimator, check: Callable[[BaseEstimator], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")  # without it scikit-learn skips one of its checks
    check(estimator)


@pytest.fixture(scope="module")
def rows() -> tuple[Rows, NDArray[np.int64]]:
    """900 digits, (900, 64) with values 0 to 16, and what they are."""
    x, y = load_digits(return_X_y=True)
    return x[:900], y[:900]


@pytest.fixture(scope="module")
def vae(rows: tuple[Rows, NDArray[np.int64]]) -> AutoencoderTransformer:
    return AutoencoderTransformer(**SHORT).fit(rows[0][:600])


@pytest.mark.parametrize("image_shape", [None, (8, 8)])
def test_few_labels_are_enough_to_beat_chance(
    rows: tuple[Rows, NDArray[np.int64]], image_shape: tuple[int, int] | None
) -> None:
    x, y = rows
    known = np.where(np.arange(600) < 60, y[:600], -1)
    settings = SHORT | {"learning_rate": 0.005, "image_shape": image_shape, "width": None if image_shape is None else 8}
    classifier = AutoencoderClassifier(**settings).fit(x[:600], known)
    assert classifier.classes_.tolist() == list(range(10))
    assert classifier.score(x[600:], y[600:]) > 0.45
    assert classifier.transform(x[600:]).shape == (300, 8)
    assert classifier.score_samples(x[600:]).shape == (300,)


def test_mostly_labelled_rows_are_all_used(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    x, y = rows
    known = np.where(np.arange(600) < 590, y[:600], -1)
    assert AutoencoderClassifier(**SHORT).fit(x[:600], known).score(x[600:], y[600:]) > 0.7


def test_unlabelled_rows_are_learnt_from(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    x, y = rows
    with_them = AutoencoderClassifier(**SHORT).fit(x[:300], np.where(np.arange(300) < 60, y[:300], -1))
    without = AutoencoderClassifier(**SHORT).fit(x[:60], y[:60])
    assert with_them.score_samples(x[600:]).mean() > without.score_samples(x[600:]).mean()


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([-1, 3, 7], [3, 7]),
        ([-1.0, 0.0, 2.0], [0, 2]),
        (["-1", "cat", "dog"], ["cat", "dog"]),
        ([-1, "cat", "dog"], ["cat", "dog"]),
        (np.array([-1, "cat", "dog"], dtype=object), ["cat", "dog"]),
        (np.array(["cat", -1, "dog"], dtype=object), ["cat", "dog"]),
        ([-1, 1, 1], [-1, 1]),
        ([False, True, True], [False, True]),
    ],
)
def test_minus_one_is_unknown_unless_it_is_half_of_a_binary_target(labels: Any, classes: list[Any]) -> None:  # noqa: ANN401
    x = np.random.default_rng(0).random((30, 5))
    y = [labels[i % 3] for i in range(30)]
    classifier = AutoencoderClassifier(**ONCE).fit(x, y)
    assert classifier.classes_.tolist() == classes
    assert set(classifier.predict(x).tolist()) <= set(classes)
    assert classifier.predict_proba(x).sum(1) == pytest.approx(1)


@pytest.mark.parametrize(
    ("preset", "epochs", "learning_rate"), [("ae", 20, 0.02), ("cae", 100, 2e-3), ("vae", 20, 0.02)]
)
def test_codes_are_decoded_to_rows_in_the_range_of_the_training_data(
    preset: str, epochs: int, learning_rate: float, rows: tuple[Rows, NDArray[np.int64]]
) -> None:
    x = rows[0] - 100
    settings = SHORT | {"epochs": epochs, "learning_rate": learning_rate}
    transformer = AutoencoderTransformer(preset, **settings).fit(x[:600])
    codes = transformer.transform(x[600:])
    decoded = transformer.inverse_transform(codes)
    assert codes.shape == (300, 8)
    assert decoded.shape == (300, 64)
    assert decoded.min() >= transformer.data_min_ == -100
    assert decoded.max() <= transformer.data_max_ == -84
    assert ((decoded - x[600:]) ** 2).mean() < 0.9 * x[600:].var(0).mean()


def test_vqvae_reads_images(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    settings = ONCE | {"preset": "vqvae", "image_shape": (8, 8), "width": 8, "settings": {"codes": 16}}
    transformer = AutoencoderTransformer(**settings)
    codes = transformer.fit_transform(rows[0])
    assert codes.shape == (900, 2 * 2 * 8)
    assert len(transformer.get_feature_names_out()) == 32
    with pytest.raises(ApercuError, match=r"codes of this model have shape \(B, 4, 8\)"):
        transformer.inverse_transform(codes)


def test_rows_like_the_training_data_score_higher_than_noise(
    vae: AutoencoderTransformer, rows: tuple[Rows, NDArray[np.int64]]
) -> None:
    unseen = rows[0][600:]
    noise = np.random.default_rng(0).permuted(unseen, axis=1)
    expected, odd = vae.score_samples(unseen), vae.score_samples(noise)
    assert (expected[:, None] > odd[None]).mean() > 0.99
    assert vae.score(unseen) == pytest.approx(expected.mean())


def test_answers_depend_neither_on_order_nor_on_copies(
    vae: AutoencoderTransformer, rows: tuple[Rows, NDArray[np.int64]]
) -> None:
    some = np.vstack([rows[0][:33], rows[0][:7]])
    order = np.random.default_rng(0).permutation(40)
    for method in (vae.transform, vae.score_samples):
        answers = method(some)
        np.testing.assert_array_equal(method(some[order]), answers[order])
        np.testing.assert_array_equal(answers[33:], answers[:7])
        np.testing.assert_array_equal(method(some), answers)


def test_values_outside_the_range_are_clipped(vae: AutoencoderTransformer) -> None:
    inside, outside = np.full((1, 64), 16.0), np.full((1, 64), 1e30)
    np.testing.assert_array_equal(vae.transform(outside), vae.transform(inside))


def test_integers_and_floats_of_the_same_value_are_the_same(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    x = rows[0][:100]
    codes = [AutoencoderTransformer(**ONCE).fit_transform(x.astype(t)) for t in (np.uint8, np.int64, float, np.float32)]
    for other in codes[1:]:
        np.testing.assert_array_equal(other, codes[0])


def test_constant_rows_are_kept() -> None:
    transformer = AutoencoderTransformer(**ONCE).fit(np.full((5, 4), 7.0))
    assert (transformer.inverse_transform(np.zeros((2, 8))) == 7).all()


def test_random_state_decides_everything_and_the_global_generator_is_left_alone(
    rows: tuple[Rows, NDArray[np.int64]],
) -> None:
    x = rows[0][:100]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    same = [AutoencoderTransformer(**ONCE).fit_transform(x) for _ in range(2)]
    state = np.random.RandomState(0)
    other = [AutoencoderTransformer(**ONCE | {"random_state": state}).fit_transform(x) for _ in range(2)]
    np.testing.assert_array_equal(same[0], same[1])
    np.testing.assert_array_equal(same[0], other[0])
    assert not np.array_equal(other[0], other[1])
    assert torch.equal(torch.get_rng_state(), before)


def test_pickled_and_copied_estimators_answer_alike(
    vae: AutoencoderTransformer, rows: tuple[Rows, NDArray[np.int64]]
) -> None:
    x = rows[0][:20]
    for twin in (pickle.loads(pickle.dumps(vae)), copy.deepcopy(vae)):  # noqa: S301
        np.testing.assert_array_equal(twin.transform(x), vae.transform(x))
    assert not hasattr(clone(vae), "model_")


def test_the_model_can_be_saved_and_opened(rows: tuple[Rows, NDArray[np.int64]], tmp_path: Path) -> None:
    x, y = rows
    settings = ONCE | {"epochs": np.int64(1), "dim": np.int64(4), "image_shape": np.array([8, 8]), "width": 8}
    classifier = AutoencoderClassifier(**settings, encoder="conv").fit(x[:100], y[:100])
    model = api.load(classifier.model_.save(tmp_path / "model"), "cpu")
    images = (x[:10] / 16).reshape(-1, 8, 8).astype(np.float32)
    assert model.classes == tuple("0123456789")
    np.testing.assert_allclose(model.probabilities(images), classifier.predict_proba(x[:10]), atol=1e-6)
    np.testing.assert_allclose(model.encode(images)[:, 0], classifier.transform(x[:10]), atol=1e-6)


def test_codes_stand_in_a_pipeline(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    x, y = rows
    pipeline = make_pipeline(AutoencoderTransformer("ae", **SHORT), StandardScaler(), LogisticRegression())
    assert pipeline.fit(x[:600], y[:600]).score(x[600:], y[600:]) > 0.7
    names = pipeline[0].get_feature_names_out()
    assert names.tolist() == [f"autoencodertransformer{i}" for i in range(8)]


def test_a_grid_is_searched(rows: tuple[Rows, NDArray[np.int64]]) -> None:
    x, y = rows
    grid = {"dim": [2, 16], "settings": [{"free_bits": 0.01}]}
    search = GridSearchCV(AutoencoderClassifier(**SHORT), grid, cv=2).fit(x[:200], y[:200])
    assert search.best_params_["dim"] == 16
    codes = GridSearchCV(AutoencoderTransformer(**ONCE), {"beta": [0.5, 1.0]}, cv=2).fit(x[:100])
    assert np.isfinite(codes.best_score_)


def test_fitting_says_nothing(rows: tuple[Rows, NDArray[np.int64]], capfd: pytest.CaptureFixture[str]) -> None:
    AutoencoderClassifier(**ONCE, encoder="conv", width=4, image_shape=(1, 8, 8)).fit(rows[0][:50], rows[1][:50])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"preset": "vae_cnn"}, "use AutoencoderClassifier"),
        ({"preset": "vqvae"}, "give image_shape"),
        ({"preset": "mae"}, "give image_shape"),
        ({"preset": "unheard"}, "choose one of: ae, cae, vae"),
        ({"image_shape": (8, 9)}, r"rows of 64 features; give \(height, width\)"),
        ({"image_shape": 64}, r"give \(height, width\)"),
        ({"image_shape": (1, 1, 8, 8)}, r"give \(height, width\)"),
        ({"encoder": "unheard"}, "choose one of: dense, conv"),
        ({"epochs": 0}, "epochs must be a whole number"),
        ({"learning_rate": -1.0}, "learning_rate must be a positive number"),
        ({"device": "unheard"}, "choose auto or one of"),
    ],
)
def test_mistakes_are_answered_with_advice(
    settings: dict[str, Any], advice: str, rows: tuple[Rows, NDArray[np.int64]]
) -> None:
    with pytest.raises(ApercuError, match=advice):
        AutoencoderTransformer(**ONCE | settings).fit(rows[0][:20])


@pytest.mark.parametrize(("labels", "found"), [([-1, -1], "0 class"), ([-1, 0], "1 class"), ([2, 2], "1 class")])
def test_one_class_is_not_enough(labels: list[int], found: str) -> None:
    with pytest.raises(ApercuError, match=f"y holds {found} besides −1"):
        AutoencoderClassifier().fit(np.eye(10), labels * 5)


def test_codes_of_another_length_are_refused(vae: AutoencoderTransformer) -> None:
    with pytest.raises(ApercuError, match="codes of this model"):
        vae.inverse_transform(np.zeros((2, 9)))
