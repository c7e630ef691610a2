"""Drawn scenes with masks, and small models to segment them with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from apercu.api import Model
from apercu.presets import build, defaults
from apercu.store import Recipe
from apercu.types import ImageSpec

SIDE = 40
SETTINGS: dict[str, dict[str, object]] = {
    "dae": {"width": 8, "blocks": 1},
    "vae": {"width": 4, "dim": 4},
    "vqvae": {"width": 4, "dim": 4},
    "mae": {"width": 8, "dim": 4, "blocks": 2},
    "codec": {"width": 4, "dim": 4},
}


def scene(seed: int, size: tuple[int, int] = (SIDE, SIDE), top: int = 255) -> tuple[np.ndarray, np.ndarray]:
    """A disc, 1, and a square, 2, on texture: the image (H, W) and its mask."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    image = 0.35 + 0.08 * np.sin(columns / 2 + seed) + rng.normal(0, 0.05, size)
    mask = np.zeros(size, np.uint8)
    middle = size[1] // 2
    r = int(rng.integers(6, 9))
    y, x = rng.integers(r, size[0] - r), rng.integers(r, middle - r + 3)
    mask[(rows - y) ** 2 + (columns - x) ** 2 <= r**2] = 1
    y, x = rng.integers(7, size[0] - 7), rng.integers(middle + 7, size[1] - 6)
    mask[abs(rows - y) + 0 * columns <= 5] *= 1
    mask[(abs(rows - y) <= 5) & (abs(columns - x) <= 5)] = 2
    image[mask == 1] += 0.35
    image[mask == 2] -= 0.3
    return np.clip(image * top, 0, top).astype(np.uint8 if top == 255 else np.uint16), mask


def write(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def write_scenes(
    folder: Path, seeds: range, size: tuple[int, int] = (SIDE, SIDE), levels: tuple[int, int] = (1, 2), top: int = 255
) -> Path:
    """images/ and masks/; `levels` are the values of disc and square."""
    for seed in seeds:
        image, mask = scene(seed, size, top)
        write(folder / "images" / f"{seed}.png", image)
        write(folder / "masks" / f"{seed}.png", np.array([0, *levels], np.uint8)[mask])
    return folder


def model_for(preset: str = "dae", channels: int = 1, side: int = SIDE, maximum: float = 255.0) -> Model:
    """A small model that has learnt nothing."""
    torch.manual_seed(0)
    image = ImageSpec(channels, side, side, maximum)
    settings = SETTINGS.get(preset, {})
    network = build(preset, image, 0, settings)
    return Model(network, Recipe(preset, defaults(preset) | settings, image), device="cpu")
