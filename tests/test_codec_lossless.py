"""Lossless: every pixel comes back, whatever its depth and channels, also where the decoder differs a little."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays

import apercu
from apercu.codec import lossless as module
from apercu.codec.coding import Decoder, Encoder
from apercu.codec.exact import growth, logistic
from apercu.codec.learn_pixels import HIDDEN, learn_pixels
from apercu.codec.lossless import Decoding, _read_sides, _write_sides
from apercu.codec.pixels import BEFORE, OUTPUTS, WHITE, Net, PixelCoder, order, width_of
from apercu.codec.symbols import chosen
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError, FormatError
from apercu.tasks.compress import Compress
from tests.commands import run
from tests.conftest import shapes
from tests.test_codec_tasks import FAST, SMALL


def random_net(rng: np.random.Generator, plane: int, scale: int = 300) -> Net:
    count = width_of(plane)
    shapes = [(count, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, OUTPUTS), (count, OUTPUTS)]
    matrices = [rng.integers(-scale, scale, shape).astype(np.int16) for shape in shapes]
    biases = [rng.integers(-WHITE, WHITE, size).astype(np.int32) for size in (HIDDEN, HIDDEN, OUTPUTS)]
    return Net(*matrices, *biases)


def test_the_tables_are_those_of_the_functions() -> None:
    x = np.arange(-768, 769) / 64
    assert np.abs(logistic() - 2.0**16 / (1 + np.exp(-x))).max() < 1
    assert (np.diff(logistic()) >= 0).all()
    np.testing.assert_array_equal(growth(), np.floor(16 * np.exp(np.arange(193) / 16)))


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 1), (4, 7)])
def test_every_pixel_is_visited_after_its_neighbours(size: tuple[int, int]) -> None:
    seen = np.full(size, -1)
    for time, (i, j) in enumerate(order(size)):
        seen[i, j] = time
    assert (seen >= 0).all()
    for down, right in BEFORE:
        for i, j in np.ndindex(*size):
            if 0 <= i + down < size[0] and 0 <= j + right < size[1]:
                assert seen[i + down, j + right] < seen[i, j]


@given(st.integers(0, 2**32), st.sampled_from([1, 7, 16, 255, 4095, 65535]), st.integers(1, 4), st.integers(1, 6))
@settings(max_examples=25, deadline=None)
def test_pixels_come_back_under_any_network(seed: int, maximum: int, channels: int, side: int) -> None:
    rng = np.random.default_rng(seed)
    coder = PixelCoder([random_net(rng, plane) for plane in range(min(channels, 3))])
    pixels = rng.integers(0, maximum + 1, (2, channels, side, 5)) * (rng.random((2, channels, side, 5)) < 0.7)
    picture = rng.integers(0, WHITE + 1, pixels.shape)
    encoders = [Encoder(), Encoder()]
    coder.encode(pixels, picture, maximum, encoders)
    decoders = [Decoder(encoder.finish(0)) for encoder in encoders]
    np.testing.assert_array_equal(coder.decode(picture, maximum, decoders), pixels)


def test_a_good_picture_makes_pixels_cheap() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 1, 8, 8))
    picture = np.clip(pixels + rng.integers(-2, 3, pixels.shape), 0, 255) * WHITE // 255
    coder = PixelCoder(learn_pixels([(pixels[:50], picture[:50])], 255, steps=150))
    encoders = [Encoder() for _ in range(10)]
    coder.encode(pixels[50:], picture[50:], 255, encoders)
    bits = 8 * sum(len(encoder.finish(0)) for encoder in encoders) / pixels[50:].size
    assert np.log2(5) < bits < np.log2(5) + 1


def test_tables_are_kept_as_they_were_learnt() -> None:
    images = [(shapes(20)[0].astype(np.int64), np.zeros((20, 1, 16, 16), np.int64))]
    [learnt] = learn_pixels(images, 255, steps=3)
    kept = load_arrays(module.learn_lossless(images, 255, steps=3))
    for field in dataclasses.fields(Net):
        np.testing.assert_array_equal(kept[f"0.{field.name}"], getattr(learnt, field.name))


@given(st.lists(st.integers(0, 999), unique=True, max_size=20), st.integers(0, 2**20))
@settings(deadline=None)
def test_listed_pixels_come_back(places: list[int], sides: int) -> None:
    coder = Encoder()
    up = np.array([bool(sides >> k & 1) for k in range(len(places))], np.bool_)
    _write_sides(coder, np.array(sorted(places), np.int64), up)
    found, read = _read_sides(Decoder(coder.finish(0)), 1000)
    assert found.tolist() == sorted(places)
    assert (read == up).all()
    if places:
        with pytest.raises(FormatError, match="makes no sense"):
            _read_sides(Decoder(coder.finish(0)), max(places))


def model_of(images: object) -> Compress:
    compress = Compress(apercu.fit(images, preset="vqvae", settings=SMALL, training=FAST), lossless=True, steps=10)
    compress.fit(compress.model.images(images))
    return compress


@pytest.fixture(scope="module")
def exact(digits: Images) -> Compress:
    return model_of(digits)


@pytest.mark.parametrize(("channels", "depth"), [(1, 255), (3, 255), (1, 65535), (3, 65535), (5, 65535)])
def test_grey_and_colour_of_8_and_16_bits_come_back(channels: int, depth: int) -> None:
    x = shapes(40, channels, side=9)[0]
    x = x if depth == 255 else x.astype(np.uint16) * 257 + np.arange(9, dtype=np.uint16)
    compress = model_of(x)
    images = open_images(x).split("all")
    codec = compress.codec(images)
    batch = next(codec.encode(images, lossless=True))
    pixels = codec.decode([coded for _, coded in batch])
    np.testing.assert_array_equal(np.stack(pixels), x[[k for k, _ in batch]])
    assert pixels[0].dtype == x.dtype


def test_another_machine_reads_what_this_one_wrote(
    exact: Compress, digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Errors a hundred times those of double precision, and pixels in the very middle between two levels."""
    rng = np.random.default_rng(0)
    real = Decoding.__call__

    def shaken(self: Decoding, *arguments: object) -> np.ndarray:
        levels = np.round(real(self, *arguments) * 2) / 2  # type: ignore[arg-type]
        return levels + rng.uniform(-1e-9, 1e-9, levels.shape)

    monkeypatch.setattr(Decoding, "__call__", shaken)
    some = digits.test.subset(np.arange(8))
    codec = exact.codec(some)
    batch = next(codec.encode(some, lossless=True))
    pixels = codec.decode([coded for _, coded in batch])
    np.testing.assert_array_equal(np.stack(pixels), some.read(np.arange(8)))


