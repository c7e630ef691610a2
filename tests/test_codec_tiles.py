"""Large images by tiles: symbols and pixels are those of the whole, and what cannot be cut says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import apercu
from apercu.api import Model
from apercu.codec.codec import Codec
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.presets import build
from apercu.tasks.compress import Compress
from apercu.training import Training
from apercu.types import ImageSpec
from tests.rated import bottleneck_of, codec_of, store_tables, waves


@pytest.fixture
def model(rated: Path) -> Model:
    return apercu.load(rated, device="cpu")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images(waves(24, seed=1)).split("all")


def test_tiles_leave_no_seams(model: Model) -> None:
    """Symbols and pixels are those of the whole, whatever the size of the tiles."""
    images = open_images(waves(1, 200, 300, seed=3)).split("all")
    x = torch.from_numpy(images.read([0]) / np.float32(255))
    whole = Codec(model, store_tables(model), tile=1 << 20).tiled
    assert whole is not None
    symbols, grid = whole.encode(x, 8)
    picture = whole.decode(symbols, grid, (200, 300), 8)
    for side in (64, 104):
        tiled = Codec(model, store_tables(model), tile=side).tiled
        assert tiled is not None
        assert torch.equal(tiled.encode(x, 8)[0], symbols)
        assert torch.equal(tiled.decode(symbols, grid, (200, 300), 8), picture)
    with torch.no_grad(), bottleneck_of(model).at(1.0):
        code = model.network.encode(x)
        single = model.network.decode(code.z, code.grid, (200, 300)).mean
    usual = codec_of(model).symbols.of(code)
    assert (usual != symbols).float().mean() < 1e-3  # single precision may round a few otherwise
    assert (single - picture).abs().mean() < 1e-4


def test_files_may_be_written_by_tiles_and_read_whole(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apercu.codec.codec.fast_bf16", lambda device: False)
    images = open_images(waves(1, 40, 50, seed=3)).split("all")
    codec = Codec(model, store_tables(model), tile=16)
    [[(_, coded)]] = list(codec.encode(images, quality=1.5))
    difference = np.abs(codec.decode([coded])[0].astype(int) - codec_of(model).decode([coded])[0])
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("preset", ["vqvae", "codec"])
@pytest.mark.parametrize("encoder", ["conv", "residual"])
def test_every_convolutional_network_can_be_cut(preset: str, encoder: str) -> None:
    from apercu.codec.symbols import chosen
    from apercu.codec.tiles import Tiled

    torch.manual_seed(0)
    network = build(preset, ImageSpec(2, 61, 45), 0, {"encoder": encoder, "width": 4, "dim": 4, "depth": 2}).eval()
    symbols = chosen(network)
    assert symbols is not None
    x = torch.rand(2, 2, 61, 45)
    small, large = Tiled(network, symbols, 16), Tiled(network, symbols, 999)
    (a, grid), (b, _) = small.encode(x, 0), large.encode(x, 0)
    assert torch.equal(a, b)
    assert torch.equal(small.decode(a, grid, (61, 45), 0), large.decode(b, grid, (61, 45), 0))


def test_a_network_that_looks_at_the_whole_is_not_cut(images: ImageSet) -> None:
    model = apercu.fit(waves(20), preset="ae", settings={"dim": 4, "width": 8}, training=Training(epochs=1))
    with pytest.raises(ApercuError, match="as a whole"):
        Compress(model, tile=64, steps=2).fit(model.images(waves(20)))
