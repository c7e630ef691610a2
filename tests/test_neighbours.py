"""The method `neighbours`: labels spread to unlabelled images, kept with the model, and asked for of new ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import apercu
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError
from apercu.tasks.classify import Classify
from apercu.training import Training

FAST = Training(epochs=6, device="cpu", precision="32", validations=1)


@pytest.fixture(scope="module")
def digits() -> Images:
    return open_images("sklearn:digits")


@pytest.fixture(scope="module", params=["vae", "vqvae"])
def model(request: pytest.FixtureRequest, digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """One whose encoder sees all of an image at once, and one whose code is a map."""
    settings = {"width": 8, "dim": 8}
    out = tmp_path_factory.mktemp(request.param) / "model"
    return apercu.fit(digits, preset=request.param, settings=settings, training=FAST, out=out)


def few(images: ImageSet, each: int) -> ImageSet:
    """The first labels of every class; the others are hidden."""
    labels = np.full(len(images), -1)
    for c in range(len(images.classes)):
        labels[np.flatnonzero(images.labels == c)[:each]] = c
    return images.with_labels(labels)


def test_unlabelled_images_help(model: Model, digits: Images) -> None:
    learnt = few(digits.train, 3)
    told = Classify(model, method="neighbours").fit(learnt)
    assert (told["method"], told["labels"], told["images"]) == ("neighbours", 30, len(learnt))
    assert told["calibration"]["n"] == 30
    spread = Classify(model).evaluate(digits.test)["accuracy"]
    alone = Classify(model, method="neighbours")
    alone.fit(learnt.subset(np.flatnonzero(learnt.labels >= 0)))
    assert spread > alone.evaluate(digits.test)["accuracy"]


def test_it_answers_alike_after_it_was_opened_again(model: Model, digits: Images) -> None:
    fitted = Classify(model, method="neighbours")
    fitted.fit(few(digits.train, 5))
    assert model.folder is not None
    p = fitted.probabilities(digits.test)
    again = Classify(apercu.load(Path(model.folder))).probabilities(digits.test)
    np.testing.assert_allclose(again, p, atol=1e-5)
    np.testing.assert_allclose(again.sum(1), 1)
    assert np.isfinite(p).all()


def test_fewer_than_two_classes_are_refused(model: Model, digits: Images) -> None:
    with pytest.raises(ApercuError, match="at least two classes"):
        Classify(model, method="neighbours").fit(digits.train.subset(digits.train.labels == 3))
    with pytest.raises(ApercuError, match="at least two classes"):
        Classify(model, method="neighbours").fit(few(digits.train, 0))