@pytest.mark.parametrize("likelihood", ["mse", "gaussian", "bernoulli", "logistic"])
def test_the_picture_is_that_of_the_decoder_in_double_precision(likelihood: str, digits: Images) -> None:
    model = apercu.fit(digits, preset="vqvae", settings={**SMALL, "likelihood": likelihood}, training=FAST)
    [(batch, output)] = model.outputs(digits.test)
    symbols = chosen(model.network)
    assert symbols is not None
    decoding, of = Decoding(model.network, symbols), symbols.of(output.code)
    size = (batch.x.shape[2], batch.x.shape[3])
    levels = decoding(of, output.code.grid, size)
    np.testing.assert_allclose(levels / module.LEVELS, output.pixels.mean, atol=1e-5)
    assert (levels != levels.astype(np.float32)).mean() > 0.5  # no single precision on the way
    alone = np.concatenate([decoding(of[k : k + 1], output.code.grid, size) for k in range(20)])
    assert np.abs(alone - levels[:20]).max() < module.MARGIN / 1000


def test_a_machine_that_computes_otherwise_writes_no_image(
    exact: Compress, digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = exact.codec(digits.test)
    batch = next(codec.encode(digits.test.subset([0]), lossless=True))
    real = Decoding.__call__
    monkeypatch.setattr(Decoding, "__call__", lambda *arguments: real(*arguments) + 3)
    with pytest.raises(FormatError, match=r"do not come back|cannot be read"):
        codec.decode([batch[0][1]])


def test_lossless_on_the_command_line(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    x, _ = shapes(12, 3, side=10)
    for k, pixels in enumerate(x):
        Image.fromarray(np.moveaxis(pixels, 0, -1)[: 10 - k % 2]).save(pictures / f"{k:02d}.png")
    model = apercu.fit(str(pictures), preset="vqvae", out=tmp_path / "model", settings=SMALL, training=FAST)
    Compress(model, lossless=True, steps=10).fit(model.images(str(pictures)))
    command = ["compress", tmp_path / "model", pictures, "--archive", tmp_path / "all.apca", "--json"]
    assert run(*command).answer["written"] == 12
    assert run(*command, "--lossless").answer["written"] == 12
    assert run("decompress", tmp_path / "model", tmp_path / "all.apca", "-o", tmp_path / "again").status == 0
    for k in range(12):
        with Image.open(pictures / f"{k:02d}.png") as before, Image.open(tmp_path / "again" / f"{k:02d}.png") as after:
            np.testing.assert_array_equal(np.asarray(before), np.asarray(after))


def test_what_lossless_needs_is_said(exact: Compress, digits: Images) -> None:
    floats = open_images(np.random.default_rng(0).random((4, 1, 8, 8)).astype(np.float32)).split("all")
    codec = exact.codec(digits.test)
    with pytest.raises(ApercuError, match="16-bit"):
        next(codec.encode(floats, lossless=True))
    with pytest.raises(FormatError, match="restore them from a copy"):
        module.Lossless(exact.model.network, codec.symbols, save_arrays({"x": np.zeros(3)}))
