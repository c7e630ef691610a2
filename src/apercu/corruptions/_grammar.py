"""How damage is written: `noise:0.2`, `noise:0.1-0.5+blur` for both in turn, `noise|holes|jpeg` for one of them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor

from apercu import registry
from apercu.augment.base import shared_out
from apercu.corruptions.base import Corruption, Graded
from apercu.errors import ApercuError

NUMBER = r"\d+\.?\d*|\.\d+"
STRENGTH = re.compile(rf"({NUMBER})(?:-({NUMBER}))?")
EXAMPLE = "write it as noise:0.2, noise:0.1-0.5+blur for both, or noise|holes for one of them"


@dataclass(frozen=True)
class Chain(Corruption):
    """One damage after the other."""

    parts: tuple[Corruption, ...]

    def damage(self, x: Tensor) -> Tensor:
        """All of them, in their order."""
        for part in self.parts:
            x = part.damage(x)
        return x


@dataclass(frozen=True)
class Either(Corruption):
    """One of several for each image, all of them equally often."""

    parts: tuple[Corruption, ...]

    def damage(self, x: Tensor) -> Tensor:
        """One of them for each image."""
        return shared_out(x, [part.damage for part in self.parts])


def parse(text: str) -> Corruption | None:
    """The damage that `text` describes, None where it is empty; `+` binds more closely than `|`.

    Raises:
        ApercuError: no such damage, or a strength that means nothing; with the names there are.
    """
    if not text.strip():
        return None
    either = tuple(_chain(part) for part in text.split("|"))
    return either[0] if len(either) == 1 else Either(either)


def _chain(text: str) -> Corruption:
    parts = tuple(_one(part) for part in text.split("+"))
    return parts[0] if len(parts) == 1 else Chain(parts)


def _one(text: str) -> Corruption:
    name, colon, amount = (part.strip() for part in text.partition(":"))
    known = registry.names("corruptions")
    if name not in known:
        raise ApercuError(f"there is no damage {name!r}; choose from {', '.join(known)}, and {EXAMPLE}")
    part: type[Graded] = registry.part("corruptions", name)
    if not colon:
        return part(*part.USUAL)
    match = STRENGTH.fullmatch(amount)
    if match is None:
        raise ApercuError(f"{text.strip()!r}: {amount!r} is no strength; {EXAMPLE}")
    low, high = match[1], match[2] or match[1]
    return part(float(low), float(high))
