"""Write one of every broken or odd image file among ordinary ones, open them all, and see what is read.

usage: python benchmarks/odd_files.py [FOLDER]  -> benchmarks/results/odd_files.json
"""

from __future__ import annotations

import json
import os
import struct
import sys
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image

from apercu.data import Images, open_images
from apercu.errors import ApercuError

RESULT = Path(__file__).parent / "results" / "odd_files.json"
ORDINARY = 20
Pixels = NDArray[Any]


@dataclass(frozen=True)
class Odd:
    """One file: the (C, H, W) that must be read from it, or None where it must be named and skipped."""

    name: str
    pixels: Pixels | None
    tolerance: int = 0


def picture(seed: int, channels: int = 3, height: int = 24, width: int = 32, white: int = 255) -> Pixels:
    """A smooth picture, (C, H, W), different for every seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    waves = [np.sin(rng.uniform(2, 6) * x + rng.uniform(2, 6) * y + rng.uniform(0, 6)) for _ in range(channels)]
    pixels = np.rint((np.stack(waves) + 1) / 2 * white)
    return pixels.astype(np.uint8 if white == 255 else np.uint16)


def last(pixels: Pixels) -> Pixels:
    """(C, H, W) to what file writers take: (H, W) or (H, W, C)."""
    return np.ascontiguousarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))


def save(path: Path, pixels: Pixels, kind: str, **options: object) -> None:
    """Write (C, H, W) by Pillow."""
    Image.fromarray(last(pixels)).save(path, kind, **options)


def png(
    width: int, height: int, depth: int, colour: int, body: bytes, interlaced: int = 0, bad_crc: bool = False
) -> bytes:
    """A PNG put together by hand."""

    def chunk(name: bytes, data: bytes, flip: int = 0) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data) ^ flip)

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(body), int(bad_crc))
        + chunk(b"IEND", b"")
    )


def adam7(pixels: Pixels) -> bytes:
    """The scan lines of an interlaced grey PNG."""
    steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    lines = (line for y, x, dy, dx in steps for line in pixels[0, y::dy, x::dx])
    return b"".join(b"\0" + line.tobytes() for line in lines if line.size)


def tiff_12_bits(values: Pixels) -> bytes:
    """A grey TIFF of 12 bits for each pixel, packed, put together by hand; the width is even."""
    _, height, width = values.shape
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = ((pairs[:, 0] << 12) | pairs[:, 1]).astype(">u4").view(np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    tags = [
        (256, width),
        (257, height),
        (258, 12),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, len(packed)),
    ]
    entries = b"".join(struct.pack(">HHII", tag, 4, 1, value) for tag, value in tags)
    return (
        struct.pack(">2sHI", b"MM", 42, 8 + len(packed)) + packed + struct.pack(">H", len(tags)) + entries + b"\0" * 4
    )


def encoded(pixels: Pixels, kind: str, **options: object) -> bytes:
    """The bytes that Pillow writes for (C, H, W)."""
    out = BytesIO()
    Image.fromarray(last(pixels)).save(out, kind, **options)
    return out.getvalue()


def turned(upright: Pixels, orientation: int) -> Pixels:
    """How a camera stores `upright` when it says `orientation`."""
    turns: dict[int, Callable[[Pixels], Pixels]] = {
        1: lambda p: p, 2: lambda p: p[:, :, ::-1], 3: lambda p: p[:, ::-1, ::-1], 4: lambda p: p[:, ::-1],
        5: lambda p: p.swapaxes(1, 2), 6: lambda p: np.rot90(p, 1, (1, 2)),
        7: lambda p: p[:, ::-1, ::-1].swapaxes(1, 2), 8: lambda p: np.rot90(p, -1, (1, 2)),
    }  # fmt: skip
    return turns[orientation](upright)


def make_pillow_files(folder: Path) -> list[Odd]:
    """What Pillow writes: palettes, transparency, rotation, animation, and one of each format."""
    colour, grey = picture(100), picture(101, 1)
    made: list[Odd] = []

    def add(name: str, pixels: Pixels | None, tolerance: int = 0) -> Path:
        made.append(Odd(name, pixels, tolerance))
        return folder / name

    red = np.zeros((3, 24, 32), np.uint8)
    red[0] = 255
    Image.new("CMYK", (32, 24), (0, 255, 255, 0)).save(add("cmyk.jpg", red, 4), "JPEG", quality=95)
    save(add("progressive.jpg", colour, 30), colour, "JPEG", quality=95, progressive=True)
    for orientation in range(1, 9):
        path = add(f"exif_{orientation}.jpg", grey, 12)
        save(path, turned(grey, orientation), "JPEG", quality=98, exif=exif_of(orientation))
    save(add("exif_6.png", colour), turned(colour, 6), "PNG", exif=exif_of(6))
    save(add("exif_8.webp", colour), turned(colour, 8), "WEBP", lossless=True, exif=exif_of(8))
    palette = Image.fromarray(np.arange(24 * 32, dtype=np.uint8).reshape(24, 32) % 4)
    palette.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    shown = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)[np.asarray(palette)]
    palette.save(add("palette.png", np.moveaxis(shown, -1, 0)), "PNG")
    clear = shown.copy()
    clear[np.asarray(palette) == 2] = 255
    palette.save(add("palette_transparent.png", np.moveaxis(clear, -1, 0)), "PNG", transparency=2)
    palette.putpalette([0, 0, 0, 80, 80, 80, 160, 160, 160, 255, 255, 255])
    steps = np.array([0, 80, 160, 255], np.uint8)[np.asarray(palette)]
    palette.save(add("palette_grey.png", steps[None]), "PNG")
    alpha = np.linspace(0, 255, 24 * 32).reshape(1, 24, 32).astype(np.uint8)
    for name, base in (("la.png", grey), ("rgba.png", colour)):
        mixed = (base * (alpha / 255) + 255 - alpha).round()
        save(add(name, mixed.astype(np.uint8), 1), np.concatenate([base, alpha]), "PNG")
    keyed = colour.copy()
    keyed[:, :5] = 7
    save(
        add("colour_key.png", np.where((keyed == 7).all(0), 255, keyed).astype(np.uint8)),
        keyed,
        "PNG",
        transparency=(7, 7, 7),
    )
    bits = grey > 127
    Image.fromarray(bits[0]).save(add("bilevel.png", bits.astype(np.uint8) * np.uint8(255)), "PNG")
    Image.fromarray(bits[0]).save(add("fax.tif", bits.astype(np.uint8) * np.uint8(255)), "TIFF", compression="group4")
    frames = [Image.fromarray(g[0]) for g in (grey, 255 - grey)]
    frames[0].save(add("animated.gif", grey), "GIF", save_all=True, append_images=frames[1:])
    frames[0].save(add("animated.png", grey), "PNG", save_all=True, append_images=frames[1:])
    for name, pixels in (("one_pixel.png", picture(102, 3, 1, 1)), ("one_row.png", picture(103, 1, 1, 5000))):
        save(add(name, pixels), pixels, "PNG")
    save(add("with blank and ñandú 図.png", colour), colour, "PNG")
    save(add("jpeg_named.png", colour, 30), colour, "JPEG", quality=95)
    save(add("lossy.webp", colour, 40), colour, "WEBP", quality=95)
    save(add("lossless.webp", colour), colour, "WEBP", lossless=True)
    save(add("picture.avif", colour, 40), colour, "AVIF", quality=95)
    save(add("picture.bmp", colour), colour, "BMP")
    save(add("picture.ico", picture(104, 3, 32, 32)), picture(104, 3, 32, 32), "ICO", sizes=[(32, 32)])
    save(add("picture.jp2", colour), colour, "JPEG2000", irreversible=False)
    save(add("picture.tga", colour), colour, "TGA")
    (folder / "folder.png").mkdir()
    save(add("folder.png/inside.png", grey), grey, "PNG")
    return made


def exif_of(orientation: int) -> Image.Exif:
    """EXIF data that say how to turn an image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def make_deep_files(folder: Path) -> list[Odd]:
    """What Pillow would cut to 8 bits or refuse: 16 bits, float, and the layouts of TIFF."""
    colour, colour16, grey16 = picture(200), picture(201, 3, white=65535), picture(202, 1, white=65535)
    floats = (picture(203) / 255).astype(np.float32)
    made: list[Odd] = []

    def write(name: str, pixels: Pixels | None, data: bytes) -> None:
        (folder / name).write_bytes(data)
        made.append(Odd(name, pixels))

    def tiff(name: str, pixels: Pixels | None, stored: Pixels, photometric: str, **options: object) -> None:
        tifffile.imwrite(folder / name, stored, photometric=photometric, **options)
        made.append(Odd(name, pixels))

    write("grey16.png", grey16, imagecodecs.png_encode(last(grey16)))
    write("colour16.png", colour16, imagecodecs.png_encode(last(colour16)))
    full = np.concatenate([colour16, np.full((1, 24, 32), 65535, np.uint16)])
    write("rgba16.png", colour16, imagecodecs.png_encode(last(full)))
    write("colour16.jp2", colour16, imagecodecs.jpeg2k_encode(last(colour16), level=0, reversible=True))
    write("grey16.pgm", grey16, b"P5 32 24 65535\n" + grey16.astype(">u2").tobytes())
    small = picture(204, 1, 19, 21)
    write("interlaced.png", small, png(21, 19, 8, 0, adam7(small), interlaced=1))
    twelve = grey16 >> np.uint16(4)
    write("twelve_bits.tif", np.rint(twelve * (65535 / 4095)).astype(np.uint16), tiff_12_bits(twelve))
    tiff("grey16.tif", grey16, last(grey16), "minisblack")
    tiff("colour16.tif", colour16, last(colour16), "rgb")
    tiff("twelve_of_sixteen.tif", twelve, last(twelve), "minisblack")
    tiff("float.tif", floats[:1], last(floats[:1]), "minisblack")
    tiff("float_colour.tif", floats, last(floats), "rgb")
    tiff("float_double.tif", floats, last(floats).astype(np.float64), "rgb")
    tiff("float_to_4000.tif", None, last(floats) * 4000, "rgb")
    tiff("float_nan.tif", None, last(np.where(floats > 0.5, np.nan, floats)), "rgb")
    tiff("thirty_two_bits.tif", None, last(grey16).astype(np.uint32) * 7, "minisblack")
    tiff("negative.tif", None, last(grey16).astype(np.int32) - 40_000, "minisblack")
    tiff("signed.tif", grey16, last(grey16).astype(np.int32), "minisblack")
    tiff("pages.tif", grey16, np.stack([last(grey16), last(65535 - grey16)]), "minisblack")
    tiff("big.tif", colour, last(colour), "rgb", bigtiff=True)
    tiff("planar.tif", colour16, colour16, "rgb", planarconfig="separate")
    tiff("lzw.tif", colour, last(colour), "rgb", compression="lzw", predictor=True)
    tiff("tiled.tif", colour16, last(colour16), "rgb", compression="zlib", tile=(16, 16))
    tiff("white_is_zero.tif", 65535 - grey16, last(grey16), "miniswhite")
    tiff("big_endian.tif", grey16, last(grey16), "minisblack", byteorder=">")
    return made


