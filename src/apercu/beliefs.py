"""What is believed of the class of every training image; it grows while the network learns.

First the labels alone; then, at a few moments of training,

    a ∝ (g + p(y | z))²,  g: what labels say of all images when they are spread over a graph of the encoder's maps,

both with classes as frequent as the network finds them among these images (`shares.py`). The mean of both, as each is
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
from apercu.shares import adjusted
from apercu.spread import Axes, principal_axes, spread
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

    Both are buffers, so that a run goes on from a checkpoint with what it believed.
    """

    answers: Tensor
    rounds: Tensor

    def __init__(self, images: ImageSet) -> None:
        super().__init__()
        self.images, known = images, np.flatnonzero(images.labels >= 0)
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
        labels, unknown = self.images.labels, self.images.labels < 0
        own[unknown], shares = adjusted(own[unknown], self._shares())
        both = spread(points, labels, len(self.images.classes), shares=shares)
        both[unknown] += own[unknown]
        both **= SHARPER
        self.answers.copy_(torch.from_numpy(both / both.sum(1, keepdims=True)))
        self.rounds += 1

    def _shares(self) -> NDArray[np.float64]:
        """How frequent the classes are in what the network was taught so far, (K,)."""
        known = torch.from_numpy(self.images.labels >= 0)
        told = self.answers.cpu().double()
        counts = told[~known].sum(0) if int(self.rounds) else told[known].sum(0)
        return ((counts + 1) / (counts + 1).sum()).numpy()


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
        yield found.double().cpu().numpy()


def axes_of(model: Autoencoder, images: ImageSet, device: str) -> Axes:
    """The principal axes of these maps, from a sample of the images."""
    return principal_axes(np.concatenate(list(maps(model, sample_of(images, SAMPLE), device))))
