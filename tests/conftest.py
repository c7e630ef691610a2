"""What every test shares: one thread per worker, images that it draws, and the real ones where they are."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest

from apercu.cli.signatures import preset_signatures
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images

DRAWING = [name for name in preset_signatures() if name != "features"]
"""The presets that decode pixels and need nothing from elsewhere; for the other one see test_pretrained."""

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images; tests that need it are skipped where it is missing."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real images is not here")
    return SHARED


def shapes(count: int, channels: int = 1, side: int = 16, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Bright squares and crosses on dark noise: (count, channels, side, side) uint8, labels 0 and 1."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 40, (count, channels, side, side)).astype(np.uint8)
    y = np.arange(count) % 2
    for i in range(count):
        top, left = rng.integers(1, side // 2, 2)
        size = side // 3
        if y[i] == 0:
            x[i, :, top : top + size, left : left + size] = 220
        else:
            x[i, :, top : top + size, left + size // 2] = 220
            x[i, :, top + size // 2, left : left + size] = 220
    return x, y


@pytest.fixture(scope="session")
def digits() -> Images:
    return open_images("sklearn:digits")


@pytest.fixture(scope="session")
def drawn() -> ImageSet:
    """200 drawn images of two classes."""
    return open_images(shapes(200)).split("all")


@pytest.fixture(scope="session", params=("factorised", "hyper"))
def rated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small `codec` of each prior that was trained a little, with its tables."""
    from tests.rated import trained

    return trained(tmp_path_factory.mktemp("rated") / "model", request.param)
