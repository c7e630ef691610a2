"""Measures of the field: accuracy, AUROC, per-region overlap, calibration error, PSNR, SSIM, Fréchet distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """10·log₁₀(1 / MSE) of every image in [0, 1], (B, C, H, W) → (B,) in dB; at most 100."""
    mse = (x - y).square().flatten(1).mean(1)
    return -10 * torch.log10(mse.clamp_min(1e-10))


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of every image in [0, 1], (B, C, H, W) → (B,); Wang et al. (2004).

    The window is Gaussian with σ = 1.5 and 11 pixels wide, or what fits into a smaller image.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure as measure

    side = min(11, *x.shape[2:])
    if side < 3:  # too small for a window: compare the pixels themselves
        return 1 - (x - y).abs().flatten(1).mean(1)
    # The measure pads by half of a window that its σ decides, which a small image must be able to reflect.
    sigma = 1.5 if side == 11 else (side - 1) / 7.0 / 1.5
    value = measure(y, x, gaussian_kernel=True, sigma=sigma, data_range=1.0, reduction="none")
    return value if isinstance(value, Tensor) else value[0]


def ms_ssim(x: Tensor, y: Tensor, normalize: Literal["relu", "simple"] = "relu") -> Tensor:
    """Similarity at up to five scales of every image in [0, 1], (B, C, H, W) → (B,) in [0, 1]; Wang et al. (2003).

    An image that is too small for five scales has the first ones, their exponents scaled to the same sum. Similarities
    below 0 count as 0; with `normalize` "simple" s becomes (1 + s) / 2 instead, whose gradient is never lost.
    """
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as measure

    side = min(x.shape[2:])
    if side < 3:  # too small for a window
        return 1 - (x - y).abs().flatten(1).mean(1)
    scales = 1 + sum(side >= least for least in (22, 44, 99, 176))
    exponents = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)[:scales]
    betas = tuple(exponent / sum(exponents) for exponent in exponents)
    width = min(11, side - (side + 1) % 2)
    # The measure takes a window of 1 + 2·⌊3.5σ + ½⌋ pixels.
    sigma = 1.5 if width == 11 else ((width - 1) / 2 - 0.5) / 3.5
    value: Tensor = measure(
        y, x, kernel_size=width, sigma=sigma, data_range=1.0, reduction="none", betas=betas, normalize=normalize
    )
    return value.reshape(len(x))


def classification(truth: Array, predicted: Array, classes: tuple[str, ...]) -> dict[str, Any]:
    """Accuracy, the same per class, and the confusion matrix (rows: truth), for integer labels (N,).

    "balanced_accuracy" is the mean over the classes that have images, "macro_f1" over those with images or answers.
    """
    confusion = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(confusion, (truth, predicted), 1)
    counts, hits = confusion.sum(1), confusion.diagonal()
    either = counts + confusion.sum(0)
    per_class = {
        name: {"n": int(n), "accuracy": float(right / n) if n else None}
        for name, n, right in zip(classes, counts, hits, strict=True)
    }
    some = bool(len(truth))
    return {
        "n": len(truth),
        "accuracy": float((truth == predicted).mean()) if some else None,
        "balanced_accuracy": float((hits[counts > 0] / counts[counts > 0]).mean()) if some else None,
        "macro_f1": float((2 * hits[either > 0] / either[either > 0]).mean()) if some else None,
        "per_class": per_class,
        "confusion": confusion.tolist(),
    }


def auroc(p: Array, truth: Array) -> float | None:
    """Area under the ROC curve of every class against the others, the mean over classes; (N, K) and (N,).

    With two classes it is the usual area. None where no class has both images and others beside it.
    """
    from sklearn.metrics import roc_auc_score

    present = [k for k in range(p.shape[1]) if 0 < (truth == k).sum() < len(truth)]
    return float(np.mean([roc_auc_score(truth == k, p[:, k]) for k in present])) if present else None


def detection(scores: Array, odd: Array) -> tuple[float | None, float | None]:
    """AUROC and average precision of scores (N,) that should be larger where `odd`, (N,) bool; None without both."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    if not 0 < odd.sum() < len(odd):
        return None, None
    return float(roc_auc_score(odd, scores)), float(average_precision_score(odd, scores))


