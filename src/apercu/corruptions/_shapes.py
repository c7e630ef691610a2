"""Where a defect is: soft masks from a few pixels to a quarter of the image, boxes, blobs, stains, lines.

Places and lengths are in units of the longer side, so that a shape means the same in images of any size.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.augment.base import draw, shared_out

SMALLEST, LARGEST = 1.5, 0.28
"""Radii: pixels, and the share of the longer side at which a disc covers a quarter of a square."""
BLURRED = 0.3  # the share of boxes, blobs and stains whose edge is not sharp
WAVES, KNOTS = 4, 33


def masks(x: Tensor) -> Tensor:
    """One place in each image, (B, C, H, W) → (B, 1, H, W): 1 inside, 0 outside; all shapes equally often."""
    return shared_out(x, (_box, _blob, stain, _scratch, _crack))


def stain(own: Tensor) -> Tensor:
    """A disc with an uneven edge, often longer than wide."""
    down, across = _frame(own)
    angle = torch.atan2(down, across)
    edge = torch.ones_like(angle)
    for wave in range(2, 2 + WAVES):
        edge = edge + draw(own, 0.5 / wave) * torch.cos(wave * angle + draw(own, math.pi))
    radius = _radius(own)
    apart = (down.square() + (across * (1 + even(own))).square()).sqrt()
    return _inside(radius * edge.clamp_min(0.3) - apart, _edge(own, radius))


def even(own: Tensor) -> Tensor:
    """An even draw from [0, 1) for each of the images, (B, 1, 1, 1)."""
    return torch.rand(len(own), 1, 1, 1, device=own.device)


def perlin(own: Tensor, cells: int) -> Tensor:
    """Smooth noise of about `cells` hills a side, standardised, (B, 1, H, W): three octaves of interpolated draws.

    After Perlin, "An image synthesizer" (1985), with values at the knots in place of gradients.
    """
    total = torch.zeros_like(own[:, :1])
    for octave in range(3):
        knots = [max(2, min(side, cells << octave)) for side in own.shape[2:]]
        drawn = torch.randn(len(own), 1, *knots, device=own.device)
        total = total + F.interpolate(drawn, own.shape[2:], mode="bicubic", align_corners=True) / 2**octave
    return (total - total.mean((2, 3), keepdim=True)) / total.std((2, 3), correction=0, keepdim=True).clamp_min(1e-6)


def _box(own: Tensor) -> Tensor:
    """A turned rectangle."""
    down, across = _frame(own)
    radius, longer = _radius(own), draw(own, 0.7).exp()
    inside = torch.minimum(radius * longer - down.abs(), radius / longer - across.abs())
    return _inside(inside, _edge(own, radius))


def _blob(own: Tensor) -> Tensor:
    """Where smooth noise is high around a place: ragged, with holes and islands."""
    down, across = _frame(own)
    radius, noise = _radius(own), perlin(own, 8)
    hill = (-0.5 * (down.square() + across.square()) / radius.square()).exp()
    return _inside((hill * (1 + 0.4 * noise) - 0.5) * radius, _edge(own, radius))


def _scratch(own: Tensor) -> Tensor:
    """A thin bent line."""
    down, across = _frame(own)
    phase, waves = draw(own, math.pi), 2 + 6 * even(own)
    sway = torch.sin(waves * down + phase) - torch.sin(phase)
    bent = across - draw(own, 0.08) * sway - draw(own, 0.5) * down.square()
    return _line(own, bent, down)


def _crack(own: Tensor) -> Tensor:
    """A thin jagged line that forks."""
    down, across = _frame(own)
    apart = (across - _walk(own, down)).abs()
    fork = torch.where(down > 0, (across - _walk(own, down) - draw(own, 1.0) * down).abs(), torch.inf)
    return _line(own, torch.minimum(apart, fork), down)


def _walk(own: Tensor, place: Tensor) -> Tensor:
    """A random walk over [−1, 1] that is 0 at 0, taken at `place`, (B, 1, H, W) → the same."""
    steps = torch.randn(len(own), KNOTS, device=own.device) * 0.5 / KNOTS**0.5
    walk = steps.cumsum(1)
    walk = walk - walk[:, KNOTS // 2 : KNOTS // 2 + 1]
    at = ((place.clamp(-1, 1) + 1) / 2 * (KNOTS - 1)).flatten(1)
    before = at.floor().long().clamp_max(KNOTS - 2)
    share = at - before
    between: Tensor = (1 - share) * walk.gather(1, before) + share * walk.gather(1, before + 1)
    return between.view_as(place)


def _line(own: Tensor, across: Tensor, down: Tensor) -> Tensor:
    """A line of a pixel or a few along `across` = 0, as far as its length reaches."""
    side = max(own.shape[2:])
    thick = (0.6 + 1.9 * even(own) * max(1.0, side / 128)) / side
    length = 2 / side + 0.5 * even(own).square()
    return _inside(thick - across.abs(), 1) * _inside(length - down.abs(), 1)


def _frame(own: Tensor) -> tuple[Tensor, Tensor]:
    """Turned coordinates around a place in each image, (B, 1, H, W) twice; 1 is the longer side."""
    height, width = own.shape[2:]
    side = max(height, width)
    down = torch.arange(height, device=own.device).view(1, 1, -1, 1) - height * even(own)
    across = torch.arange(width, device=own.device).view(1, 1, 1, -1) - width * even(own)
    angle = math.pi * even(own)
    return (down * angle.cos() - across * angle.sin()) / side, (down * angle.sin() + across * angle.cos()) / side


def _radius(own: Tensor) -> Tensor:
    """From `SMALLEST` to `LARGEST`, evenly in its logarithm, (B, 1, 1, 1)."""
    least = min(SMALLEST / max(own.shape[2:]), LARGEST)
    return least * (LARGEST / least) ** even(own)


def _edge(own: Tensor, radius: Tensor) -> Tensor:
    """Pixels over which a mask falls from 1 to 0: one, or up to the radius where it is blurred, (B, 1, 1, 1)."""
    wide = (radius * max(own.shape[2:]) * even(own)).clamp_min(1)
    return torch.where(even(own) < BLURRED, wide, 1.0)


def _inside(depth: Tensor, edge: Tensor | float) -> Tensor:
    """How far a pixel is inside, `depth` in units of the longer side, as a soft mask: (B, 1, H, W)."""
    return (depth * max(depth.shape[2:]) / edge + 0.5).clamp(0, 1)
