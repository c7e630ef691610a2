"""One number and one heat map for each image, from one score or several that were put on one scale.

    s(x) = mean over scores k of (s_k(x) − μ_k) / σ_k,  μ_k, σ_k over normal images that nothing was learnt from

Maps are joined in the same way. Images larger than a window are looked at in windows that overlap: their maps are
blended, and the oddest window decides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu import registry
from apercu.anomaly.base import Arrays, Score
from apercu.api import Model, batch_size
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.tiles import blend, cut
from apercu.errors import ApercuError

Floats = NDArray[np.float64]
WINDOW = 512


@dataclass(frozen=True)
class Scale:
    """μ and σ of a score, and of the pixels of its map."""

    centre: float = 0.0
    spread: float = 1.0
    map_centre: float = 0.0
    map_spread: float = 1.0


@dataclass(frozen=True)
class Member:
    """A fitted score on its scale, `counted` in the score of an image, and its map `drawn`, where it has one."""

    name: str
    score: Score
    scale: Scale = Scale()
    counted: bool = True
    drawn: bool = True


@dataclass(frozen=True)
class Seen:
    """What is said of the image at `index`: `each` score before it is scaled, (M,), and the heat map, (H, W)."""

    index: int
    each: Floats
    heat: NDArray[np.float32] | None


def make(model: Model, name: str, seed: int) -> Score:
    """The score of that name, not fitted.

    Raises:
        ApercuError: there is none, or this model lacks what it needs.
    """
    known = registry.names("anomaly")
    if name not in known:
        raise ApercuError(
            f"there is no score {name!r}; choose auto, one of {', '.join(known)}, or several as bank+pixel"
        )
    part: type[Score] = registry.part("anomaly", name)
    if lacking := part.lacks(model):
        raise ApercuError(f"the score {name} cannot be had of this model: {lacking}; choose another, or auto")
    return part(model, seed)


def possible(model: Model) -> list[str]:
    """The scores that this model can give, without the trivial ones."""
    parts = ((name, registry.part("anomaly", name)) for name in registry.names("anomaly"))
    return [name for name, part in parts if not part.trivial and not part.lacks(model)]


class Detector:
    """Fitted scores of one model, used together."""

    def __init__(self, model: Model, members: Sequence[Member]) -> None:
        self.model, self.members = model, list(members)
        image = model.recipe.image
        fixed = model.network.fixed_size
        self.window = (image.height, image.width) if fixed else (WINDOW, WINDOW)

    def fit(self, normal: ImageSet) -> None:
        """Fit every score to normal images, in windows where they are large."""
        windows = cut(normal, self.window).images
        for member in self.members:
            member.score.fit(windows)

    def scan(self, images: ImageSet, heat: bool = True) -> Iterator[Seen]:
        """Every image once, in any order; without `heat` there are no maps."""
        tiling = cut(images, self.window)
        if tiling.images is images:
            yield from self._look(images, heat)
            return
        for k in range(len(images)):
            own = np.flatnonzero(tiling.owner == k)
            parts = sorted(self._look(tiling.images.subset(own), heat), key=lambda seen: seen.index)
            maps = [part.heat for part in parts if part.heat is not None]
            size = (int(images.sizes[k, 0]), int(images.sizes[k, 1]))
            whole = blend(maps, [tuple(box) for box in tiling.boxes[own].tolist()], size) if maps else None
            yield Seen(k, np.max([part.each for part in parts], axis=0), whole)

    def _look(self, images: ImageSet, heat: bool) -> Iterator[Seen]:
        for batch in in_order(images, batch_size(images.spec), self.model.device):
            seen = [m.score.both(batch.x) if heat and m.drawn else (m.score.score(batch.x), None) for m in self.members]
            each = np.stack([scores.cpu().numpy() for scores, _ in seen], 1).astype(np.float64)
            maps = self._heat([values for _, values in seen])
            for row, index in enumerate(batch.index.tolist()):
                yield Seen(index, each[row], None if maps is None else maps[row])

    def _heat(self, found: list[Tensor | None]) -> NDArray[np.float32] | None:
        """The maps of the members, (B, H, W) where they have one, on one scale: (B, H, W)."""
        scales = (m.scale for m in self.members)
        maps = [
            (values - scale.map_centre) / scale.map_spread
            for scale, values in zip(scales, found, strict=True)
            if values is not None
        ]
        return torch.stack(maps).mean(0).float().cpu().numpy() if maps else None

    def each(self, images: ImageSet) -> Floats:
        """Every score of every image before it is scaled, (N, M)."""
        values = np.zeros((len(images), len(self.members)))
        for seen in self.scan(images, heat=False):
            values[seen.index] = seen.each
        return values

    def joined(self, each: Floats) -> Floats:
        """One number for each image, (N, M) → (N,)."""
        columns = [(each[:, k] - m.scale.centre) / m.scale.spread for k, m in enumerate(self.members) if m.counted]
        joined: Floats = np.mean(columns, axis=0)
        return joined

    def scaled(self, normal: ImageSet, each: Floats) -> Detector:
        """The same with scales measured on normal images, whose scores are (N, M)."""
        members = []
        for k, member in enumerate(self.members):
            centre, spread = _moments(each[:, k])
            pixels = (
                [m for x in member.score.batches(cut(normal, self.window).images) for m in _some_pixels(member, x)]
                if member.drawn
                else []
            )
            map_centre, map_spread = _moments(np.concatenate(pixels)) if pixels else (0.0, 1.0)
            members.append(replace(member, scale=Scale(centre, spread, map_centre, map_spread)))
        return Detector(self.model, members)

    def arrays(self) -> Arrays:
        """Everything that was fitted, by score and name."""
        return {f"{m.name}.{key}": values for m in self.members for key, values in m.score.arrays().items()}

    def words(self) -> list[dict[str, Any]]:
        """The scores with their scales."""
        return [{"name": m.name, "counted": m.counted, "drawn": m.drawn, **vars(m.scale)} for m in self.members]


def restored(model: Model, words: Sequence[dict[str, Any]], arrays: Arrays, seed: int) -> Detector:
    """A detector from what `words` and `arrays` gave."""
    members = []
    for entry in words:
        rest = dict(entry)
        name, counted, drawn = rest.pop("name"), rest.pop("counted"), rest.pop("drawn", True)
        score = make(model, name, seed)
        start = f"{name}."
        score.restore({key.removeprefix(start): values for key, values in arrays.items() if key.startswith(start)})
        members.append(Member(name, score, Scale(**rest), counted, drawn))
    return Detector(model, members)


def _moments(values: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation; 1 where nothing varies."""
    spread = float(np.std(values, dtype=np.float64))
    return float(np.mean(values, dtype=np.float64)), spread if spread > 1e-12 else 1.0


def _some_pixels(member: Member, x: Tensor) -> list[NDArray[np.float32]]:
    """At most a thousand values of the map of each image, evenly spread."""
    maps = member.score.map(x)
    if maps is None:
        return []
    flat = maps.flatten(1)
    return [flat[:, :: max(1, flat.shape[1] // 1000)].flatten().float().cpu().numpy()]
