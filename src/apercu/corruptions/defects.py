"""Defects as parts have them, of four kinds: pasted cuts, patches of foreign texture, scratches and stains.

    x̃ = x + a·m·(d − x),  m: a soft mask, d: what the defect shows, a: how strongly it covers

Cuts come from the same or another image of the batch, turned and jittered (Li et al., "CutPaste", 2021); textures fill
a patch of thresholded smooth noise (Zavrtanik, Kristan and Skočaj, "DRÆM", 2021). A quarter of the images stays as it
is, so that a model also learns to leave good parts alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.augment.base import draw
from apercu.corruptions.base import Graded

__all__ = ["Defects"]

UNTOUCHED = 0.25
SEEN = 0.02  # a change that is smaller in every channel is none
BENDS = 8


@dataclass(frozen=True)
class Defects(Graded):
    """A defect that covers what is below it by the strength a."""

    USUAL = (0.4, 1.0)
    MOST = 1.0
    UNIT = "how strongly a defect covers what is below it"

    def by(self, x: Tensor, strength: Tensor) -> Tensor:
        """(B, C, H, W), (B, 1, 1, 1) → the same shape."""
        damaged = _defective(x, strength)
        return torch.where(torch.rand_like(strength) < UNTOUCHED, x, damaged)

    def with_mask(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Every image with a defect, (B, C, H, W), and where it is, (B, H, W) bool: the pixels that it changed."""
        x = x.contiguous()
        with torch.no_grad():
            drawn = torch.rand(len(x), 1, 1, 1, device=x.device)
            strength = self.low + (self.high - self.low) * drawn
            damaged = _defective(x, strength).clamp(0, 1)
            # A cut of plain background shows nothing: a stain is always seen.
            same = ~_changed(x, damaged).flatten(1).any(1)
            if len(rows := same.nonzero()[:, 0]):
                stained = _covered(x[rows], strength[rows], *_stain(x, rows)).clamp(0, 1)
                damaged = damaged.index_copy(0, rows, stained)
        return damaged, _changed(x, damaged)


def _defective(x: Tensor, strength: Tensor) -> Tensor:
    """A defect of one kind in each image, all four equally often."""
    kinds = (_cut, _texture, _scratch, _stain)
    kind = torch.randint(len(kinds), (len(x),), device=x.device)
    out = x
    for number, make in enumerate(kinds):
        rows = (kind == number).nonzero()[:, 0]
        if len(rows):
            out = out.index_copy(0, rows, _covered(x[rows], strength[rows], *make(x, rows)))
    return out


def _covered(x: Tensor, strength: Tensor, mask: Tensor, shown: Tensor) -> Tensor:
    return x + strength * mask * (shown - x)


def _changed(x: Tensor, damaged: Tensor) -> Tensor:
    """(B, C, H, W) twice → (B, H, W) bool."""
    return ((damaged - x).abs() > SEEN).any(1)


