"""The objective is data: named terms with weights, each priced per image in nats.

    total(x, y) = Σ_k w_k · price_k(x, y),  price_k: (B,)

The same prices train, are logged, and score images: there is no second formula. The articles'
L = L_ELBO + λ·L_CE is `Objective({"pixels": Term(pixels), "kl": Term(cost("kl"), beta), "label": Term(label, lam)})`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.corruptions.base import changed
from apercu.likelihoods.base import per_image
from apercu.types import Batch, Output

SURE = 0.95
TEMPERATURE = 0.2
Price = Callable[[Output, Batch], Tensor]


@dataclass(frozen=True)
class Term:
    """A price and its weight; over the first `warmup` share of training the weight rises linearly from 0."""

    price: Price
    weight: float = 1.0
    warmup: float = 0.0

    def weight_at(self, progress: float) -> float:
        """The weight when a share `progress` in [0, 1] of training is done."""
        return self.weight if progress >= self.warmup else self.weight * progress / self.warmup


class Objective:
    """Named terms and their weighted sum."""

    def __init__(self, terms: Mapping[str, Term]) -> None:
        self.terms = dict(terms)

    def prices(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Every term before its weight, each (B,)."""
        return {name: term.price(output, batch) for name, term in self.terms.items()}

    def total(self, prices: Mapping[str, Tensor], progress: float = 1.0) -> Tensor:
        """Σ_k w_k · price_k, (B,)."""
        weighted = [self.terms[name].weight_at(progress) * price for name, price in prices.items()]
        return torch.stack(weighted).sum(0)

    def unlabelled(self, prices: Mapping[str, Tensor]) -> Tensor:
        """The same sum without what needs a label: how unexpected an image is, (B,)."""
        recognising = (label, consistency, contrast, taught)
        return self.total({name: price for name, price in prices.items() if self.terms[name].price not in recognising})

    @property
    def teaches(self) -> bool:
        """Whether a price wants to know what is believed of images without a label."""
        return any(term.price is taught for term in self.terms.values())

    @property
    def reads_pixels(self) -> bool:
        """Whether a price needs the decoder."""
        return any(term.price in (pixels, visible_pixels, weighed_pixels) for term in self.terms.values())

    def __repr__(self) -> str:
        parts = [f"{term.weight:g}·{name}" for name, term in self.terms.items()]
        return f"Objective({' + '.join(parts)})"


def pixels(output: Output, batch: Batch) -> Tensor:
    """−ln p(x | z), (B,); where pixels are hidden, of those alone, at their mean price for the whole image."""
    return _priced(output, batch.target, batch.hidden)


def visible_pixels(output: Output, batch: Batch) -> Tensor:
    """The same of the pixels that are not hidden, (B,)."""
    return _priced(output, batch.target, None if batch.hidden is None else ~batch.hidden)


def weighed_pixels(output: Output, batch: Batch) -> Tensor:
    """λ · −ln p(x | z), (B,), with the λ of each image's quality, which its bottleneck charges."""
    return output.code.costs["lam"] * pixels(output, batch)


def _priced(output: Output, x: Tensor, counted: Tensor | None) -> Tensor:
    """−ln p of the pixels that are `counted`, (B, 1, H, W) bool, divided by their share: (B,)."""
    if output.pixels is None:
        raise TypeError("the pixels were not decoded")
    if counted is None:
        return output.pixels.nll(x)
    return per_image(output.pixels.each(x) * counted) / counted.float().mean((1, 2, 3)).clamp_min(1e-9)


def cost(name: str) -> Price:
    """What the bottleneck charges under `name`, (B,)."""

    def price(output: Output, batch: Batch) -> Tensor:
        return output.code.costs[name]

    return price


def consistency(output: Output, batch: Batch) -> Tensor:
    """−ln p(y | strong view), (B,): y is the label or, where it is unknown, the sure answer to the weak view.

    An answer is sure above `SURE`; unsure ones cost nothing. Sohn et al., "FixMatch: simplifying semi-supervised
    learning with consistency and confidence" (2020).
    """
    if "label" not in output.strong:  # an evaluation looks at each image once
        return torch.zeros_like(batch.y, dtype=torch.float32)
    confidence, guess = output.sure["label"].softmax(1).max(1)
    known = batch.y >= 0
    price = F.cross_entropy(output.strong["label"], torch.where(known, batch.y, guess), reduction="none")
    return torch.where(known | (confidence > SURE), price, torch.zeros_like(price))


def contrast(output: Output, batch: Batch) -> Tensor:
    """−ln of the share of an image's own strong view among those of the batch, by likeness to its weak one, (B,).

    The mean of both ways round, and nothing once strong views are mixed with others. Van den Oord, Li and Vinyals,
    "Representation learning with contrastive predictive coding" (2018); Chen et al., "SimCLR" (2020).
    """
    if "contrast" not in output.strong:
        return torch.zeros_like(batch.y, dtype=torch.float32)
    if batch.taught is not None:  # processes that share their gradients wait for every parameter
        return 0.0 * output.heads["contrast"].sum(1)
    likeness = output.heads["contrast"] @ output.strong["contrast"].T / TEMPERATURE
    own = torch.arange(len(batch.y), device=batch.y.device)
    each = [F.cross_entropy(scores, own, reduction="none") for scores in (likeness, likeness.T)]
    return torch.stack(each).mean(0)


def taught(output: Output, batch: Batch) -> Tensor:
    """−Σ_k a_k · ln p(k | view), the mean of both views, (B,): a is what is taught.

    As long as nothing is, −ln p(y | strong view) where the label is known.
    """
    if "label" not in output.strong:
        return torch.zeros_like(batch.y, dtype=torch.float32)
    weak, strong = output.heads["label"], output.strong["label"]
    if batch.taught is None:
        return _named(strong, batch.y)
    answers = batch.taught if batch.taught_strong is None else batch.taught_strong
    both = [F.cross_entropy(weak, batch.taught, reduction="none"), F.cross_entropy(strong, answers, reduction="none")]
    return torch.stack(both).mean(0)


def label(output: Output, batch: Batch) -> Tensor:
    """−ln p(y | z) where the label is known and nothing where it is not, (B,)."""
    return _named(output.heads["label"], batch.y)


def _named(logits: Tensor, y: Tensor) -> Tensor:
    price = F.cross_entropy(logits, y.clamp_min(0), reduction="none")
    return torch.where(y >= 0, price, torch.zeros_like(price))


def mark(output: Output, batch: Batch) -> Tensor:
    """−ln p(m | z), (B,): m marks the pixels that were damaged, none where the image is as it was."""
    height, width = batch.x.shape[2:]
    said, clean = output.heads["mark"][:, :height, :width], batch.target
    truth = changed(clean, batch.x).to(said.dtype)
    return F.binary_cross_entropy_with_logits(said, truth, reduction="none").sum((1, 2))
