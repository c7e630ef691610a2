"""The binary files of CIFAR-10: `data_batch_1.bin` … `test_batch.bin`, one label byte and 3·32·32 pixels each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from apercu.data.sources.base import Found, Part, as_path
from apercu.errors import ApercuError

SHAPE = (3, 32, 32)
RECORD = 1 + 3 * 32 * 32


def accepts(images: object) -> bool:
    """Whether `images` names a folder with CIFAR-10's binary files."""
    path = as_path(images)
    return path is not None and path.is_dir() and bool(_files(path))


def open(images: object) -> Found:
    """Map the files; the names of the classes come from `batches.meta.txt` where it is there.

    Raises:
        ApercuError: a file is not a whole number of records.
    """
    folder = Path(str(images)).expanduser()
    parts = []
    for file in _files(folder):
        size = file.stat().st_size
        if size == 0 or size % RECORD:
            raise ApercuError(f"{file.name} is not whole records of {RECORD} bytes: download it again")
        records = np.memmap(file, np.uint8, mode="r").reshape(-1, RECORD)
        pixels = records[:, 1:].reshape(-1, *SHAPE)
        ids = [f"{file.name}#{i}" for i in range(len(pixels))]
        split = "test" if file.name.startswith("test") else "train"
        parts.append(Part(pixels, ids, records[:, 0].astype(np.int64), split))
    return Found(parts, _classes(folder, max(int(p.labels.max()) for p in parts) + 1))


def _files(folder: Path) -> list[Path]:
    return [*sorted(folder.glob("data_batch_*.bin")), *sorted(folder.glob("test_batch.bin"))]


def _classes(folder: Path, count: int) -> tuple[str, ...]:
    meta = folder / "batches.meta.txt"
    names = [n.strip() for n in meta.read_text(encoding="utf-8").splitlines()] if meta.is_file() else []
    names = [n for n in names if n]
    return tuple(names) if len(names) >= count else tuple(str(c) for c in range(count))
