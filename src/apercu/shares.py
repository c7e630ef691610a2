"""How frequent each class is among images without labels, when the labels themselves do not tell.

Labels are often drawn evenly, so many of each class, where the images are not. Two estimates, of different witnesses:

    confusion    π solves Σ_k C_kj π_k = s_j:  s, how often j is answered; C, how often where the label is k
    likelihood   q_ik ∝ p(k | x_i) · π_k / π⁰_k,  π_k = mean over i of q_ik, by turns;  π⁰: shares that p learnt with

Lipton, Wang and Smola, "Detecting and correcting for label shift with black box predictors" (2018); Saerens, Latinne
and Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities: a simple procedure" (2002). The
first is rough with few labels, the second makes a class that is mistaken for another rarer still. What both say holds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from apercu.spread import rows_to_one

TURNS, STILL = 200, 1e-5
TOGETHER = 10.0  # how much the sum of the shares weighs beside each of them
MOST = 3.0
"""How many times as frequent, or as rare, as among the labels a class may be found to be."""

Floats = NDArray[np.float64]


def by_confusion(apart: Floats, truth: NDArray[np.int64], answers: Floats) -> Floats:
    """Shares from what is answered, (n, K), and what is answered where the label is known: (j, K), (j,) → (K,).

    Each class has one more answer, which is right: where few labels tell, answers are trusted. Even rows are no answer.
    """
    from scipy.optimize import nnls

    classes = answers.shape[1]
    told, answered = _decided(apart), _decided(answers)
    confused = np.eye(classes)
    np.add.at(confused, (truth[told], apart[told].argmax(1)), 1)
    said = np.bincount(answers[answered].argmax(1), minlength=classes) / max(int(answered.sum()), 1)
    equations = np.concatenate([rows_to_one(confused).T, np.full((1, classes), TOGETHER)])
    found: Floats = nnls(equations, np.append(said, TOGETHER))[0]
    found /= found.sum()
    return found


def _decided(answers: Floats) -> NDArray[np.bool_]:
    decided: NDArray[np.bool_] = answers.max(1, initial=0) > answers.min(1, initial=1)
    return decided


def by_likelihood(answers: Floats, usual: Floats) -> Floats:
    """The likeliest shares of these images, from answers (n, K) that were learnt with shares `usual`, (K,) → (K,)."""
    shares = usual
    for _ in range(TURNS):
        before, shares = shares, rows_to_one(answers * (shares / usual)).mean(0)
        if np.abs(shares - before).max() < STILL:
            break
    return shares


def agreed(one: Floats, other: Floats, usual: Floats) -> Floats:
    """How far both go from `usual` in the same direction, on the scale of logarithms, and threefold at most.

    All of them (K,) → (K,).
    """
    first, second = (np.log((shares / usual).clip(1 / MOST, MOST)) for shares in (one, other))
    same = np.sign(first) == np.sign(second)
    shares: Floats = usual * np.exp(np.where(same, np.sign(first) * np.minimum(np.abs(first), np.abs(second)), 0))
    shares /= shares.sum()
    return shares
