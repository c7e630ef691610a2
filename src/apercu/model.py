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
from apercu.augment.mixup import mixed
from apercu.bottlenecks.base import Bottleneck
from apercu.corruptions import Corruption
from apercu.decoders.base import Decoder
from apercu.encoders.base import Encoder
from apercu.encoders.pretrained import Pretrained
from apercu.heads import ContrastHead, LabelHead, MarkHead
from apercu.likelihoods.base import Likelihood, PixelDistribution
from apercu.masking import Masking
from apercu.objective import Objective
from apercu.types import Batch, Code, Grid, ImageSpec, Output


class Autoencoder(nn.Module):
    """An encoder, a bottleneck, a decoder with its pixel likelihood, heads and an objective.

    `fixed_size`: every image must have the size in `image`; otherwise any height and width fit. `views`: how training
    varies the images, if it does; `masking`: what it hides of them, which must then be predicted.
    `backbone`: a pretrained encoder whose features stand in place of the pixels, for everything above it.
    `corruption`: the damage that training does to the images and the decoder must undo.
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
        masking: Masking | None = None,
        backbone: Pretrained | None = None,
        corruption: Corruption | None = None,
        mark_head: MarkHead | None = None,
        contrast_head: ContrastHead | None = None,
    ) -> None:
        super().__init__()
        self.image = image
        self.encoder, self.bottleneck, self.decoder = encoder, bottleneck, decoder
        self.likelihood, self.objective = likelihood, objective
        heads = {"label": label_head, "mark": mark_head, "contrast": contrast_head}
        self.heads = nn.ModuleDict({name: head for name, head in heads.items() if head is not None})
        self.views, self.masking, self.corruption = views, masking, corruption
        self.backbone = backbone
        self.fixed_size = encoder.vector and backbone is None

    def grid(self, size: tuple[int, int]) -> Grid:
        """The grid of the code of an image of this (height, width)."""
        stride = self.encoder.stride
        return (1, 1) if self.encoder.vector else (-(-size[0] // stride), -(-size[1] // stride))

    def seen(self, x: Tensor) -> Tensor:
        """What the encoder sees of (B, C, H, W): the same, or the features of the backbone, (B, F, 1, 1).

        Features are known by their number and stay as they are.
        """
        if self.backbone is None or x.shape[1] == self.backbone.features:
            return x
        features: Tensor = self.backbone(x)[0]
        return features.transpose(1, 2).unsqueeze(3)

    @property
    def above(self) -> Autoencoder:
        """The same parts without the backbone: what there is to train where that is frozen."""
        if self.backbone is None:
            return self
        parts = self.encoder, self.bottleneck, self.decoder, self.likelihood, self.objective
        above = Autoencoder(self.backbone.image, *parts)
        above.heads = self.heads
        return above

    def encode(self, x: Tensor, noise: bool = False, hidden: Tensor | None = None) -> Code:
        """(B, C, H, W) in [0, 1] → Code; sides that the encoder cannot halve are padded by repeating the edge.

        Of pixels that are `hidden`, (B, 1, H, W) bool, the code knows nothing.
        """
        x = self.seen(x)
        stride = self.encoder.stride
        bottom, right = -x.shape[2] % stride, -x.shape[3] % stride

        def padded(values: Tensor) -> Tensor:
            return F.pad(values, (0, right, 0, bottom), mode="replicate") if bottom or right else values

        if hidden is None:
            features, grid = self.encoder(padded(x))
        else:
            features, grid = self.encoder.masked(padded(x), padded(hidden.to(x.dtype)) > 0)
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
            code = self.encode(x, noise, batch.hidden)
        if x.requires_grad and not recording:
            costs = {name: price.detach() for name, price in code.costs.items()}
            code = dataclasses.replace(code, z=code.z.detach(), mean=code.mean.detach(), costs=costs)
        pixels = self.decode(code.z, code.grid, (x.shape[2], x.shape[3])) if decode else None
        heads = {name: head(code) for name, head in self.heads.items()}
        if batch.strong is None:
            return Output(code, pixels, heads)
        strong = self.encode(batch.strong, noise)
        with torch.no_grad():
            calm = dataclasses.replace(code, z=code.mean)
            sure = {name: head(calm) for name, head in self.heads.items()}
        return Output(code, pixels, heads, {name: head(strong) for name, head in self.heads.items()}, sure)

    def price(self, batch: Batch, noise: bool | None = None) -> tuple[dict[str, Tensor], Output]:
        """Every term of the objective, each (B,) in nats, with the output they were read from."""
        if self.training and self.views is not None:
            batch = mixed(self.views(batch))
        if self.training and self.corruption is not None:
            batch = self.corruption.damaged(batch)
        batch = dataclasses.replace(batch, x=self.seen(batch.x))
        if self.bottleneck.differentiates_input:
            batch = dataclasses.replace(batch, x=batch.x.detach().requires_grad_())
        masking = self.masking if self.objective.reads_pixels and batch.hidden is None else None
        if masking is not None and self.training:
            batch = masking.drawn(batch)
        output = self(batch, noise, decode=self.objective.reads_pixels)
        if masking is None or self.training:
            return self.objective.prices(output, batch), output
        # Which patches chance would hide is no part of a score.
        each = [self.objective.prices(self(one, noise), one) for one in masking.fixed(batch)]
        return {name: torch.stack([prices[name] for prices in each]).mean(0) for name in each[0]}, output

    def parameter_count(self) -> int:
        """How many numbers are learnt."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)
