"""What quantizers share whose symbols count steps: −reach … reach for each dimension."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence

import torch

from apercu.bottlenecks.base import Health, Quantizer, Use
from apercu.types import Code

ACTIVE = 0.05


class Stepped(Quantizer, ABC):
    """A quantizer with one symbol for each dimension, a whole number of steps from −`reach` to `reach`."""

    reach: int

    @torch.no_grad()
    def health(self, code: Code) -> Health:
        """Bits of every dimension; a dimension is active where it holds at least 0.05 bits."""
        health = super().health(code)
        active = sum(use.bits >= ACTIVE for use in health.symbols)
        kept = {name: health.measures[name] for name in ("perplexity", "bits")}
        return dataclasses.replace(health, measures=kept | {"active_units": float(active), "units": float(self.dim)})

    def advice(self, symbols: Sequence[Use], tokens: int) -> list[str]:
        """Warnings where the code says nothing, hardly any dimension is used, or symbols are clamped."""
        warnings = []
        active = sum(use.bits >= ACTIVE for use in symbols)
        if active == 0:
            warnings.append(
                "the code has collapsed: every image gets the same symbols. "
                "Use a smaller weight of the rate (-s rate=0.1)."
            )
        elif active < 0.1 * self.dim:
            warnings.append(
                f"only {active} of {self.dim} dimensions carry information; "
                "a smaller dim would do as well, or a smaller weight of the rate would use more of them."
            )
        clamped = sum(use.shares[0] + use.shares[-1] for use in symbols) / self.dim
        if clamped > 0.001:
            warnings.append(
                f"{clamped:.1%} of the symbols were clamped to the largest that can be written, ±{self.reach}; "
                "use a larger weight of the rate, or more dimensions."
            )
        return warnings
