"""The same models as scikit-learn estimators: rows of a table in, codes, classes and scores out.

codes = AutoencoderTransformer(dim=16).fit_transform(X)
classifier = AutoencoderClassifier(image_shape=(28, 28)).fit(X, y)   # y is −1 where unknown
classifier.model_.save("model")                                      # for apercu.load, and every task

X is scaled by the one smallest and the one largest value of the training data, so integers and standardised columns
are both fine; values outside that range are clipped to it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array, check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from apercu.api import Model, batch_size
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.data.pixels import Stack
from apercu.data.survey import digest
from apercu.errors import ApercuError
from apercu.fitting import fit
from apercu.training import Training
from apercu.types import ImageSpec

__all__ = ["AutoencoderClassifier", "AutoencoderTransformer"]

FLOATS = [np.float32, np.float64]
Array = NDArray[Any]
RandomState = int | np.random.RandomState | None


class _Estimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """What both estimators do once a preset and its settings are known."""

    def transform(self, X: ArrayLike) -> NDArray[np.float32]:
        """The codes of the rows, (n, k), without noise; maps of codes are averaged over at most 4×4 cells."""
        images, place = self._open(X)
        return self.model_.features(images)[place]

    def inverse_transform(self, X: ArrayLike) -> Array:
        """Decode codes (n, k) to rows (n, n_features_in_) in the range of the training data.

        Raises:
            ApercuError: codes of another length, or of a map ("vqvae", "mae"), which only `model_.decode` takes.
        """
        check_is_fitted(self)
        codes = check_array(X, dtype=np.float32)
        pixels = self.model_.decode(codes[:, None]).reshape(len(codes), -1)
        return self.data_min_ + (self.data_max_ - self.data_min_) * pixels

    def score_samples(self, X: ArrayLike) -> NDArray[np.float32]:
        """How expected every row is, (n,): minus its price in nats without its label, for X scaled to [0, 1].

        For a VAE this is the evidence lower bound (its KL term weighted by beta) with the code at its mean, so that
        it depends neither on noise nor on the other rows.
        """
        images, place = self._open(X)
        network = self.model_.network
        with torch.no_grad():
            prices = [
                network.objective.unlabelled(network.price(batch, noise=False)[0]).cpu()
                for batch in in_order(images, batch_size(images.spec), self.model_.device)
            ]
        return -torch.cat(prices).numpy()[place]

    def __sklearn_tags__(self) -> Any:  # noqa: ANN401
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags

    def __getstate__(self) -> dict[str, Any]:
        """A fitted model is pickled as its recipe and weights, which open on a machine without this device."""
        state: dict[str, Any] = super().__getstate__()
        if "model_" not in state:
            return state
        weights = {name: tensor.cpu() for name, tensor in self.model_.network.state_dict().items()}
        return state | {"model_": (self.model_.recipe, weights)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "model_" in state:
            recipe, weights = state["model_"]
            with torch.random.fork_rng():
                network = recipe.build()
            network.load_state_dict(weights)
            state = state | {"model_": Model(network, recipe, device=state["device"])}
        super().__setstate__(state)

    def _fit(self, X: Array, labels: Array, classes: Sequence[str], preset: str, lam: float | None) -> Self:
        """Train `preset` on the rows of X, (n, f), with labels (n,), −1 where unknown."""
        self.data_min_, self.data_max_ = float(X.min()), float(X.max())
        encoder = "dense" if self.encoder is None and self.image_shape is None else self.encoder
        named = {"dim": self.dim, "encoder": encoder, "width": self.width, "beta": self.beta, "lam": lam}
        if preset == "vae_cnn" and self.image_shape is None:
            named["augment"] = 0.0  # rows that are no images cannot be turned
        settings = {name: value for name, value in named.items() if value is not None} | (self.settings or {})
        training = Training(
            epochs=_plain(self.epochs),
            batch=_plain(self.batch_size),
            learning_rate=_plain(self.learning_rate),
            validations=1,  # no row is held out to measure on
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            device=self.device,
            precision="32",
        )
        images = self._images(X, self._shape(X.shape[1])).with_labels(labels, classes)
        none = images.subset([])
        with torch.random.fork_rng():
            self.model_ = fit(
                Images(images, none, none, [], [], "array"),
                preset=preset,
                settings={name: _plain(value) for name, value in settings.items()},
                training=training,
            )
        self._n_features_out = self.model_.features(images.subset([0])).shape[1]
        return self

    def _shape(self, features: int) -> tuple[int, int, int]:
        """(C, H, W) of rows with this many features."""
        shape = (1, features) if self.image_shape is None else tuple(np.ravel(self.image_shape).tolist())
        if len(shape) not in (2, 3) or math.prod(shape) != features:
            raise ApercuError(
                f"image_shape {self.image_shape} does not fit rows of {features} features; "
                f"give (height, width) or (channels, height, width) whose product is {features}"
            )
        channels, height, width = (1, *shape)[-3:]
        return channels, height, width

    def _images(self, X: Array, shape: tuple[int, int, int]) -> ImageSet:
        """Rows (n, f) as float images in [0, 1]."""
        size = self.data_max_ - self.data_min_ or 1.0
        scaled = (np.clip(X, self.data_min_, self.data_max_) - self.data_min_) / size
        pixels = scaled.astype(np.float32).reshape(-1, *shape)
        count = len(pixels)
        return ImageSet(
            spec=ImageSpec(*shape, maximum=1.0),
            ids=[f"row {i}" for i in range(count)],
            labels=np.full(count, -1),
            classes=(),
            sizes=np.tile(np.array(shape[1:]), (count, 1)),
            hashes=np.frombuffer(b"".join(map(digest, pixels)), np.uint8).reshape(-1, 16),
            pixels=Stack(pixels),
            rows=np.arange(count),
        )

    def _open(self, X: ArrayLike) -> tuple[ImageSet, NDArray[np.int64]]:
        """The distinct rows of X as the model sees them, and which of them every row is."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=FLOATS, reset=False)
        images = self._images(rows, self.model_.recipe.image.shape)
        # Rounding differs from place to place in a batch: in an order of their own, rows do not depend on the caller's.
        _, first, place = np.unique(images.hashes.view("V16")[:, 0], return_index=True, return_inverse=True)
        return images.subset(first), place