def localisation(
    maps: Sequence[Array], masks: Sequence[Array], limit: float = 0.3
) -> tuple[float | None, float | None]:
    """AUROC of all pixels, and AUPRO, of maps (H, W) that should be larger inside masks, (H, W) bool.

        PRO(t) = mean over regions r of |r ∩ {map ≥ t}| / |r|,  AUPRO = 1/limit · ∫₀^limit PRO d(false positive rate)

    Regions are 8-connected. Bergmann et al., "Uninformed students" (2020). None where no pixel is marked, or all are.
    """
    from scipy.integrate import trapezoid
    from scipy.ndimage import label

    values = np.concatenate([m.ravel() for m in maps])
    inside = np.concatenate([m.ravel() for m in masks])
    if not 0 < inside.sum() < len(inside):
        return None, None
    shares, regions = [], 0
    for mask in masks:
        numbered, count = label(mask, np.ones((3, 3)))
        sizes = np.bincount(numbered.ravel(), minlength=count + 1).astype(np.float64)
        shares.append(np.where(mask.ravel(), 1 / sizes[numbered.ravel()], 0.0))
        regions += count
    order = np.argsort(-values, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(values[order])), len(values) - 1)  # pixels of one value come together

    def rising(weights: Array) -> Array:
        return np.concatenate([[0.0], np.cumsum(weights[order], dtype=np.float64)[ends]])

    found, false = rising(inside) / inside.sum(), rising(~inside) / (~inside).sum()
    overlap = rising(np.concatenate(shares)) / regions
    until = np.append(false[false < limit], limit)
    pro = np.append(overlap[false < limit], np.interp(limit, false, overlap))
    return float(trapezoid(found, false)), float(trapezoid(pro, until) / limit)


def reliability(confidence: Array, right: Array, bins: int = 15) -> list[tuple[float, float, int]]:
    """(mean probability of the answers, share of them that is right, how many) in each of `bins` of equal width.

    confidence: (N,) in [0, 1], right: (N,) bool. Bins without an answer are left out.
    """
    bin_of = np.minimum((confidence * bins).astype(int), bins - 1)
    return [
        (float(confidence[here].mean()), float(right[here].mean()), int(here.sum()))
        for here in (bin_of == b for b in np.unique(bin_of))
    ]


def calibration_error(confidence: Array, right: Array, bins: int = 15) -> float | None:
    """Expected calibration error of N answers with their probabilities (N,), of which some are right, (N,) bool.

        Σ_b n_b / N · |right_b − confidence_b|

    over `bins` of equal width; Guo et al., "On calibration of modern neural networks" (2017). None without answers.
    """
    found = reliability(confidence, right, bins)
    return sum(n * abs(share - sure) for sure, share, n in found) / len(right) if found else None


def frechet(a: Array, b: Array) -> float:
    """Fréchet distance of Gaussians fitted to two sets of features, (N, K) and (M, K).

        ‖μ_a − μ_b‖² + tr(Σ_a + Σ_b − 2·(Σ_a Σ_b)^½)

    Heusel et al. (2017) take the features of Inception; here the caller says whose they are.
    """
    difference = a.mean(0) - b.mean(0)
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    # tr (Σ_a Σ_b)^½ is the sum of the square roots of the eigenvalues, which are real and not negative.
    eigenvalues = np.linalg.eigvals(cov_a @ cov_b).real
    cross = np.sqrt(np.clip(eigenvalues, 0, None)).sum()
    return float(max(0.0, difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * cross))


def bd_rate(reference: Sequence[tuple[float, float]], tested: Sequence[tuple[float, float]]) -> float | None:
    """How many per cent more bytes `tested` takes at the same quality, on average: points of (rate, dB), two or more.

        100 · (exp(mean over the dB that both reach of ln R_tested − ln R_reference) − 1)

    ln R as a function of dB is a monotone cubic through the points. Bjøntegaard, "Calculation of average PSNR
    differences between RD-curves" (2001), with piecewise interpolation in place of one polynomial. None where the
    curves reach no dB in common.
    """
    from scipy.interpolate import PchipInterpolator

    curves = []
    for points in (reference, tested):
        # More bytes for less quality is no point of a curve: whoever wants that quality takes the others.
        ordered = sorted(points)
        best = [p for k, p in enumerate(ordered) if k == 0 or p[1] > max(q for _, q in ordered[:k])]
        rates, decibels = (np.array(side, np.float64) for side in zip(*best, strict=True))
        if len(rates) < 2:
            return None
        curves.append((decibels, PchipInterpolator(decibels, np.log(rates))))
    low, high = max(d[0] for d, _ in curves), min(d[-1] for d, _ in curves)
    if low >= high:
        return None
    before, after = (float(curve.integrate(low, high)) / (high - low) for _, curve in curves)
    return float(100 * np.expm1(after - before))
