"""How frequent each class is among images without labels, when the labels themselves do not tell.

    q_ik ∝ p(k | x_i) · π_k / π⁰_k,  π_k = mean over i of q_ik, by turns;  π⁰: the shares that p was learnt with

Labels are often drawn evenly, so many of each class, where the images are not. Saerens, Latinne and Decaestecker,
"Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure" (2002): an EM algorithm for
the likelihood of the images. Answers that say little would be driven to a single class, so the shares go from π⁰ to
those of the EM algorithm only as far as the answers are sure, on the scale of their logarithms.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apercu.spread import confidence, rows_to_one

TURNS, STILL = 200, 1e-5

Floats = NDArray[np.float64]


def adjusted(answers: Floats, usual: Floats) -> tuple[Floats, Floats]:
    """What answers are, and how frequent each class, once shares are those of these images.

    `answers`: (n, K), rows sum to 1; `usual`: π⁰, (K,), above 0 → q, (n, K), and π, (K,).
    """
    if not len(answers):
        return answers, usual
    shares = usual
    for _ in range(TURNS):
        before, shares = shares, rows_to_one(answers * (shares / usual)).mean(0)
        if np.abs(shares - before).max() < STILL:
            break
    sure = confidence(answers).mean()
    shares = shares.clip(1e-12) ** sure * usual ** (1 - sure)
    shares /= shares.sum()
    return rows_to_one(answers * (shares / usual)), shares