def make_broken_files(folder: Path) -> list[Odd]:
    """What cannot be read and must be named."""
    colour = picture(300)
    whole = {kind: encoded(colour, kind) for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP")}
    bodies = {
        "truncated.jpg": whole["JPEG"][: len(whole["JPEG"]) * 2 // 3],
        "truncated.png": whole["PNG"][: len(whole["PNG"]) // 2],
        "truncated.gif": whole["GIF"][: len(whole["GIF"]) // 2],
        "truncated.webp": whole["WEBP"][: len(whole["WEBP"]) // 2],
        "truncated.tif": whole["TIFF"][: len(whole["TIFF"]) // 2],
        "truncated.bmp": whole["BMP"][: len(whole["BMP"]) // 2],
        "header_only.jpg": whole["JPEG"][:20],
        "empty.png": b"",
        "text.png": b"This is no image.\n" * 40,
        "page.jpg": b"<!doctype html><title>404</title>",
        "bomb.png": png(60_000, 60_000, 8, 2, b"\0" * 100),
        "small_bomb.png": png(13_000, 13_000, 8, 2, b"\0" * 100),
        "bad_crc.png": png(32, 24, 8, 0, b"\0" * 33 * 24, bad_crc=True),
        "phone.heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 200,
        "flipped_bit.png": whole["PNG"][:300] + bytes([whole["PNG"][300] ^ 4]) + whole["PNG"][301:],
        "noise.tif": b"II*\0" + np.random.default_rng(0).bytes(400),
        "noise.webp": b"RIFF\x90\1\0\0WEBPVP8 " + np.random.default_rng(1).bytes(400),
    }
    for name, data in bodies.items():
        (folder / name).write_bytes(data)
    (folder / "dangling.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "locked.png").write_bytes(whole["PNG"])
    (folder / "locked.png").chmod(0)
    locked = Odd("locked.png", colour if os.geteuid() == 0 else None)
    return [*(Odd(name, None) for name in bodies), Odd("dangling.png", None), Odd("pipe.png", None), locked]


def make(folder: Path) -> list[Odd]:
    """Write everything into `folder`; what is not an image at all is written too, but not listed."""
    made = make_pillow_files(folder) + make_deep_files(folder) + make_broken_files(folder)
    for name in ("notes.txt", "Thumbs.db", ".DS_Store", ".hidden.png", "labels.json"):
        (folder / name).write_bytes(b"not an image")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    for i in range(ORDINARY):
        pixels = picture(i)
        save(folder / f"ordinary_{i:02d}.png", pixels, "PNG")
        made.append(Odd(f"ordinary_{i:02d}.png", pixels))
    return made


def judge(odd: Odd, folder: Path, opened: Images) -> str:
    """ "read" or "named" where that is right, otherwise what is wrong."""
    ids = opened.split("all").ids
    reasons = {problem.id: problem.reason for problem in opened.problems}
    if odd.pixels is None:
        return "named" if odd.name in reasons else "WRONG: read, though broken" if odd.name in ids else "WRONG: lost"
    if odd.name not in ids:
        return f"WRONG: not read: {reasons.get(odd.name, 'lost')}"
    try:
        alone = open_images(folder / odd.name).split("all").read([0])[0]
    except ApercuError as error:
        return f"WRONG: {error}"
    if alone.shape != odd.pixels.shape or alone.dtype != odd.pixels.dtype:
        return f"WRONG: {alone.dtype}{alone.shape} instead of {odd.pixels.dtype}{odd.pixels.shape}"
    difference = np.abs(alone.astype(np.float64) - odd.pixels.astype(np.float64)).max()
    return "read" if difference <= odd.tolerance else f"WRONG: pixels differ by {difference:g}"


def main(folder: Path) -> int:
    """Print and write what became of each file; 1 where anything is wrong."""
    made = make(folder)
    opened = open_images(folder)
    reasons = {problem.id: problem.reason for problem in opened.problems}
    verdicts = {odd.name: judge(odd, folder, opened) for odd in made}
    for name, verdict in verdicts.items():
        print(f"{name:32} {verdict:6} {reasons.get(name, '')}")
    unlisted = sorted((set(opened.split("all").ids) | set(reasons)) - set(verdicts))
    wrong = [name for name, verdict in verdicts.items() if verdict.startswith("WRONG")] + unlisted
    kinds = len(made) - ORDINARY
    print(f"\n{kinds} odd files and {ORDINARY} ordinary ones: {len(wrong)} wrong {wrong or ''}")
    print(*opened.notes, sep="\n")
    RESULT.parent.mkdir(exist_ok=True)
    files = [{"name": n, "verdict": v, "reason": reasons.get(n, "")} for n, v in verdicts.items()]
    result = {"odd": kinds, "ordinary": ORDINARY, "wrong": wrong, "files": files, "notes": opened.notes}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return bool(wrong)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True)
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary)))
