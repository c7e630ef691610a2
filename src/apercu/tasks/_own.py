"""The images that a model was trained on, for tasks that learn from them once it is there."""

from __future__ import annotations

from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.errors import ApercuError


def own_images(model: Model, split: str = "train") -> ImageSet | None:
    """The images of that split, if they are still there."""
    try:
        images = model.images(str(model.recipe.data["origin"]), split)
    except (ApercuError, KeyError):
        return None
    return images if len(images) else None
