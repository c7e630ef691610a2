"""Honest baselines for recognition with few labels: what one gets without an autoencoder.

Each takes the training images, some of them labelled, and answers with predictions for the test images.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from apercu.data.batches import Batches, in_order
from apercu.data.images import ImageSet
from apercu.objective import Objective
from apercu.presets import build
from apercu.study import Drive, to_the_end
from apercu.train import train
from apercu.training import Training

Labels = NDArray[np.int64]


def flat(images: ImageSet) -> NDArray[np.float32]:
    """Pixels in a row, in [0, 1]: (N, C·H·W)."""
    return (images.read(np.arange(len(images))).reshape(len(images), -1) / images.spec.maximum).astype(np.float32)


def labelled(images: ImageSet) -> ImageSet:
    """Those whose label is known."""
    return images.subset(np.flatnonzero(images.labels >= 0))


def pixels_svm(train_images: ImageSet, test: ImageSet, seed: int) -> Labels:
    """Support vector machine (RBF) on the pixels of the labelled images."""
    known = labelled(train_images)
    return np.asarray(_svm().fit(flat(known), known.labels).predict(flat(test)))


def pca_svm(train_images: ImageSet, test: ImageSet, seed: int) -> Labels:
    """The same on 30 principal components of all images, labelled or not: the linear autoencoder."""
    from sklearn.decomposition import PCA

    known = labelled(train_images)
    everything = flat(train_images)
    pca = PCA(min(30, *everything.shape), whiten=False, random_state=seed).fit(everything)
    return np.asarray(_svm().fit(pca.transform(flat(known)), known.labels).predict(pca.transform(flat(test))))


def _svm() -> Any:  # noqa: ANN401
    from sklearn.svm import SVC

    return SVC(C=10.0, gamma="scale")


def cnn_on_labels(
    train_images: ImageSet,
    test: ImageSet,
    seed: int,
    steps: int = 500,
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    drive: Drive = to_the_end,
) -> Labels:
    """The encoder and label head of `vae_cnn`, trained on the labelled images alone, with the same views of them."""
    known = labelled(train_images)
    torch.manual_seed(seed)
    network = build("vae_cnn", known.spec, len(known.classes), settings or {})
    terms = network.objective.terms.items()
    network.objective = Objective({name: term for name, term in terms if name not in ("pixels", "kl")})
    size = min(64, len(known))
    epochs = max(1, round(steps / len(Batches(known, size, seed))))
    training = Training(epochs=epochs, batch=size, seed=seed, validations=1, device=device, precision="32")
    drive(train(network, known, known.subset([]), training))
    with torch.no_grad():
        answers = [network(batch, decode=False).heads["label"].argmax(1) for batch in in_order(test, 250)]
    return torch.cat(answers).numpy()


BASELINES: dict[str, Callable[[ImageSet, ImageSet, int], Labels]] = {
    "pixels + SVM": pixels_svm,
    "PCA + SVM": pca_svm,
    "the same CNN, labels alone": cnn_on_labels,
}
