"""Files become what a person sees, at full depth, or are named with a reason."""

import contextlib
import importlib.util
import pickle
import sys
from io import BytesIO
from pathlib import Path
from types import ModuleType

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from apercu.data import decode as decoding
from apercu.data import open_images
from apercu.data.convert import DEPTHS, Widen, grey, parse_size, resize
from apercu.data.decode import decode, decode_file
from apercu.errors import ApercuError

RNG = np.random.default_rng(0)


def odd_files() -> ModuleType:
    path = Path(__file__).parent.parent / "benchmarks" / "odd_files.py"
    spec = importlib.util.spec_from_file_location("odd_files", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["odd_files"] = module
    spec.loader.exec_module(module)
    return module


def test_every_odd_file_is_read_rightly_or_named(tmp_path: Path) -> None:
    odd = odd_files()
    made = odd.make(tmp_path)
    opened = open_images(tmp_path)
    verdicts = {one.name: odd.judge(one, tmp_path, opened) for one in made}
    assert {name: v for name, v in verdicts.items() if v.startswith("WRONG")} == {}
    assert set(opened.split("all").ids) | {p.id for p in opened.problems} == set(verdicts)
    assert all(len(problem.reason) > 10 for problem in opened.problems)
    with pytest.raises(ApercuError, match="could not be read, the first being"):
        open_images(tmp_path, strict=True)


@given(arrays(np.uint16, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]))))
def test_sixteen_bits_are_exact(pixels: np.ndarray) -> None:
    expected = np.moveaxis(pixels, -1, 0)
    plain = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    decoded = decode(imagecodecs.png_encode(plain)).pixels
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, expected)


@given(
    st.binary(max_size=200),
    st.sampled_from([b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"RIFF", b"GIF89a"]),
)
def test_no_bytes_crash_the_decoder(body: bytes, heading: bytes) -> None:
    with pytest.raises(ApercuError):
        decode(heading + body)


