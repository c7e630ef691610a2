"""What has been compressed already: a line for each image, so that a run that was stopped goes on where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

KEY = 16


class Journal:
    """Which image each name stands for: lines of KEY name, appended as the work goes on.

    It is no part of what it tells of: without it, images are compressed again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_bytes() if path.exists() else b""
        whole = text[: text.rfind(b"\n") + 1]
        if len(whole) < len(text):  # the last line was not written to its end
            path.write_bytes(whole)
        lines = whole.decode("utf-8", "replace").split("\n")
        self._keys = {line[KEY + 1 :]: line[:KEY] for line in lines}

    def has(self, name: str, key: str) -> bool:
        """Whether this name was written last for the image with this key."""
        return self._keys.get(name) == key

    def add(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Note names and keys whose bytes are in their place."""
        pairs = list(pairs)
        with self.path.open("a", encoding="utf-8") as file:
            file.write("".join(f"{key} {name}\n" for name, key in pairs))
        self._keys.update(pairs)


def key_of(fingerprint: bytes, settings: str, digest: bytes) -> str:
    """What a model, its settings and an image come to."""
    return hashlib.blake2b(b"\0".join([fingerprint, settings.encode(), digest]), digest_size=KEY // 2).hexdigest()
