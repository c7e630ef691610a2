"""Explain a decision: what would change it, what it resembles, where in the image it comes from.

    counterfactual   min ‖(z − z₀)/s‖² so that another class has p(class | decode(z)) ≥ confidence
    attribution      integrated gradients and occlusion of the log-odds, and whether deleting those pixels matters

For each image a page of its own, which holds all that it shows: the decision, its probability and set; the nearest
image that the model can draw and would decide otherwise, with the difference marked; known images that are nearest;
the attribution; the coordinates of the code that the decision rests on. Needs the extra `explain`.

Example: apercu explain MODEL IMAGES -o why -n 4
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from apercu import metrics
from apercu.api import Model, load
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.recalled import Recalled
from apercu.errors import ApercuError
from apercu.explain.attribution import attributions
from apercu.explain.decision import TOGETHER, Decision
from apercu.explain.explained import Explained
from apercu.explain.faithfulness import at_random, faithfulness
from apercu.explain.imagined import imagine
from apercu.explain.page import Shelf, write_pages
from apercu.explain.references import References, sample_for
from apercu.tasks._decision import decision_of
from apercu.tasks._own import own_images
from apercu.tasks.base import Result, Task
from apercu.tasks.classify import Classify
from apercu.validate import sample_of

__all__ = ["Explain"]

IMAGES = 32
"""At a time, fewer where they are large."""
ALONE = (
    "no known images were there to compare with, so none are shown beside these: name labelled ones of one size with "
    "--learn LABELLED"
)


class Explain(Task):
    """`n`: how many images are explained, the first ones; `confidence`: the probability that another class must reach;
    `targets`: how many other classes are tried, the most probable ones; `steps`: of the search; `show`: known images
    beside each; `sample`: how many images evaluate looks at; `judge`: another model, trained apart, that is asked
    whether what was imagined is of another class; `seed`: what is drawn.
    """

    def __init__(
        self,
        model: Model,
        *,
        n: int = 8,
        confidence: float = 0.9,
        targets: int = 3,
        steps: int = 150,
        show: int = 5,
        sample: int = 100,
        judge: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        for name, value in {"n": n, "targets": targets, "steps": steps, "show": show, "sample": sample}.items():
            if value < 1:
                raise ApercuError(f"{name} must be at least 1, not {value}")
        if not 0.5 <= confidence < 1:
            raise ApercuError(f"confidence is a probability from 0.5 up to 1 and not {confidence:g}")
        self.n, self.confidence, self.targets, self.steps = n, confidence, targets, steps
        self.show, self.sample, self.judge, self.seed = show, sample, judge, seed
        self.classify = Classify(model, seed=seed)
        self.known: ImageSet | None = None

    def fit(self, images: ImageSet, held_out: ImageSet | None = None) -> Result:
        """Fit a linear probe, which has a gradient, as the task classify does; compare with these images then."""
        self.known, self.classify = images, Classify(self.model, method="linear", seed=self.seed)
        return self.classify.fit(images, held_out)

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """For each of the first `n` images: its label, the class it could become, whether it did, and how far that is.

        With `out`, `index.html`, a page for each image, and the image that was imagined as a file.

        Raises:
            ApercuError: no images, no classifier, one without a gradient, or the extra is missing.
        """
        decision, chosen = self._prepared(images, self.n)
        references = self._references(decision)
        parts = list(self._parts(chosen, decision, references))
        rows = [row for part in parts for row in part.rows(decision.classes)]
        if out is not None:
            write_pages(out, self.model, chosen, parts, Shelf(decision, references, self.show))
        place = {name: i for i, name in enumerate(chosen.ids)}
        rows.sort(key=lambda row: place[row["id"]])
        return {"n": len(rows), "explanations": rows, "notes": [] if references is not None else [ALONE]}

    def evaluate(self, images: ImageSet) -> Result:
        """How good the explanations of at most `sample` of these images are.

        "changed": the share of counterfactuals of which the model itself, asked anew, names another class; "distance":
        their mean, in standard deviations of the posterior; "psnr": of the reconstructions that they start from;
        "deletion" and "insertion": areas for each attribution and for pixels in random order. With `judge`, "judged":
        the share of counterfactuals that the other model gives another class than this one gave the image, beside the
        same of plain reconstructions.

        Raises:
            ApercuError: as the call.
        """
        judge = Classify(load(self.judge, str(self.model.device))) if self.judge else None
        decision, chosen = self._prepared(sample_of(images, self.sample, self.seed), self.sample)
        changed, judged, redrawn, distances, psnr = [], [], [], [], []
        areas: dict[str, list[NDArray[np.float64]]] = {}
        for part in self._parts(chosen, decision, self._references(decision)):
            found = part.imagined
            changed += part.changed.tolist()
            distances += found.distance[torch.from_numpy(part.changed).to(found.distance.device)].tolist()
            psnr += metrics.psnr(part.batch.x, found.redrawn).tolist()
            for method, pair in part.areas.items():
                areas.setdefault(method, []).append(torch.stack(pair, 1).double().cpu().numpy())
            if judge is not None:
                before = [answer["label"] for answer in part.answers]
                judged += (self._named(judge, found.pixels) != np.array(before)).tolist()
                redrawn += (self._named(judge, found.redrawn) != np.array(before)).tolist()
        means = {method: np.concatenate(pairs).mean(0).tolist() for method, pairs in areas.items()}
        return {
            "n": len(chosen),
            "changed": float(np.mean(changed)),
            "distance": float(np.mean(distances)) if distances else None,
            "psnr": float(np.mean(psnr)),
            "deletion": {method: pair[0] for method, pair in means.items()},
            "insertion": {method: pair[1] for method, pair in means.items()},
            "judged": float(np.mean(judged)) if judge is not None else None,
            "judged_redrawn": float(np.mean(redrawn)) if judge is not None else None,
        }

    def _prepared(self, images: ImageSet | None, most: int) -> tuple[Decision, ImageSet]:
        if images is None or len(images) == 0:
            raise ApercuError("there are no images here to explain")
        if isinstance(images.pixels, Recalled):
            raise ApercuError("explaining takes the images themselves, and these are codes; name the images")
        return decision_of(self.classify), images.subset(np.arange(min(most, len(images))))

    def _references(self, decision: Decision) -> References | None:
        """The images that the classifier was fitted to or else the model's own, if they are still there."""
        known = own_images(self.model) if self.known is None else self.known
        if known is None or not known.spec.uniform or len(known) == 0:
            return None
        known = sample_for(self.model, known)
        return References(known, self.model.encode(known), self._decided(known, decision))

    def _decided(self, images: ImageSet, decision: Decision) -> NDArray[np.int64]:
        p = self.classify.probabilities(images)
        columns = [self.classify.classes.index(name) for name in decision.classes]
        return np.asarray(p[:, columns].argmax(1), np.int64)

    def _parts(self, images: ImageSet, decision: Decision, references: References | None) -> Iterator[Explained]:
        """The images batch by batch, those of a batch being of one size."""
        for batch in in_order(images, max(1, min(IMAGES, TOGETHER // images.spec.dimensions)), self.model.device):
            asked = images.subset(batch.index.cpu().numpy())
            answers = self.classify(asked)["predictions"]
            decided = torch.tensor([decision.classes.index(a["label"]) for a in answers], device=self.model.device)
            found = imagine(decision, batch.x, decided, references, self.targets, self.confidence, self.steps)
            maps = attributions(decision, batch.x, decided)
            areas = {name: faithfulness(decision, batch.x, decided, values) for name, values in maps.items()}
            areas["random"] = at_random(decision, batch.x, decided, self.seed)
            after = self._named(self.classify, found.pixels)
            changed = after != np.array([answer["label"] for answer in answers])
            yield Explained(asked, batch, answers, decided, found, after.tolist(), changed, maps, areas)

    def _named(self, classify: Classify, pixels: torch.Tensor) -> NDArray[np.str_]:
        """The classes of pictures, (B, C, H, W) in [0, 1], that are stored as the model's own images and read again."""
        stored = self.model.stored(pixels.cpu().numpy())
        p = classify.probabilities(classify.model.images(stored))
        names: NDArray[np.str_] = np.array(classify.classes)[p.argmax(1)]
        return names