def _cut(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A rectangle from elsewhere, turned, in other brightness: the mask, (b, 1, H, W), and what it shows."""
    donors = torch.where(torch.rand(len(rows), device=x.device) < 0.5, rows, torch.randint_like(rows, len(x)))
    down, across = _frame(x, rows)
    mask = torch.ones((), device=x.device)
    for away in (down, across):
        mask = mask * _soft(0.02 + 0.13 * _even(rows, x) - away.abs(), x)
    turned = _turned(x[donors], draw(x[rows], math.pi), draw(x[rows], 0.8), draw(x[rows], 0.8))
    return mask, (turned * (1 + draw(x[rows], 0.3)) + draw(x[rows], 0.15)).clamp(0, 1)


def _texture(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A patch of foreign texture: smooth noise, brighter or darker than what it covers, where other noise is high."""
    own = x[rows]
    noise, grain = _perlin(own, 8), _perlin(own, 16) + 0.5 * torch.randn_like(own[:, :1])
    noise = noise / noise.abs().amax((2, 3), keepdim=True).clamp_min(1e-6)
    near = 0.03 + 0.2 * _even(rows, x).square()
    down, across = _frame(x, rows)
    hill = (-0.5 * (down.square() + across.square()) / near.square()).exp()
    mask = _soft((hill * (1 + 0.8 * noise) - 0.19) * near, x)
    spread = own.std((2, 3), correction=0, keepdim=True).clamp_min(0.1)
    return mask, (own.mean((2, 3), keepdim=True) + _colour(own, 2) * spread + spread * grain).clamp(0, 1)


def _scratch(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A thin bent line, bright or dark."""
    own = x[rows]
    down, across = _frame(x, rows)
    length = 0.1 + 0.4 * _even(rows, x)
    phase, waves = draw(own, math.pi), 2 + 6 * _even(rows, x)
    sway = torch.sin(waves * down + phase) - torch.sin(phase)
    bent = across - draw(own, 0.08) * sway - draw(own, 0.5) * down.square()
    side = max(x.shape[2:])
    thick = (0.6 + 1.9 * _even(rows, x) * max(1.0, side / 128)) / side
    mask = _soft(thick - bent.abs(), x) * _soft(length - down.abs(), x)
    return mask, _tone(own)


def _stain(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """A blob with an uneven edge, bright or dark, that lets some of the surface through."""
    own = x[rows]
    down, across = _frame(x, rows)
    angle = torch.atan2(down, across)
    edge = torch.ones_like(angle)
    for wave in range(2, 2 + BENDS // 2):
        edge = edge + draw(own, 0.5 / wave) * torch.cos(wave * angle + draw(own, math.pi))
    radius = ((0.02 + 0.14 * _even(rows, x).square()) * edge.clamp_min(0.3)).clamp_min(1 / max(x.shape[2:]))
    apart = (down.square() + (across * (1 + _even(rows, x))).square()).sqrt()
    through = 0.3 * _even(rows, x) * (own - own.mean((2, 3), keepdim=True))
    return _soft(radius - apart, x), (_tone(own) + through).clamp(0, 1)


def _frame(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Turned coordinates around a place in each image, (b, 1, H, W) twice; 1 is the longer side."""
    height, width = x.shape[2:]
    side = max(height, width)
    down = torch.arange(height, device=x.device).view(1, 1, -1, 1) - height * _even(rows, x)
    across = torch.arange(width, device=x.device).view(1, 1, 1, -1) - width * _even(rows, x)
    angle = math.pi * _even(rows, x)
    return (down * angle.cos() - across * angle.sin()) / side, (down * angle.sin() + across * angle.cos()) / side


def _even(rows: Tensor, x: Tensor) -> Tensor:
    """An even draw from [0, 1) for each of the images, (b, 1, 1, 1)."""
    return torch.rand(len(rows), 1, 1, 1, device=x.device)


def _soft(inside: Tensor, x: Tensor) -> Tensor:
    """1 inside, 0 outside, over a pixel between them; `inside` in units of the longer side."""
    return (inside * max(x.shape[2:]) + 0.5).clamp(0, 1)


def _colour(own: Tensor, largest: float) -> Tensor:
    """A draw for each image and channel, the channels mostly alike: (b, C, 1, 1)."""
    apart = 2 * torch.rand(len(own), own.shape[1], 1, 1, device=own.device) - 1
    return 0.7 * draw(own, largest) + 0.3 * largest * apart


def _tone(own: Tensor) -> Tensor:
    """A colour that stands out from the image's own, more often a little than much, (b, C, 1, 1)."""
    mean, spread = own.mean((2, 3), keepdim=True), own.std((2, 3), correction=0, keepdim=True)
    least = (1.5 * spread).clamp(0.1, 0.2)
    sign = torch.where(torch.rand_like(mean[:, :1]) < 0.5, -1.0, 1.0)
    sign = torch.where(mean < least, 1.0, torch.where(mean > 1 - least, -1.0, sign))
    much = 0.7 * torch.rand_like(mean[:, :1]).square() + 0.1 * torch.rand_like(mean)
    return (mean + sign * (least + much)).clamp(0, 1)


def _perlin(own: Tensor, cells: int) -> Tensor:
    """Smooth noise of about `cells` hills a side, standardised, (b, 1, H, W): three octaves of interpolated draws.

    After Perlin, "An image synthesizer" (1985), with values at the knots in place of gradients.
    """
    total = torch.zeros_like(own[:, :1])
    for octave in range(3):
        knots = [max(2, min(side, cells << octave)) for side in own.shape[2:]]
        drawn = torch.randn(len(own), 1, *knots, device=own.device)
        total = total + F.interpolate(drawn, own.shape[2:], mode="bicubic", align_corners=True) / 2**octave
    return (total - total.mean((2, 3), keepdim=True)) / total.std((2, 3), correction=0, keepdim=True).clamp_min(1e-6)


def _turned(x: Tensor, angle: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """The images turned and shifted, mirrored where that leads outside, (b, C, H, W)."""
    cos, sin = angle.flatten().cos(), angle.flatten().sin()
    ratio = x.shape[2] / x.shape[3]
    rows = [torch.stack([cos, -sin * ratio, across.flatten()], 1), torch.stack([sin / ratio, cos, down.flatten()], 1)]
    grid = F.affine_grid(torch.stack(rows, 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
