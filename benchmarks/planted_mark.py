"""A small mark decides the class: how much of the attribution lies inside the mark (floor 0.5, aim 0.8).

On MNIST and Fashion-MNIST a white square of 4×4 pixels, 2 % of the image, is drawn at the upper left in one class and
at the upper right in the other, moved by up to 2 pixels; what the image shows has no bearing on its class. The figure
is Σ |a| inside the mark and one pixel around it, over Σ |a|, the mean over test images. The share of the area, which is
what chance would give, and the figure of a model that has learnt nothing stand beside it.

Needs the extra `explain`. Every figure is kept as soon as it is there.

Run: python benchmarks/planted_mark.py [--only mnist,fashion_mnist] [--minutes 3] [--seeds 3] [--test 500]
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import apercu
from apercu.api import Model
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.explain.attribution import attributions
from apercu.explain.faithfulness import inside
from apercu.presets import build
from apercu.tasks._decision import decision_of
from apercu.tasks.classify import Classify
from apercu.training import Training
from apercu.validate import sample_of

from record import SHARED, Record

MARK, AWAY, AROUND = 4, 2, 1
SETTINGS: dict[str, Any] = {"augment": 0.0}


def marked(images: ImageSet, seed: int) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Images with a mark, (n, 1, H, W), the class that it makes, (n,), and where it is, (n, H, W)."""
    rng = np.random.default_rng(seed)
    x = images.read(np.arange(len(images))).copy()
    y = rng.integers(0, 2, len(x))
    top = rng.integers(AROUND, AROUND + AWAY + 1, len(x))
    beside = rng.integers(AROUND, AROUND + AWAY + 1, len(x))
    left = np.where(y == 0, beside, x.shape[3] - MARK - beside)
    masks = np.zeros((len(x), *x.shape[2:]), bool)
    for i in range(len(x)):
        x[i, :, top[i] : top[i] + MARK, left[i] : left[i] + MARK] = images.spec.maximum
        rows = slice(top[i] - AROUND, top[i] + MARK + AROUND)
        masks[i, rows, left[i] - AROUND : left[i] + MARK + AROUND] = True
    return x, y, masks


def shares(model: Model, x: NDArray[np.uint8], y: NDArray[np.int64], masks: NDArray[np.bool_]) -> dict[str, float]:
    """Mean share of each attribution inside the mark, for the class that the mark makes."""
    decision, images = decision_of(Classify(model)), model.images(x)
    found: dict[str, list[float]] = {}
    for batch in in_order(images, 100, model.device):
        rows = batch.index.cpu().numpy()
        chosen, mask = (torch.from_numpy(values[rows]).to(model.device) for values in (y, masks))
        for name, values in attributions(decision, batch.x, chosen).items():
            found.setdefault(name, []).extend(inside(values, mask).tolist())
    return {name: float(np.mean(values)) for name, values in found.items()}


def measured(name: str, given: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Train on marked images, and look where the decision comes from."""
    opened = open_images(SHARED / name)
    train = sample_of(opened.train, given.images) if given.images else opened.train
    x, y, _ = marked(train, seed)
    training = Training(minutes=given.minutes, seed=seed, device=given.device)
    settings = SETTINGS | {"dim": given.dim, "width": given.width}
    model = apercu.fit((x, y), preset="vae_cnn", settings=settings, training=training)
    x, y, masks = marked(sample_of(opened.test, given.test), seed + 1000)
    torch.manual_seed(seed)
    recipe = model.recipe
    nothing = Model(
        build(recipe.preset, recipe.image, len(recipe.classes), recipe.settings), recipe, None, given.device
    )
    return {
        "n": len(x),
        "accuracy": float((model.probabilities(x).argmax(1) == y).mean()),
        "area": float(masks.mean()),
        "inside": shares(model, x, y, masks),
        "inside_untrained": shares(nothing, x, y, masks),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="mnist,fashion_mnist")
    parser.add_argument("--minutes", type=float, default=3.0, help="of training, for each model")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--test", type=int, default=500, help="images to look at, at most")
    parser.add_argument("--dim", type=int, default=32)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--images", type=int, default=0, help="to learn from, for a trial; 0 for all")
    options = parser.parse_args()
    record = Record("planted_mark", "share of the attribution inside a mark that decides the class, mean over images")
    for number in range(options.seeds):
        for dataset in options.only.split(","):
            key = f"{dataset}, {options.minutes:g} minutes, dim {options.dim}, width {options.width}, seed {number}"
            key += f", trial of {options.images}" if options.images else ""
            record.once(key, partial(measured, dataset, options, number))
