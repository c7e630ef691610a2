"""Mutated and truncated files: none may crash the reader, take a second, take much memory, or give a wrong image.

Half of the mutations have their checksum mended, so that what lies behind it is tried too; those are other files in
their own right, whose images are not compared.

Run: python benchmarks/fuzz_apc.py [--preset codec] [--files 100000]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import apercu
from apercu.codec.archive import Archive
from apercu.codec.codec import Codec
from apercu.codec.container import CHECK, Coded, checksum, from_file, to_file
from apercu.errors import FormatError
from apercu.tasks.compress import Compress

from record import Record

SLOW = 1.0
WATCHED = 50
"""Every so many files, memory is watched, which takes time."""
Pixels = list[NDArray[Any]]


class Reader:
    """Reads files of both kinds as apercu decompress does."""

    def __init__(self, codec: Codec, folder: Path) -> None:
        self.codec, self.path = codec, folder / "fuzzed.apca"

    def file(self, data: bytes) -> Pixels:
        """The image of an .apc file."""
        return self.codec.decode([from_file(data, self.codec.fingerprint)])

    def archive(self, data: bytes) -> Pixels:
        """The images of an archive that can be read."""
        self.path.write_bytes(data)
        archive = Archive(self.path, self.codec.fingerprint)
        pixels: Pixels = []
        for name in archive.entries:
            try:
                pixels += self.codec.decode([archive.read(name)])
            except FormatError:
                continue
        return pixels


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes: bits, bytes, runs that are cut, doubled, overwritten or put in, and the end left out."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, length = int(rng.integers(0, len(out) + 1)), int(rng.integers(1, 9))
        match int(rng.integers(0, 7)):
            case 0 if at < len(out):
                out[at] ^= 1 << int(rng.integers(0, 8))
            case 1 if at < len(out):
                out[at] = int(rng.integers(0, 256))
            case 2:
                del out[at : at + length]
            case 3:
                out[at:at] = out[at : at + length]
            case 4:
                out[at:at] = rng.bytes(length)
            case 5:
                out[at : at + length] = (b"\0", b"\xff")[int(rng.integers(0, 2))] * length
            case _:
                del out[at:]
    return bytes(out)


SETTINGS: dict[str, dict[str, Any]] = {
    "vqvae": {"width": 4, "dim": 4, "codes": 32, "depth": 1},
    "codec": {"width": 8, "dim": 8, "depth": 1, "qualities": 2},
}
"""Symbols under the learnt prior, and under a context."""


def main(preset: str, files: int) -> None:
    """Write honest files with a small model, and try what becomes of them."""
    rng = np.random.default_rng(0)
    training = apercu.Training(epochs=2, device="cpu", precision="32")
    model = apercu.fit("sklearn:digits", preset=preset, settings=SETTINGS[preset], training=training)
    images = model.images("sklearn:digits", "test").subset(np.arange(24))
    compress = Compress(model, lossless=True, steps=50)
    compress.fit(model.images("sklearn:digits", "train"))
    codec = compress.codec(images)
    found: dict[str, int] = dict.fromkeys(("refused", "read", "crashes", "hangs", "wrong_images", "large"), 0)
    worst, most = 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        reader = Reader(codec, Path(folder))
        honest = _honest(codec, images, Path(folder))
        truths = [(data, read, {image.tobytes() for image in read(data)}) for data, read in _with(reader, honest)]
        usual = [_memory(read, data) for data, read, _ in truths]
        for number in range(files):
            which = int(rng.integers(len(truths)))
            data, read, truth = truths[which]
            altered = mutate(data, rng)
            mended = bool(rng.integers(0, 2)) and read == reader.file
            if mended:
                altered = altered[:-CHECK] + checksum(altered[:-CHECK])
            if altered == data:
                continue
            if number % WATCHED == 0:
                tracemalloc.start()
            started = time.process_time()
            try:
                pixels = read(altered)
                found["read"] += 1
                found["wrong_images"] += not mended and not {image.tobytes() for image in pixels} <= truth
            except FormatError:
                found["refused"] += 1
            except Exception as error:  # what is looked for
                found["crashes"] += 1
                print(f"{type(error).__name__}: {error}", altered.hex(), flush=True)
            seconds = time.process_time() - started
            found["hangs"] += seconds > SLOW
            worst = max(worst, seconds)
            if number % WATCHED == 0:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                found["large"] += peak > 10 * usual[which]
                most = max(most, peak / usual[which])
    figures = found | {"files": files, "slowest_seconds": round(worst, 3), "largest_against_honest": round(most, 2)}
    Record("fuzz_apc", "mutated and truncated .apc files and archives, read by a small model").put(preset, figures)
    print(figures)


def _honest(codec: Codec, images: Any, folder: Path) -> list[tuple[bytes, bool]]:  # noqa: ANN401
    """Files with and without loss, and an archive of two segments; whether each is an archive."""
    coded: list[Coded] = []
    for lossless in (False, True):
        coded += [one for batch in codec.encode(images, lossless) for _, one in batch]
    path = folder / "honest.apca"
    named = [(f"some/{k}", one) for k, one in enumerate(coded)]
    Archive(path, codec.fingerprint).append(named[:4])
    Archive(path, codec.fingerprint).append(named[len(images) : len(images) + 4])
    return [(to_file(one, codec.fingerprint), False) for one in coded] + 8 * [(path.read_bytes(), True)]


def _with(reader: Reader, honest: list[tuple[bytes, bool]]) -> list[tuple[bytes, Any]]:
    return [(data, reader.archive if archive else reader.file) for data, archive in honest]


def _memory(read: Any, data: bytes) -> int:  # noqa: ANN401
    tracemalloc.start()
    read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--preset", choices=SETTINGS, default="codec")
    arguments = parser.parse_args()
    main(arguments.preset, arguments.files)