class AutoencoderTransformer(_Estimator):
    """Codes of an autoencoder, learnt from rows without labels.

    Parameters:
        preset: "ae", "cae", "vae", or one that needs `image_shape`: "vqvae" or "mae".
        dim: numbers in a code.
        encoder: "dense", "conv" or "residual"; None is "dense" for flat rows and the preset's own for images.
        width: units or channels of the first layer; None is the preset's own.
        beta: weight of the KL divergence of "vae"; None is the preset's own.
        epochs: passes over the rows.
        batch_size: rows in a step.
        learning_rate: its peak.
        image_shape: (H, W) or (C, H, W) of the image in every row; None for rows that are not images.
        random_state: seed of the first weights, the order and the noise.
        device: "auto", "cpu", "cuda" or "mps".
        settings: any other arguments of the preset, such as {"likelihood": "mse"}.

    Attributes:
        model_: the trained `apercu.Model`, which can be saved; `model_.recipe.metrics` holds what training warned of.
        data_min_, data_max_: the values that became 0 and 1.
        n_features_in_, feature_names_in_: as in every estimator.
    """

    def __init__(
        self,
        preset: str = "vae",
        *,
        dim: int = 32,
        encoder: str | None = None,
        width: int | None = None,
        beta: float | None = None,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        image_shape: Sequence[int] | None = None,
        random_state: RandomState = None,
        device: str = "auto",
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.preset, self.dim, self.encoder, self.width, self.beta = preset, dim, encoder, width, beta
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.image_shape, self.random_state, self.device, self.settings = image_shape, random_state, device, settings

    def fit(self, X: ArrayLike, y: object = None) -> Self:
        """Learn from X, (n, f); y is not looked at.

        Raises:
            ApercuError: a preset that needs labels or images, or an image_shape that does not fit.
        """
        if self.preset == "vae_cnn":
            raise ApercuError("preset vae_cnn learns from labels; use AutoencoderClassifier, or preset='vae'")
        if self.preset in ("vqvae", "mae") and self.image_shape is None:
            raise ApercuError(f"{self.preset} reads images; give image_shape=(height, width), or use preset='vae'")
        rows = validate_data(self, X, dtype=FLOATS)
        return self._fit(rows, np.full(len(rows), -1), (), self.preset, None)

    def score(self, X: ArrayLike, y: object = None) -> float:
        """The mean of `score_samples`; higher is better."""
        return float(self.score_samples(X).mean())


class AutoencoderClassifier(ClassifierMixin, _Estimator):  # type: ignore[misc]
    """A VAE and a classifier trained end to end, on rows of which only some are labelled.

    The label −1, or "-1" among strings, means unknown. Where −1 and 1 are the only values of y both are classes, as
    binary targets are often written: one class and the unknown would leave nothing to tell apart.

    Parameters:
        dim, encoder, width, beta, epochs, batch_size, learning_rate, image_shape, random_state, device, settings:
            as in `AutoencoderTransformer`, for preset "vae_cnn".
        lam: weight of the cross-entropy of the labelled rows; 0 takes one nat for each number in a row.

    Attributes:
        classes_: (classes,), the labels that are not unknown, sorted.
        model_, data_min_, data_max_, n_features_in_, feature_names_in_: as in `AutoencoderTransformer`.
    """

    def __init__(
        self,
        *,
        dim: int = 64,
        encoder: str | None = None,
        width: int | None = None,
        beta: float | None = None,
        lam: float = 0.0,
        epochs: int = 100,
        batch_size: int = 64,
        learning_rate: float = 2e-3,
        image_shape: Sequence[int] | None = None,
        random_state: RandomState = None,
        device: str = "auto",
        settings: dict[str, Any] | None = None,
    ) -> None:
        self.dim, self.encoder, self.width, self.beta, self.lam = dim, encoder, width, beta, lam
        self.epochs, self.batch_size, self.learning_rate = epochs, batch_size, learning_rate
        self.image_shape, self.random_state, self.device, self.settings = image_shape, random_state, device, settings

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Learn from X, (n, f), and y, (n,), −1 where the class is unknown.

        Raises:
            ApercuError: fewer than two classes, or an image_shape that does not fit.
            ValueError: y is continuous, or not one label for each row.
        """
        rows, given = validate_data(self, X, y, dtype=FLOATS)
        self.classes_, labels = _number(given)
        return self._fit(rows, labels, [str(name) for name in self.classes_.tolist()], "vae_cnn", self.lam)

    def predict_proba(self, X: ArrayLike) -> NDArray[np.float32]:
        """The probability of every class, (n, classes)."""
        images, place = self._open(X)
        return self.model_.probabilities(images)[place]

    def predict(self, X: ArrayLike) -> Array:
        """The most probable class, (n,)."""
        best = self.predict_proba(X).argmax(1)
        classes: Array = self.classes_[best]
        return classes


def _number(y: Array) -> tuple[Array, NDArray[np.int64]]:
    """The classes in y, and y as numbers of classes, −1 where unknown."""
    values = y.tolist()
    known = np.array([value not in (-1, "-1") for value in values]) | (set(values) == {-1, 1})
    check_classification_targets(y[known])
    classes, numbers = np.unique(y[known], return_inverse=True)
    if len(classes) < 2:
        raise ApercuError(f"y holds {len(classes)} class besides −1, the unknown; label rows of at least two classes")
    labels = np.full(len(y), -1)
    labels[known] = numbers
    return classes, labels


def _plain(value: Any) -> Any:  # noqa: ANN401 - a number out of a grid of NumPy's, as a recipe can hold it
    return value.item() if isinstance(value, np.generic) else value
