"""Recognise: the class of every image, with its probability.

By the joint head of the model, by a probe on its frozen code (linear, SVM, MLP or k-nearest neighbours, chosen by
cross-validation), or by fine-tuning the encoder on the labels.

Example: apercu classify MODEL IMAGES -o predictions --learn LABELLED -s method=best
"""

from __future__ import annotations

import copy
import csv
import dataclasses
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from apercu import metrics, store
from apercu.api import Model
from apercu.checkpoint import write_atomically
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.heads import LabelHead, pooled_size
from apercu.model import Autoencoder
from apercu.objective import Objective, Term, label
from apercu.tasks import _probe
from apercu.tasks.base import Result, Task
from apercu.train import train
from apercu.training import Training

__all__ = ["Classify"]

Method = Literal["auto", "head", "best", "linear", "svm", "mlp", "knn", "finetune"]


class Classify(Task):
    """p(class | code).

    `method`: "head" is the joint one, "best" the best probe, "finetune" trains the encoder further with a new head;
    "auto" takes what was fitted last, else the joint head. `epochs`: of fine-tuning.
    """

    def __init__(self, model: Model, *, method: Method = "auto", epochs: int = 30, seed: int = 0) -> None:
        super().__init__(model)
        self.method, self.epochs, self.seed = method, epochs, seed
        self.fitted: Any = None

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that answers are given in."""
        return tuple(self.model.recipe.tasks.get("classify", {}).get("classes", self.model.classes))

    def fit(self, images: ImageSet) -> Result:
        """Fit a probe on the labelled images, or fine-tune the encoder; kept beside the model if that has a folder.

        Raises:
            ApercuError: labels of fewer than two classes.
        """
        labelled = images.subset(np.flatnonzero(images.labels >= 0))
        if self.method == "head":
            raise ApercuError("the joint head is trained with the model; choose another method to fit, such as best")
        if self.method == "finetune":
            result, name, data = self._finetune(labelled), "classify.safetensors", b""
            data = save_tensors({key: value.contiguous() for key, value in self.fitted.state_dict().items()})
        else:
            method = "best" if self.method == "auto" else self.method
            x = self.model.features(labelled) if len(labelled) else np.empty((0, 1), np.float32)
            self.fitted, chosen, scores = _probe.fit_probe(x, labelled.labels, method, self.seed)
            result, name, data = (
                {"method": chosen, "cross_validation": scores},
                "classify.skops",
                _probe.dump(self.fitted),
            )
        result |= {"labels": len(labelled), "classes": list(images.classes)}
        self.model.recipe.tasks["classify"] = result
        if self.model.folder is not None:
            store.add_file(self.model.recipe, self.model.folder, name, data)
        return result

    def probabilities(self, images: ImageSet) -> NDArray[np.float64]:
        """p(class | image), (B, classes).

        Raises:
            ApercuError: nothing was fitted and the model has no head.
        """
        done = self.model.recipe.tasks.get("classify")
        wants_head = self.method == "head" or (self.method == "auto" and done is None)
        if wants_head and "label" in self.model.network.heads:
            return self.model.probabilities(images).astype(np.float64)
        if done is None or self.method not in ("auto", "best", done["method"]):
            raise ApercuError(
                "this model has no classifier of that kind yet; fit one on labelled images with --learn IMAGES, "
                "or train with --preset vae_cnn"
            )
        fitted = self._restore(done["method"])
        if isinstance(fitted, Autoencoder):
            return Model(fitted, self.model.recipe, None, self.model.device).probabilities(images).astype(np.float64)
        known = fitted.predict_proba(self.model.features(images))
        full = np.zeros((len(images), len(self.classes)))
        full[:, fitted.classes_] = known
        return full

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """Label and probability of every image; with `out`, `predictions.csv` with the probability of every class."""
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to classify")
        p = self.probabilities(images)
        best = p.argmax(1)
        rows = [
            {"id": images.ids[i], "label": self.classes[k], "probability": float(p[i, k])} for i, k in enumerate(best)
        ]
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            text = io.StringIO()
            writer = csv.writer(text)
            writer.writerow(["id", "label", "probability", *self.classes])
            for row, values in zip(rows, p, strict=True):
                writer.writerow([row["id"], row["label"], *(f"{v:.6f}" for v in (row["probability"], *values))])
            write_atomically(out / "predictions.csv", text.getvalue().encode())
        return {"n": len(rows), "classes": list(self.classes), "predictions": rows}

    def evaluate(self, images: ImageSet) -> Result:
        """Accuracy, the same per class, and the confusion matrix, over the images whose label is known."""
        truth = self._known(images)
        labelled = images.subset(np.flatnonzero(truth >= 0))
        if len(labelled) == 0:
            raise ApercuError("none of these images has a label that the model knows; name labelled images")
        predicted = self.probabilities(labelled).argmax(1)
        return metrics.classification(truth[truth >= 0], predicted, self.classes)

    def _known(self, images: ImageSet) -> NDArray[np.int64]:
        """The images' labels as numbers of this task's classes, −1 where unknown: folders may list them otherwise."""
        number = {name: i for i, name in enumerate(self.classes)}
        table = np.array([number.get(name, -1) for name in images.classes] + [-1], dtype=np.int64)
        return table[images.labels]

    def _restore(self, method: str) -> Any:  # noqa: ANN401
        if self.fitted is None:
            folder = self.model.folder
            if folder is None:
                raise ApercuError(
                    "the classifier was fitted in another process and the model has no folder; fit it again"
                )
            name = "classify.safetensors" if method == "finetune" else "classify.skops"
            data = store.read_file(self.model.recipe, folder, name)
            if method == "finetune":
                self.fitted = self._with_new_head()
                self.fitted.load_state_dict(load_tensors(data))
            else:
                self.fitted = _probe.restore(data)
        return self.fitted

    def _with_new_head(self) -> Autoencoder:
        """The model with a fresh label head, trained by its labels alone."""
        network = copy.deepcopy(self.model.network)
        grid = network.grid(network.image.shape[1:])
        network.heads["label"] = LabelHead(pooled_size(network.bottleneck.dim, grid), len(self.classes))
        network.objective = Objective({"label": Term(label)})
        return network

    def _finetune(self, labelled: ImageSet) -> Result:
        if len(np.unique(labelled.labels)) < 2:
            raise ApercuError("fine-tuning needs labels of at least two classes; label more images")
        self.model.recipe.tasks["classify"] = {"classes": list(labelled.classes)}
        torch.manual_seed(self.seed)
        network = self._with_new_head()
        device = self.model.device
        settings = Training(epochs=self.epochs, batch=64, learning_rate=5e-4, seed=self.seed, device=device)
        for _ in train(network, labelled, labelled.subset([]), dataclasses.replace(settings, validations=1)):
            pass
        self.fitted = network
        return {"method": "finetune", "epochs": self.epochs}
