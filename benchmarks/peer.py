"""pythae's VAE and VQ-VAE with our encoder and decoder layers, trained by its own trainer, for side-by-side figures."""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apercu.data.images import ImageSet
from apercu.heads import pooled
from apercu.metrics import psnr
from apercu.presets import build
from apercu.types import Code

BATCH = 250


def tensor(images: ImageSet) -> Tensor:
    """(N, C, H, W) in [0, 1]."""
    return torch.from_numpy(images.read(np.arange(len(images)))).float() / images.spec.maximum


class Peer:
    """One of pythae's models around the layers of one of our presets."""

    def __init__(self, preset: str, images: ImageSet, settings: dict[str, Any], seed: int) -> None:
        from pythae.models import VAE, VQVAE, VAEConfig, VQVAEConfig
        from pythae.models.base.base_utils import ModelOutput
        from pythae.models.nn import BaseDecoder, BaseEncoder

        torch.manual_seed(seed)
        ours = build(preset, images.spec, 0, settings)
        shape, size = images.spec.shape, (images.spec.height, images.spec.width)
        grid = ours.grid(size)
        variational = preset == "vae"

        class Encoder(BaseEncoder):
            def __init__(self) -> None:
                super().__init__()
                self.net, bottleneck = ours.encoder, ours.bottleneck
                self.heads = nn.ModuleList(
                    [bottleneck.to_mean, bottleneck.to_log_variance] if variational else [bottleneck.to_code]
                )
                self.stride = ours.encoder.stride

            def forward(self, x: Tensor) -> ModelOutput:
                bottom, right = -x.shape[2] % self.stride, -x.shape[3] % self.stride
                tokens, _ = self.net(nn.functional.pad(x, (0, right, 0, bottom), mode="replicate"))
                values = [head(tokens) for head in self.heads]
                if variational:
                    return ModelOutput(embedding=values[0].flatten(1), log_covariance=values[1].flatten(1))
                return ModelOutput(embedding=values[0].transpose(1, 2).unflatten(2, grid))

        class Decoder(BaseDecoder):
            def __init__(self) -> None:
                super().__init__()
                self.net = ours.decoder

            def forward(self, z: Tensor) -> ModelOutput:
                tokens = z.unsqueeze(1) if z.ndim == 2 else z.flatten(2).transpose(1, 2)
                raw = self.net(tokens, grid)[..., : size[0], : size[1]]
                return ModelOutput(reconstruction=raw.sigmoid())

        dim = settings["dim"]
        if variational:
            self.model = VAE(VAEConfig(input_dim=shape, latent_dim=dim), Encoder(), Decoder())
        else:
            config = VQVAEConfig(input_dim=shape, latent_dim=dim, num_embeddings=512, use_ema=True)
            self.model = VQVAE(config, Encoder(), Decoder())
        self.variational, self.grid, self.images = variational, grid, images

    def train(self, epochs: int, batch: int, learning_rate: float) -> float:
        """Train with pythae's trainer and return the seconds that it took."""
        from pythae.data.datasets import BaseDataset
        from pythae.trainers import BaseTrainer, BaseTrainerConfig

        config = BaseTrainerConfig(
            output_dir=tempfile.mkdtemp(),
            per_device_train_batch_size=batch,
            num_epochs=epochs,
            learning_rate=learning_rate,
            no_cuda=True,
        )
        x = tensor(self.images)
        trainer = BaseTrainer(self.model, BaseDataset(x, torch.ones(len(x))), training_config=config)
        started = time.monotonic()
        trainer.train()
        self.model = trainer.model.eval()
        return time.monotonic() - started

    @torch.no_grad()
    def features(self, images: ImageSet) -> np.ndarray:
        """One vector per image, pooled as ours are."""
        rows = []
        for x in tensor(images).split(BATCH):
            code = self.model.encoder(x).embedding
            if not self.variational:
                code = self._quantized(code)
                tokens = code.flatten(2).transpose(1, 2)
                code = pooled(Code(tokens, self.grid, tokens))
            rows.append(code)
        return torch.cat(rows).numpy()

    def _quantized(self, embedding: Tensor) -> Tensor:
        return self.model.quantizer(embedding.permute(0, 2, 3, 1)).quantized_vector

    @torch.no_grad()
    def measure(self, images: ImageSet) -> dict[str, float]:
        """Mean PSNR of reconstructions from the code without noise, and the share of the codebook in use."""
        values, used = [], set[int]()
        for x in tensor(images).split(BATCH):
            code = self.model.encoder(x).embedding
            if not self.variational:
                quantized = self.model.quantizer(code.permute(0, 2, 3, 1))
                used |= set(quantized.quantized_indices.flatten().tolist())
                code = quantized.quantized_vector
            values.append(psnr(x, self.model.decoder(code).reconstruction))
        result = {"psnr": float(torch.cat(values).mean())}
        return result if self.variational else result | {"codebook_use": len(used) / 512}
