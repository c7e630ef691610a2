"""A threshold that keeps a promise: so many false alarms among normal images, and how sure that is.

With n scores of normal images that nothing was learnt from, in rising order s_1 … s_n, and a promised rate α,

    t = s_k,  k = ⌈(n + 1)(1 − α)⌉,  rate of s > t ~ Beta(n + 1 − k, k)

whatever the scores' distribution (Wilks, "Determination of sample sizes for setting tolerance limits", 1941; the
conformal quantile of Vovk et al., 2005). Where k > n, the tail beyond the images there are is extrapolated: excesses
over a high score u are generalised Pareto, by probability-weighted moments (Hosking and Wallis, "Parameter and quantile
estimation for the generalized Pareto distribution", 1987). What is certain then is only that t ≥ s_n.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.errors import ApercuError

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
TAIL, LEAST, SHAPED = 0.25, 5, 30
SHAPE = 0.5
DOUBT = 0.01


@dataclass(frozen=True)
class Threshold:
    """An image is called odd above `value`; of normal ones, a share `rate` is, between `low` and `high` with 95 %.

    `n`: normal images that it comes from; `rank`: k, 0 where the tail was extrapolated; `words`: how, and how sure.
    """

    value: float
    rate: float
    low: float
    high: float
    n: int
    rank: int
    words: str


def threshold(normal: Floats, rate: float, held_out: bool = True) -> Threshold:
    """The threshold of a false-alarm rate, from the scores (n,) of normal images.

    Where these were not `held_out` but learnt from, nothing can be promised.

    Raises:
        ApercuError: a rate that is none, or no score.
    """
    from scipy.stats import beta

    if not 0 < rate < 1:
        raise ApercuError(f"the rate of false alarms must lie between 0 and 1, such as 0.01, not {rate:g}")
    n = len(normal)
    if n == 0:
        raise ApercuError("there are no normal images to set a threshold with")
    scores = np.sort(normal)
    rank = math.ceil((n + 1) * (1 - rate) - 1e-9)
    if not held_out:
        value = float(scores[min(rank, n) - 1])
        words = (
            f"the threshold comes from {n} normal images that were learnt from, since none were held out: expect more "
            f"false alarms than {rate:.3g}, or learn again with more images"
        )
        return Threshold(value, rate, 0.0, 1.0, n, 0, words)
    if rank <= n:
        low, high = beta.ppf([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], n + 1 - rank, rank).tolist()
        words = (
            f"{rate:.3g} of normal images are called odd; with {CONFIDENCE:.0%} confidence it is between {low:.2g} and "
            f"{high:.2g}, from {n} normal images that nothing was learnt from"
        )
        return Threshold(float(scores[rank - 1]), rate, low, high, n, rank, words)
    high = 1 - (1 - CONFIDENCE) ** (1 / n)
    needed = math.ceil(1 / rate - 1 - 1e-9)
    words = (
        f"a rate of {rate:.3g} takes {needed} normal images that nothing was learnt from and there are {n}: the "
        f"threshold is extrapolated from their tail, and all that is sure with {CONFIDENCE:.0%} confidence is a rate "
        f"below {high:.2g}"
    )
    return Threshold(max(_extrapolated(scores, rate), float(scores[-1])), rate, 0.0, high, n, 0, words)


def _extrapolated(scores: Floats, rate: float) -> float:
    """u + σ/ξ·((α·n / m)^−ξ − 1), m excesses over u with shape ξ and scale σ; scores in rising order."""
    n = len(scores)
    count = min(n - 1, max(LEAST, round(TAIL * n)))
    if count < 1:
        return float(scores[-1])
    u = float(scores[n - count - 1])
    excess = scores[n - count :] - u
    mean = float(excess.mean())
    weighted = float((excess * (count - 1 - np.arange(count))).sum() / (count * max(count - 1, 1)))
    # Of few excesses the shape is not known: the tail is taken for exponential.
    heavy = 2 - mean / (mean - 2 * weighted) if n >= SHAPED and mean > 2 * weighted else 0.0
    shape = float(np.clip(heavy, -SHAPE, SHAPE))
    scale, ratio = mean * (1 - shape), rate * n / count
    return u + scale * (-math.log(ratio) if abs(shape) < 1e-6 else (ratio**-shape - 1) / shape)


def drift(scores: Floats, promised: Threshold) -> dict[str, Any]:
    """How many of the scores (m,) of images that are said to be normal raise an alarm, and whether that is as promised.

    "p_value": of a binomial test against the promised rate; "p_same": of such a share or one as far off, were these
    images like those that set the threshold, whose number is counted in (beta-binomial; the bound where the threshold
    was extrapolated).
    """
    from scipy.stats import betabinom, binom, binomtest

    n, alarms = len(scores), int((scores > promised.value).sum())
    if promised.rank:
        law = betabinom(n, promised.n + 1 - promised.rank, promised.rank)
        same = min(1.0, 2 * min(float(law.cdf(alarms)), float(law.sf(alarms - 1))))
    else:
        same = float(binom.sf(alarms - 1, n, promised.high))
    rate = alarms / n
    if same >= DOUBT:
        words = "as promised, as far as so many images can tell"
    else:
        words = (
            f"{'more' if rate > promised.rate else 'fewer'} than promised: these differ from the normal images before"
        )
        words += "; learn again with them" if rate > promised.rate else ""
    return {
        "n": n,
        "alarms": alarms,
        "rate": rate,
        "promised": promised.rate,
        "p_value": float(binomtest(alarms, n, promised.rate).pvalue),
        "p_same": same,
        "words": f"{alarms} of {n} images that are said to be normal raise an alarm, {words}",
    }
