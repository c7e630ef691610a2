"""The only values that cross borders: what an image is, a batch of them, their code, and a model's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from apercu.likelihoods.base import PixelDistribution


Grid = tuple[int, int]


@dataclass(frozen=True)
class ImageSpec:
    """What the images of one model have in common.

    `maximum` is the stored value that means white: 255 for 8-bit images, 65535 for 16-bit ones, 16 for scikit-learn's
    digits, 1 for floating-point arrays. `height` and `width` are the nominal size; where `uniform` is false the
    images differ in size and these are the largest.
    """

    channels: int
    height: int
    width: int
    maximum: float = 255.0
    uniform: bool = True

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return self.channels, self.height, self.width

    @property
    def dtype(self) -> str:
        """The type that the values are stored in."""
        if self.maximum == 1:
            return "float32"
        return "uint8" if self.maximum <= 255 else "uint16"

    @property
    def dimensions(self) -> int:
        """Numbers in one image, C·H·W."""
        return self.channels * self.height * self.width


@dataclass(frozen=True)
class Batch:
    """Images with their labels.

    `x`: (B, C, H, W) float32 in [0, 1]; `y`: (B,) int64, −1 where the label is unknown; `index`: (B,) int64, the
    positions in the image set, so that an error can name its images; `strong`: other views of
    the same images, (B, C, H, W), that must be given the same answer; `hidden`: (B, 1, H, W) bool, the pixels that the
    encoder does not see; `clean`: (B, C, H, W), the images as they were before `x` was damaged; `taught`: (B, K), the
    answers that must be given to `x`, probabilities; `taught_strong`: the same for `strong`, where that shows mixtures.
    """

    x: Tensor
    y: Tensor
    index: Tensor
    strong: Tensor | None = None
    hidden: Tensor | None = None
    clean: Tensor | None = None
    taught: Tensor | None = None
    taught_strong: Tensor | None = None

    @property
    def target(self) -> Tensor:
        """What the decoder must explain, (B, C, H, W): the clean images, or `x` where nothing was damaged."""
        return self.x if self.clean is None else self.clean


@dataclass(frozen=True)
class Code:
    """N tokens of D features, and what they cost.

    `z`: (B, N, D), what the decoder sees; `grid`: (h, w) with h·w = N; `mean`: (B, N, D), the code without noise,
    which recognition and search use; `costs`: prices, each (B,); `scale`: (B, N, D), the posterior's standard deviation
    where there is one; `symbols`: (B, N, S) int64, for codes that are written as symbols.
    """

    z: Tensor
    grid: Grid
    mean: Tensor
    costs: dict[str, Tensor] = field(default_factory=dict)
    scale: Tensor | None = None
    symbols: Tensor | None = None


@dataclass(frozen=True)
class Output:
    """What a model says of a batch: its code, the pixel distribution if it was decoded, the heads' answers (B, …).

    `strong`: what the heads say of the strong views; `sure`: what they say of the code without noise, gradient-free.
    """

    code: Code
    pixels: PixelDistribution | None = None
    heads: dict[str, Tensor] = field(default_factory=dict)
    strong: dict[str, Tensor] = field(default_factory=dict)
    sure: dict[str, Tensor] = field(default_factory=dict)
