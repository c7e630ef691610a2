"""Where in an image the decision comes from, signed: above 0 speaks for the class, below 0 against it.

    integrated gradients   (x − b) · ∫₀¹ ∂F(b + t(x − b))/∂x dt,  whose sum is F(x) − F(b)
    occlusion              how much F falls when a window shows the background b, mean over the windows of a pixel

F is the log-odds of the class, in nats; b is a flat image in the median colour of x: nothing is drawn on it.

Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks" (2017); Zeiler and Fergus, "Visualizing and
understanding convolutional networks" (2014). Both by captum: Kokhlikyan et al. (2020).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from apercu.errors import ApercuError
from apercu.explain.decision import TOGETHER, Decision
from apercu.types import Grid

STEPS, STEPS_OF_CODE = 50, 20
WINDOWS = 7
"""How many windows stand beside each other; they overlap by half."""

METHODS = {"gradients": "integrated gradients", "occlusion": "occlusion"}


def _methods() -> Any:  # noqa: ANN401 - an extra, which need not be there
    try:
        from captum import attr
    except ImportError:
        raise ApercuError("explaining needs an extra: pip install 'apercu[explain]'") from None
    return attr


def background(x: Tensor) -> Tensor:
    """A flat image in the median colour of each image, (B, C, H, W) → the same shape."""
    return x.flatten(2).median(2).values[:, :, None, None].expand_as(x).contiguous()


def attributions(decision: Decision, x: Tensor, chosen: Tensor) -> dict[str, Tensor]:
    """Of the classes `chosen`, (B,), in nats for each pixel, summed over channels: {method: (B, H, W)}.

    Raises:
        ApercuError: captum is not installed.
    """
    attr, behind = _methods(), background(x)
    window = [max(1, -(-side // WINDOWS)) for side in x.shape[2:]]
    at_once = max(1, TOGETHER // x[0].numel())
    gradients = attr.IntegratedGradients(decision.odds).attribute(
        x.clone().requires_grad_(),
        baselines=behind,
        additional_forward_args=chosen,
        n_steps=STEPS,
        internal_batch_size=max(at_once, len(x)),
    )
    with torch.no_grad():
        occluded = attr.Occlusion(decision.odds).attribute(
            x,
            sliding_window_shapes=(x.shape[1], *window),
            strides=(x.shape[1], *(max(1, side // 2) for side in window)),
            baselines=behind,
            additional_forward_args=chosen,
            perturbations_per_eval=max(1, at_once // len(x)),
        )
    # Occlusion gives each channel the fall of the whole window, gradients share it out.
    return {"gradients": gradients.detach().sum(1), "occlusion": occluded.mean(1)}


def held_by(decision: Decision, z: Tensor, moved: Tensor, grid: Grid, size: tuple[int, int], chosen: Tensor) -> Tensor:
    """How much of the fall in log-odds from z to `moved`, (B, N, D), is due to each coordinate: (B, N, D) nats.

    Integrated gradients along the straight way: their sum is F(decode(z)) − F(decode(moved)).
    """

    def odds(code: Tensor, classes: Tensor) -> Tensor:
        return decision.odds(decision.draw(decision.settled(code), grid, size), classes)

    shares: Tensor = (
        _methods()
        .IntegratedGradients(odds)
        .attribute(z.clone().requires_grad_(), baselines=moved, additional_forward_args=chosen, n_steps=STEPS_OF_CODE)
    )
    return shares.detach()
