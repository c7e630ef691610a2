"""Autoencoder: the five parts in order.

x ──► encoder ──► bottleneck ──┬──► decoder ──► likelihood ──► p(x | z)
                               └──► heads ───► logits                    objective(all of it) ──► prices
"""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.augment import Views
from apercu.bottlenecks.base import Bottleneck
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.heads import LabelHead
from apercu.likelihoods.base import Likelihood, PixelDistribution
from apercu.objective import Objective
from apercu.types import Batch, Code, Grid, ImageSpec, Output


class Autoencoder(nn.Module):
    """An encoder, a bottleneck, a decoder with its pixel likelihood, heads and an objective.

    `fixed_size`: every image must have the size in `image`; otherwise any height and width fit. `views`: how training
    varies the images, if it does.
    """

    def __init__(
        self,
        image: ImageSpec,
        encoder: Encoder,
        bottleneck: Bottleneck,
        decoder: Decoder,
        likelihood: Likelihood,
        objective: Objective,
        label_head: LabelHead | None = None,
        views: Views | None = None,
    ) -> None:
        super().__init__()
        self.image = image
        self.encoder, self.bottleneck, self.decoder = encoder, bottleneck, decoder
        self.likelihood, self.objective = likelihood, objective
        self.heads = nn.ModuleDict({} if label_head is None else {"label": label_head})
        self.views = views
        self.fixed_size = encoder.vector

    def grid(self, size: tuple[int, int]) -> Grid:
        """The grid of the code of an image of this (height, width)."""
        stride = self.encoder.stride
        return (1, 1) if self.fixed_size else (-(-size[0] // stride), -(-size[1] // stride))

    def encode(self, x: Tensor, noise: bool = False) -> Code:
        """(B, C, H, W) in [0, 1] → Code; sides that the encoder cannot halve are padded by repeating the edge."""
        stride = self.encoder.stride
        bottom, right = -x.shape[2] % stride, -x.shape[3] % stride
        padded = F.pad(x, (0, right, 0, bottom), mode="replicate") if bottom or right else x
        features, grid = self.encoder(padded)
        code: Code = self.bottleneck(features, grid, x, noise)
        return code

    def decode(self, z: Tensor, grid: Grid, size: tuple[int, int]) -> PixelDistribution:
        """(B, N, D) on its grid → p(x | z) for images of `size` (height, width)."""
        raw: Tensor = self.decoder(z, grid)
        distribution: PixelDistribution = self.likelihood(raw[..., : size[0], : size[1]])
        return distribution

    def forward(self, batch: Batch, noise: bool | None = None, decode: bool = True) -> Output:
        """Encode, decode, and ask the heads.

        `noise` None draws the code while training and takes its mean else; without `decode` there are no pixels.
        """
        noise = self.training if noise is None else noise
        x = batch.x
        recording = torch.is_grad_enabled()
        with torch.set_grad_enabled(recording or x.requires_grad):
            code = self.encode(x, noise)
        if x.requires_grad and not recording:
            costs = {name: price.detach() for name, price in code.costs.items()}
            code = dataclasses.replace(code, z=code.z.detach(), mean=code.mean.detach(), costs=costs)
        pixels = self.decode(code.z, code.grid, (x.shape[2], x.shape[3])) if decode else None
        heads = {name: head(code) for name, head in self.heads.items()}
        if batch.strong is None:
            return Output(code, pixels, heads)
        strong = self.encode(batch.strong, noise)
        return Output(code, pixels, heads, {name: head(strong) for name, head in self.heads.items()})

    def price(self, batch: Batch, noise: bool | None = None) -> tuple[dict[str, Tensor], Output]:
        """Every term of the objective, each (B,) in nats, with the output they were read from."""
        if self.training and self.views is not None:
            batch = self.views(batch)
        if self.bottleneck.differentiates_input:
            batch = dataclasses.replace(batch, x=batch.x.detach().requires_grad_())
        output = self(batch, noise, decode=self.objective.reads_pixels)
        return self.objective.prices(output, batch), output

    def parameter_count(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
