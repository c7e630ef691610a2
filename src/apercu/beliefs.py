"""What is believed of the class of every training image; it grows while the network learns.

First the labels alone; then, at a few moments of training,

    a ∝ (g + p(y | z))²,  g: what labels say of all images when they are spread over a graph of the encoder's maps,

both with classes as frequent as they are found among these images (`shares.py`). The mean of both, as each is
right where the other is not: neighbours while there are few labels, the network's own answers when there are more.
Li, Xiong and Hoi, "CoMatch: semi-supervised learning with contrastive graph regularization" (2021) let neighbours and
answers correct each other in a like manner.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.model import Autoencoder
from apercu.shares import agreed, by_confusion, by_likelihood
from apercu.spread import Axes, Reached, principal_axes, rows_to_one
from apercu.validate import sample_of

MOMENTS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Shares of training after which the labels are spread anew."""
SHARPER = 2
"""Answers are taught to this power; Berthelot et al., "MixMatch" (2019)."""
SAMPLE = 4000
"""Images that the principal axes are found from."""
BATCH = 500


class Beliefs(nn.Module):
    """`answers`: (n, K), probabilities; `rounds`: how often labels were spread.

    Both are buffers, so that a run goes on from a checkpoint with what it believed. `labelled_share` and `balance` are
    those of the batches.
    """

    answers: Tensor
    rounds: Tensor

    def __init__(self, images: ImageSet, labelled_share: float = 0.25, balance: bool = False) -> None:
        super().__init__()
        self.images, self.balance = images, balance
        known = np.flatnonzero(images.labels >= 0)
        share = max(labelled_share, len(known) / max(len(images), 1))
        # How much labels count in what is taught: a labelled image is taught its label and what is believed of it.
        self.pull = 2 * share / (1 + share)
        answers = torch.zeros(len(images), len(images.classes), dtype=torch.float16)
        answers[known, images.labels[known]] = 1
        self.complete = len(known) == len(images)
        self.register_buffer("answers", answers)
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))

    def due(self, progress: float) -> bool:
        """Whether labels are to be spread now, when a share `progress` of training is done."""
        rounds = int(self.rounds)
        return not self.complete and rounds < len(MOMENTS) and progress >= MOMENTS[rounds]

    def of(self, index: Tensor) -> Tensor | None:
        """The answers of these images, (B, K); None as long as only some labels are known."""
        if not self.complete and not self.rounds:
            return None
        return self.answers[index.to(self.answers.device)].float().to(index.device)

    @torch.no_grad()
    def renew(self, model: Autoencoder, device: str, precision: AbstractContextManager[object]) -> None:
        """Spread the labels over a graph of what `model` makes of the images now, and ask it for its own answers."""
        model.eval()
        with precision:
            axes = axes_of(model, self.images, device)
            points = axes.directions(maps(model, self.images, device))
            own = np.concatenate(list(answers(model, self.images, device)))
        unknown, labels = self.images.labels < 0, self.images.labels
        reached, named = Reached(points, labels, len(self.images.classes)), self._shares(~unknown)
        learnt = self._learnt(unknown)
        witnesses = by_confusion(reached.apart, reached.truth, reached.said), by_likelihood(own[unknown], learnt)
        shares = agreed(*witnesses, named)
        both = reached.answers(shares)
        both[unknown] += rows_to_one(own[unknown] * (shares / learnt))
        both **= SHARPER
        self.answers.copy_(torch.from_numpy(both / both.sum(1, keepdims=True)))
        self.rounds += 1

    def _learnt(self, unknown: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How frequent the classes are in all that the network was taught so far, (K,)."""
        heard = self._shares(~unknown)
        if self.balance:  # each class that has labels is heard equally often
            heard = np.where(np.bincount(self.images.labels[~unknown], minlength=len(heard)) > 0, 1.0, heard)
            heard /= heard.sum()
        return self.pull * heard + (1 - self.pull) * self._shares(unknown) if int(self.rounds) else heard

    def _shares(self, of: NDArray[np.bool_]) -> NDArray[np.float64]:
        """How frequent the classes are in what is believed of these images, (K,)."""
        counts = self.answers[torch.from_numpy(of)].cpu().double().sum(0).numpy() + 1
        shares: NDArray[np.float64] = counts / counts.sum()
        return shares


@torch.no_grad()
def maps(model: Autoencoder, images: ImageSet, device: str) -> Iterator[NDArray[np.float32]]:
    """What the encoder makes of the images before a dense layer takes it together, batch by batch, (b, L)."""
    for batch in in_order(images, BATCH, device):
        yield model.encoder.maps(batch.x).flatten(1).float().cpu().numpy()


@torch.no_grad()
def answers(model: Autoencoder, images: ImageSet, device: str) -> Iterator[NDArray[np.float64]]:
    """p(y | z) of the images by the model's head, batch by batch, (b, K)."""
    for batch in in_order(images, BATCH, device):
        found = model(batch, noise=False, decode=False).heads["label"].softmax(1)
        yield found.cpu().double().numpy()


def axes_of(model: Autoencoder, images: ImageSet, device: str) -> Axes:
    """The principal axes of these maps, from a sample of the images."""
    return principal_axes(np.concatenate(list(maps(model, sample_of(images, SAMPLE), device))))
