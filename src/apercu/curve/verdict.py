"""What the figures of a curve say: paired differences over seeds, and what more labels would bring.

Methods are compared on the same draws of labels, so that the spread of a difference is that of the pairs d_s:

    d̄ ± t₀.₉₇₅(n − 1) · s_d / √n

The joint model is compared with the best of the methods without an autoencoder, not with the weakest. What more labels
would bring is extrapolated by no more than doubling them, from a power law of the error e(n) = a · n⁻ᵇ fitted to the
last counts (Hestness et al., "Deep learning scaling is predictable, empirically", 2017; Viering and Loog, "The shape of
learning curves: a review", 2023, on when it fails).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from apercu.curve.methods import METHODS
from apercu.curve.run import Figure
from apercu.pages.words import listed
from apercu.study import many

OURS = [name for name, method in METHODS.items() if method.ours]
ENOUGH = 3  # seeds; the interval of two is 13 times as wide as their standard error
FITTED, FEWEST = 4, 3  # counts of labels that the power law is fitted to
LITTLE = 0.005


@dataclass(frozen=True)
class Mean:
    """A mean over `count` seeds and half of its 95 % interval by Student's t, None for fewer than three seeds."""

    value: float
    half: float | None
    count: int

    @property
    def sign(self) -> int:
        """1 or −1 where the whole interval lies above or below zero, else 0."""
        if self.half is None or abs(self.value) <= self.half:
            return 0
        return 1 if self.value > 0 else -1

    def __str__(self) -> str:
        return points(self.value) + ("" if self.half is None else f" ± {100 * self.half:.1f}")


@dataclass(frozen=True)
class Comparison:
    """At one number of labels: what `ours` gains over `other`, the best method without an autoencoder."""

    per_class: int
    ours: str
    other: str
    gain: Mean


@dataclass(frozen=True)
class Forecast:
    """What `ours` would gain if the labels were doubled, by a power law through the counts from `first` to `last`.

    `factor` is what each doubling leaves of the error; `check` is what the law, fitted without the last count,
    says of that count, and what was measured.
    """

    ours: str
    first: int
    last: int
    factor: float
    gain: Mean
    check: tuple[float, float] | None


def mean(values: Sequence[float]) -> Mean:
    """Mean and half of its 95 % interval."""
    from scipy.stats import t

    count = len(values)
    half = float(t.ppf(0.975, count - 1) * np.std(values, ddof=1) / math.sqrt(count)) if count >= ENOUGH else None
    return Mean(float(np.mean(values)), half, count)


def by_seed(figures: Sequence[Figure], method: str, per_class: int) -> dict[int, float]:
    """Accuracy of a method with so many labels, for every seed there is."""
    return {f.seed: f.accuracy for f in figures if (f.method, f.per_class) == (method, per_class)}


def compare(figures: Sequence[Figure]) -> list[Comparison]:
    """Joint model (or what there is of ours) against the best of the others, for every count where both were measured.

    Which of the others is best is read from the test images too, which can only favour them.
    """
    ours = _ours(figures)
    if ours is None:
        return []
    others = {figure.method for figure in figures} - set(OURS)
    found = []
    for per_class in sorted({figure.per_class for figure in figures}):
        own = by_seed(figures, ours, per_class)
        rivals = {name: values for name in METHODS if name in others and (values := by_seed(figures, name, per_class))}
        seeds = sorted(set(own).intersection(*rivals.values()))
        if not seeds or not rivals:
            continue
        best = max(rivals, key=lambda name: float(np.mean([rivals[name][s] for s in seeds])))
        gain = mean([own[s] - rivals[best][s] for s in seeds])
        found.append(Comparison(per_class, ours, best, gain))
    return found


def _ours(figures: Sequence[Figure]) -> str | None:
    """The joint model, or else the next best that was measured, whatever its figures."""
    there = {figure.method for figure in figures}
    return next((name for name in reversed(OURS) if name in there), None)


def power_law(counts: Sequence[int], errors: Sequence[float]) -> tuple[float, float]:
    """a and b of e(n) = a · n⁻ᵇ, by least squares on the logarithms."""
    slope, intercept = np.polyfit(np.log(counts), np.log(errors), 1)
    return float(np.exp(intercept)), float(-slope)


