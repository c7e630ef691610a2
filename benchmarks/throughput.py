"""Images per second of a training epoch: the CIFAR-10 VAE of the fifth article, three trainers, one network.

3→32→64→128 by 4×4 convolutions with stride 2 and ReLU, a 128-d Gaussian code, the mirrored decoder with a sigmoid,
Adam, batch 256. Ours is `apercu`'s own loop with its defaults; "plain" is a PyTorch loop over a DataLoader in float32;
"pythae" is pythae's trainer with the same layers. Each takes the same 12,800 images from memory; the trainers take
turns, five times after one warm-up, and the medians are compared. The same step on the processor's bf16 matrix
multiplication alone tells how much of its peak is reached.

Run: python benchmarks/throughput.py [--rounds 5]      (pythae: pip install --no-deps pythae, found on PYTHONPATH)
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.data.open import open_images
from apercu.presets import build
from apercu.train import train
from apercu.training import Training

from record import Record

IMAGES, BATCH, DIM = 12_800, 256, 128


def pictures() -> np.ndarray:
    """Smooth colour images, (N, 3, 32, 32) uint8: what is in them does not change the speed."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.random((IMAGES, 3, 4, 4), np.float32))
    return (F.interpolate(coarse, (32, 32), mode="bilinear") * 255).to(torch.uint8).numpy()


def encoder() -> nn.Sequential:
    """The article's three convolutions."""
    return nn.Sequential(
        *(nn.Conv2d(3, 32, 4, 2, 1), nn.ReLU(), nn.Conv2d(32, 64, 4, 2, 1), nn.ReLU()),
        *(nn.Conv2d(64, 128, 4, 2, 1), nn.ReLU(), nn.Flatten()),
    )


def decoder() -> nn.Sequential:
    """Their mirror."""
    return nn.Sequential(
        *(nn.Linear(DIM, 2048), nn.Unflatten(1, (128, 4, 4)), nn.ConvTranspose2d(128, 64, 4, 2, 1), nn.ReLU()),
        *(nn.ConvTranspose2d(64, 32, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(32, 3, 4, 2, 1), nn.Sigmoid()),
    )


class Plain(nn.Module):
    """The VAE as a person would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder(), decoder()
        self.mean, self.log_variance = nn.Linear(2048, DIM), nn.Linear(2048, DIM)

    def forward(self, x: Tensor) -> Tensor:
        """The negative ELBO with squared error."""
        h = self.encoder(x)
        mean, log_variance = self.mean(h), self.log_variance(h)
        z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
        error = F.mse_loss(self.decoder(z), x, reduction="sum") / len(x)
        return error - 0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(x)


def plain_epoch(images: np.ndarray) -> Callable[[], float]:
    """A PyTorch loop over a DataLoader of float32 tensors, as in the tutorials."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(images).float() / 255)
    loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
    model = Plain()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)

    def epoch() -> float:
        started = time.perf_counter()
        for (x,) in loader:
            optimizer.zero_grad()
            loss = model(x)
            loss.backward()
            optimizer.step()
        return time.perf_counter() - started

    return epoch


def pythae_epoch(images: np.ndarray) -> Callable[[], float]:
    """pythae's trainer: the time of its `train_step`, which is one epoch."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.mean, self.log_variance = encoder(), nn.Linear(2048, DIM), nn.Linear(2048, DIM)

        def forward(self, x: Tensor) -> ModelOutput:
            h = self.net(x)
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_variance(h))

    class Decoder(BaseDecoder):
        def __init__(self) -> None:
            super().__init__()
            self.net = decoder()

        def forward(self, z: Tensor) -> ModelOutput:
            return ModelOutput(reconstruction=self.net(z))

    model = VAE(VAEConfig(input_dim=(3, 32, 32), latent_dim=DIM), Encoder(), Decoder())
    config = BaseTrainerConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=BATCH, num_epochs=1, learning_rate=1e-3, no_cuda=True
    )
    x = torch.from_numpy(images).float() / 255
    trainer = BaseTrainer(model, BaseDataset(x, torch.ones(len(x))), training_config=config)
    trainer.prepare_training()

    def epoch() -> float:
        started = time.perf_counter()
        trainer.train_step(1)
        return time.perf_counter() - started

    return epoch


def apercu_epoch(images: np.ndarray) -> Callable[[], float]:
    """Our loop with its defaults: averaged weights, clipping and a check of every price are part of it."""
    data = open_images(images).split("all")
    model = build("vae", data.spec, 0, {"dim": DIM, "likelihood": "mse"})
    settings = Training(epochs=10_000, batch=BATCH, learning_rate=1e-3, device="cpu", validations=1)
    steps = train(model, data, data.subset(np.arange(BATCH)), settings)
    per_epoch = IMAGES // BATCH

    def epoch() -> float:
        started = time.perf_counter()
        for _ in range(per_epoch):
            next(steps)
        return time.perf_counter() - started

    return epoch


def bf16_peak() -> float:
    """GFLOP/s of a large bf16 matrix multiplication, the best of ten."""
    a, b = (torch.randn(2048, 2048, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        best = max(best, 2 * 2048**3 / (time.perf_counter() - started) / 1e9)
    return best


def flop_per_image() -> float:
    """Floating-point operations of one training step per image, counted by PyTorch."""
    from torch.utils.flop_counter import FlopCounterMode

    model, x = Plain(), torch.rand(8, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(x).backward()
    return float(counter.get_total_flops()) / 8


def measure(rounds: int) -> dict[str, Any]:
    """All trainers in turn; the first round warms up."""
    images = pictures()
    epochs = {"plain": plain_epoch(images), "pythae": pythae_epoch(images), "apercu": apercu_epoch(images)}
    seconds: dict[str, list[float]] = {name: [] for name in epochs}
    for number in range(rounds + 1):
        for name, epoch in epochs.items():
            spent = epoch()
            if number:
                seconds[name].append(spent)
        print({name: [round(IMAGES / s) for s in values] for name, values in seconds.items()}, flush=True)
    speed = {name: IMAGES / statistics.median(values) for name, values in seconds.items()}
    flop, peak = flop_per_image(), bf16_peak()
    return {
        "images_per_second": {name: round(value) for name, value in speed.items()},
        "all": {name: [round(IMAGES / s) for s in values] for name, values in seconds.items()},
        "against_plain": round(speed["apercu"] / speed["plain"], 2),
        "against_pythae": round(speed["apercu"] / speed["pythae"], 2),
        "mflop_per_image": round(flop / 1e6, 1),
        "bf16_peak_gflops": round(peak),
        "share_of_bf16_peak": round(speed["apercu"] * flop / 1e9 / peak, 3),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    record = Record("throughput", "images per second of one training epoch, CIFAR-10 VAE, batch 256, two cores")
    record.put("cifar-10 vae", measure(parser.parse_args().rounds))
    print(record.figures)
