"""The classifier of a model as a function that can be differentiated."""

from __future__ import annotations

from apercu.errors import ApercuError
from apercu.explain.decision import Decision, probe_head
from apercu.model import Autoencoder
from apercu.tasks.classify import Classify


def decision_of(classify: Classify) -> Decision:
    """What `classify` decides, and the decoder beside it.

    Raises:
        ApercuError: a model without a classifier, one that cannot draw, or a classifier without a gradient.
    """
    model = classify.model
    if model.network.backbone is not None:
        raise ApercuError(
            f"preset {model.recipe.preset} decodes features and no pixels, so it can draw nothing to explain with; "
            "train another for that, such as vae_cnn"
        )
    fitted = classify.classifier
    if isinstance(fitted, Autoencoder):
        return Decision(model.network, fitted, fitted.heads["label"], classify.classes, classify.temperature)
    known = tuple(classify.classes[k] for k in fitted.classes_)
    return Decision(model.network, model.network, probe_head(fitted, model.device), known, classify.temperature)
