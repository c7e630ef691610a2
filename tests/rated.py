"""Images and small models of the preset `codec` that several tests share; see the fixture `rated`."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import apercu
from apercu.api import Model
from apercu.bottlenecks.rated import Rated
from apercu.codec.codec import Codec
from apercu.data.open import open_images
from apercu.tasks.compress import Compress
from apercu.training import Training

PRIORS = ("factorised", "hyper", "context")
FAST = Training(epochs=30, batch=40, device="cpu", precision="32", validations=2)
SMALL = {"width": 8, "dim": 8, "depth": 2, "qualities": 3, "lam": 100.0}


def waves(count: int, height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures with an edge, (count, 1, height, width) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 16
    a, b, c, d = rng.random((4, count, 1, 1, 1))
    smooth = np.sin(5 * a * x + 4 * b) * np.cos(5 * c * y) * 70 + 128
    return np.clip(smooth + 50 * (x + y > 4 * d), 0, 255).astype(np.uint8)


def trained(out: Path, prior: str) -> Path:
    """Train a model of this prior a little, learn its tables, and keep both."""
    model = apercu.fit(waves(120), preset="codec", out=out, settings=SMALL | {"prior": prior}, training=FAST)
    Compress(model, steps=30).fit(model.images(waves(120)))
    return out


def bottleneck_of(model: Model) -> Rated:
    assert isinstance(model.network.bottleneck, Rated)
    return model.network.bottleneck


def codec_of(model: Model) -> Codec:
    return Compress(model).codec(open_images(waves(1)).split("all"))


def store_tables(model: Model) -> bytes:
    assert model.folder is not None
    return (model.folder / "compress.safetensors").read_bytes()
