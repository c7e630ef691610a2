"""Folders and files that one run may write to at a time.

The claim is a lock of the operating system's: it ends with its process, however that ends. Its file stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from apercu.errors import ApercuError

LOCK = ".writer-"


@contextmanager
def claimed(lock: Path, what: Path, seconds: float = 0) -> Iterator[None]:
    """Write to `what` alone, as the one process that holds the file `lock`.

    Raises:
        ApercuError: another process does, and still did after these seconds.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    own = FileLock(lock)
    try:
        own.acquire(timeout=seconds)
    except Timeout:
        raise ApercuError(f"another run is writing to {what}; start this one again when that has ended") from None
    try:
        yield
    finally:
        own.release()


@contextmanager
def alone(folder: Path, rank: int, processes: int) -> Iterator[None]:
    """Write to a folder as one of the `processes` of a run, while no other run does.

    Each holds a lock of its number, and the locks of higher numbers must be free; of two groups one process fails, and
    `torchrun` ends the others with it.

    Raises:
        ApercuError: another run writes there.
    """
    with claimed(folder / f"{LOCK}{rank}", folder):
        for lock in folder.glob(f"{LOCK}*"):
            if int(lock.name.removeprefix(LOCK)) >= processes:
                with claimed(lock, folder):
                    pass
        yield
