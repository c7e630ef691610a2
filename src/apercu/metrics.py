"""Measures of the field: accuracy and its parts, AUROC, calibration error, PSNR, SSIM, Fréchet distance."""

from __future__ import annotations

from typing import Any

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
