"""Keep every figure as soon as it is there, so that a benchmark that was stopped goes on where it was."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


class Record:
    """`results/NAME.json`: {"about": …, "figures": {key: value}}."""

    def __init__(self, name: str, about: str) -> None:
        self.path = RESULTS / f"{name}.json"
        self.content: dict[str, Any] = {"about": about, "machine": machine(), "figures": {}}
        if self.path.exists():
            self.content["figures"] = json.loads(self.path.read_text(encoding="utf-8"))["figures"]

    @property
    def figures(self) -> dict[str, Any]:
        """What is known so far."""
        figures: dict[str, Any] = self.content["figures"]
        return figures

    def once(self, key: str, measure: Callable[[], Any]) -> Any:  # noqa: ANN401
        """The figure of `key`, measured now if it is not there yet."""
        if key not in self.figures:
            self.put(key, measure())
            print(f"{key}: {json.dumps(self.figures[key])}", flush=True)
        return self.figures[key]

    def put(self, key: str, value: Any) -> None:  # noqa: ANN401
        """Store a figure and write the file, whole or not at all."""
        if self.path.exists():  # another run may have added figures of its own
            self.content["figures"] = json.loads(self.path.read_text(encoding="utf-8"))["figures"] | self.figures
        self.figures[key] = value
        self.path.parent.mkdir(exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(self.content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        partial.replace(self.path)


def machine() -> dict[str, Any]:
    """What the figures were measured on, in words that anyone can compare."""
    import torch

    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "avx512_bf16": bool(capabilities.get("avx512_bf16")),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