def forecast(figures: Sequence[Figure], test_images: int) -> Forecast | None:
    """Extrapolate the joint model, or what there is of ours; None with fewer than three counts of labels."""
    ours = _ours(figures)
    if ours is None:
        return None
    counts = sorted({figure.per_class for figure in figures if figure.method == ours})
    seeds = set.intersection(*({*by_seed(figures, ours, count)} for count in counts))
    if len(counts) < FEWEST or not seeds:
        return None
    fitted = counts[-FITTED:]
    # No error at all has no logarithm: it is taken for half an image.
    errors = {
        s: [max(1 - by_seed(figures, ours, count)[s], 0.5 / test_images) for count in fitted] for s in sorted(seeds)
    }
    gains, factors = [], []
    for each in errors.values():
        a, b = power_law(fitted, each)
        gains.append(a * fitted[-1] ** -b * (1 - 2**-b))
        factors.append(2**-b)
    check = None
    if len(fitted) > FEWEST:
        average = np.mean(list(errors.values()), 0)
        a, b = power_law(fitted[:-1], average[:-1])
        check = 1 - a * fitted[-1] ** -b, float(1 - average[-1])
    return Forecast(ours, fitted[0], fitted[-1], float(np.mean(factors)), mean(gains), check)


def in_words(figures: Sequence[Figure], test_images: int, classes: int) -> list[str]:
    """The verdict: whether the unlabelled images helped, whether to label more, and how sure that is."""
    said = [_help(compare(figures)), _more(forecast(figures, test_images), classes), _caution(figures, test_images)]
    return [sentence for sentence in said if sentence]


def _help(comparisons: Sequence[Comparison]) -> str:
    if not comparisons:
        return ""
    others = " or ".join(dict.fromkeys(METHODS[c.other].name for c in comparisons))
    compared = f"compared with {others}, the best of the other methods"
    fewest = min(c.gain.count for c in comparisons)
    if fewest < ENOUGH:
        said = _differences(comparisons, str)
        return f"With {many(fewest, 'seed')} there is no verdict yet; the unlabelled images gave {said}, {compared}."
    helped, hurt, unsure = ([c for c in comparisons if c.gain.sign == sign] for sign in (1, -1, 0))
    parts = ["The unlabelled images did not help"]
    if helped:
        parts = [f"The unlabelled images gave {_differences(helped, str)}, {compared}"]
    if hurt:
        parts.append(f"they cost {_differences(hurt, _size)}")
    last = helped[-1].per_class if helped and not hurt else math.inf
    if any(c.per_class > last for c in unsure):
        parts.append(f"nothing sure beyond {last}")
    rest = [f"{c.per_class} ({c.gain})" for c in unsure if c.per_class < last]
    if rest:
        parts.append(f"no sure difference at {listed(rest)}")
    return "; ".join(parts) + ("." if helped else f", {compared}.")


def _differences(comparisons: Sequence[Comparison], say: Callable[[Mean], str]) -> str:
    """+6.1 ± 0.8 points at 1 label per class, +2.0 ± 0.5 at 5 and +1.1 ± 0.3 at 10."""
    first, *rest = comparisons
    label = "label" if first.per_class == 1 else "labels"
    said = [f"{say(first.gain)} points at {first.per_class} {label} per class"]
    return listed([*said, *(f"{say(c.gain)} at {c.per_class}" for c in rest)])


def _more(found: Forecast | None, classes: int) -> str:
    if found is None:
        return "To say whether more labels are worth it, at least three numbers of labels are needed."
    doubled, more = 2 * found.last, found.last * classes
    if found.factor >= 1:
        return (
            f"More labels did not lower the error from {found.first} to {found.last} labels per class, so doubling "
            "them promises nothing."
        )
    gain = "about " + str(found.gain)
    worth = ": hardly worth it for accuracy alone" if found.gain.value < LITTLE else ""
    text = (
        f"Doubling the labels to {doubled} per class ({many(more, 'more label')}) would give {gain} points{worth}, if "
        f"the error goes on falling as from {found.first} to {found.last}, to {100 * found.factor:.0f} % with "
        "each doubling; this is an extrapolation"
    )
    if found.check is None:
        return f"{text}."
    foretold, measured = found.check
    return f"{text} (the same rule foretold {share(foretold)} at {found.last}; measured: {share(measured)})."


def _caution(figures: Sequence[Figure], test_images: int) -> str:
    """How much other test images would move an accuracy: the interval of a share in the middle of those measured."""
    if not figures:
        return ""
    middle = float(np.median([figure.accuracy for figure in figures]))
    half = 1.96 * math.sqrt(middle * (1 - middle) / test_images)
    if half < 0.01:
        return ""
    return (
        f"All intervals are over draws of labels and seeds; the {many(test_images, 'test image')} are always the same, "
        f"and others would move an accuracy by up to {100 * half:.1f} points, a difference by less."
    )


def points(value: float) -> str:
    """A difference of accuracies: +6.1."""
    return f"{100 * value:+.1f}".replace("-", "−")


def share(value: float) -> str:
    """An accuracy: 93.4 %."""
    return f"{100 * value:.1f} %"


def _size(gain: Mean) -> str:
    return str(Mean(-gain.value, gain.half, gain.count)).lstrip("+")