@given(st.integers(0, 2000), st.integers(0, 255), st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP", "BMP", "GIF"]))
def test_damage_is_named_or_read_but_never_crashes(place: int, value: int, kind: str) -> None:
    out = BytesIO()
    Image.fromarray((np.indices((20, 20)).sum(0) * 6).astype(np.uint8)).save(out, kind)
    whole = bytearray(out.getvalue())
    whole[place % len(whole)] = value
    with contextlib.suppress(ApercuError):
        pixels = decode(bytes(whole)).pixels
        assert pixels.ndim == 3
        assert pixels.dtype in DEPTHS


def test_five_channels_keep_their_depth(tmp_path: Path) -> None:
    for dtype in (np.uint8, np.uint16):
        pixels = RNG.integers(0, 255, (12, 10, 5)).astype(dtype)
        path = tmp_path / f"{np.dtype(dtype).name}.tif"
        tifffile.imwrite(path, pixels, photometric="minisblack", planarconfig="contig")
        np.testing.assert_array_equal(decode_file(path).pixels, np.moveaxis(pixels, -1, 0))
        assert open_images(path).train.spec.channels == 5


def test_jpeg_reads_the_same_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("simplejpeg")
    smooth = np.asarray(Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize((61, 47)))
    for name, image in {"colour": smooth, "grey": smooth[..., 0]}.items():
        for subsampling in (0, 2):
            path = tmp_path / f"{name}{subsampling}.jpg"
            Image.fromarray(image).save(path, quality=90, **({} if name == "grey" else {"subsampling": subsampling}))
            fast = decode_file(path).pixels
            with monkeypatch.context() as patch:
                patch.setattr(decoding, "_simplejpeg", lambda: None)
                np.testing.assert_array_equal(fast, decode_file(path).pixels)


def test_mixed_kinds_are_widened_and_it_is_said(tmp_path: Path) -> None:
    colour = RNG.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    deep = RNG.integers(0, 65536, (8, 8), dtype=np.uint16)
    Image.fromarray(colour).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(imagecodecs.png_encode(deep))
    opened = open_images(tmp_path)
    everything = opened.split("all")
    np.testing.assert_array_equal(everything.read([0])[0], np.moveaxis(colour, -1, 0).astype(np.uint16) * 257)
    np.testing.assert_array_equal(everything.read([1])[0], np.repeat(deep[None], 3, axis=0))
    assert everything.spec.maximum == 65535
    assert "1 image: grey was widened to colour" in opened.notes
    assert "1 image: uint8 was widened to uint16 (×257, exact)" in opened.notes
    assert opened.kinds == {"8-bit colour": 1, "16-bit grey": 1}
    reduced = open_images(tmp_path, channels=1).split("all")
    assert reduced.spec.channels == 1
    with pytest.raises(ApercuError, match="has 3 channels where 5 are needed"):
        open_images(tmp_path, channels=5)


def test_mixed_sizes_have_a_policy(tmp_path: Path) -> None:
    pixels = {"a": RNG.integers(0, 256, (20, 30), dtype=np.uint8), "b": RNG.integers(0, 256, (10, 12), dtype=np.uint8)}
    for name, image in pixels.items():
        Image.fromarray(image).save(tmp_path / f"{name}.png")
    left = open_images(tmp_path).split("all")
    assert not left.spec.uniform
    assert left.spec.shape == (1, 20, 30)
    np.testing.assert_array_equal(left.read([1])[0, 0], pixels["b"])
    with pytest.raises(ApercuError, match="differ in size"):
        left.read([0, 1])
    cropped = open_images(tmp_path, size=8, fit="crop").split("all")
    np.testing.assert_array_equal(cropped.read([0, 1])[:, 0], [pixels["a"][6:14, 11:19], pixels["b"][1:9, 2:10]])
    padded = open_images(tmp_path, size="20x30", fit="pad").split("all")
    np.testing.assert_array_equal(padded.read([1])[0, 0], np.pad(pixels["b"], ((5, 5), (9, 9)), mode="edge"))
    assert open_images(tmp_path, size=(5, 7), fit="resize").split("all").read([0, 1]).shape == (2, 1, 5, 7)
    for size, fit, advice in (
        (8, "error", "choose fit="), (15, "crop", "too small to crop"), (15, "pad", "too large to pad"),
        (None, "resize", "name the size"), ("big", "resize", "is not a size"), (8, "squash", "there is no fit"),
    ):  # fmt: skip
        with pytest.raises(ApercuError, match=advice):
            open_images(tmp_path, size=size, fit=fit)


def test_resizing_averages_and_stays_in_range() -> None:
    board = (np.indices((64, 64)).sum(0) % 2 * 65535).astype(np.uint16)[None]
    assert np.abs(resize(board, (8, 8)).astype(int) - 32768).max() < 700
    steps = RNG.choice(np.array([300, 60_000], np.uint16), (1, 9, 9))
    grown = resize(steps, (40, 40))
    assert (grown.min(), grown.max()) == (300, 60_000)
    flat = np.full((3, 5, 5), 0.3, np.float32)
    np.testing.assert_array_equal(resize(flat, (9, 2)), np.full((3, 9, 2), 0.3, np.float32))


def test_grey_is_what_pillow_calls_grey() -> None:
    pixels = RNG.integers(0, 256, (3, 16, 16), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(np.moveaxis(pixels, 0, -1)).convert("L"))
    np.testing.assert_array_equal(grey(pixels)[0], expected)
    deep = RNG.integers(0, 65536, (3, 4, 4), dtype=np.uint16)
    exact = 0.299 * deep[0] + 0.587 * deep[1] + 0.114 * deep[2]
    assert np.abs(grey(deep)[0] - exact).max() <= 1
    assert (grey(np.full((2, 3, 4, 4), 65535, np.uint16)) == 65535).all()
    assert Widen(1, 2)(pixels).max() <= 1


def test_streamed_images_equal_those_in_memory(tmp_path: Path) -> None:
    odd = odd_files()
    odd.make_pillow_files(tmp_path)
    for size, fit in ((None, "error"), (16, "resize")):
        kept = open_images(tmp_path, size=size, fit=fit).split("all")
        streamed = open_images(tmp_path, size=size, fit=fit, memory=10).split("all")
        assert type(kept.pixels) is not type(streamed.pixels)
        for i in range(len(kept)):
            np.testing.assert_array_equal(kept.read([i]), streamed.read([i]))
        np.testing.assert_array_equal(kept.hashes, streamed.hashes)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(streamed)).read([3]), kept.read([3]))  # noqa: S301


def test_a_file_that_changes_after_opening_is_named(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(RNG.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    streamed = open_images(tmp_path, memory=1).split("all")
    Image.new("L", (9, 9)).save(tmp_path / "1.png")
    with pytest.raises(ApercuError, match=r"1\.png: it changed since"):
        streamed.read([0, 1])
    (tmp_path / "1.png").unlink()
    with pytest.raises(ApercuError, match=r"1\.png: there is no such file"):
        streamed.read([1])


def test_progress_is_told_for_every_image(tmp_path: Path) -> None:
    for i in range(5):
        Image.new("L", (4, 4), i).save(tmp_path / f"{i}.png")
    told: list[tuple[int, int]] = []
    open_images(tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told == [(i + 1, 5) for i in range(5)]


def test_sizes_are_written_as_height_by_width() -> None:
    assert parse_size("48x64") == (48, 64)
    assert parse_size(64) == parse_size("64") == (64, 64)
    assert parse_size((3, 4)) == (3, 4)
    assert parse_size(None) is None
    for bad in ("0", "x", "3x4x5", "-1", "1e3"):
        with pytest.raises(ApercuError, match="is not a size"):
            parse_size(bad)
