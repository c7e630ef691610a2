"""The record of a run: where it stands, `history.csv` always, and TensorBoard files where TensorBoard is installed."""

from __future__ import annotations

import csv
import importlib.util
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from apercu.checkpoint import write_atomically

Row = dict[str, float]


@dataclass
class State:
    """Where a run stands; saved with every checkpoint."""

    step: int = 0
    steps: int | None = None
    seconds: float = 0.0
    history: list[Row] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sums: dict[str, float] = field(default_factory=dict)
    summed: int = 0
    best: float = math.inf
    kept: Row = field(default_factory=dict)
    waited: int = 0
    late: bool = False
    plans: int = 0


@dataclass(frozen=True)
class Progress:
    """One step done: `prices` are means over the batch in nats; `row` is there after a validation.

    `history` and `warnings` are those of the validations so far, `kept` is the row of the weights that would be kept.
    """

    step: int
    steps: int | None
    epoch: int
    seconds: float
    prices: dict[str, float]
    images_per_second: float
    row: Row | None
    history: list[Row]
    kept: Row
    warnings: list[str]


class Tracker:
    """Writes the rows of a run's history into its folder; nothing where there is no folder."""

    def __init__(self, folder: Path | None, start: int = 0) -> None:
        self.folder = folder
        self.board = None
        if folder is not None and importlib.util.find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter  # heavy, and only where it is installed

            self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=start or None)

    def write(self, history: Sequence[Row]) -> None:
        """Write the whole history, and its last row to TensorBoard."""
        if self.folder is None:
            return
        text = io.StringIO()
        columns = list(dict.fromkeys(name for row in history for name in row))
        writer = csv.DictWriter(text, columns)
        writer.writeheader()
        writer.writerows(history)
        write_atomically(self.folder / "history.csv", text.getvalue().encode())
        if self.board is not None:
            for name, value in history[-1].items():
                if name != "step":
                    self.board.add_scalar(name, value, int(history[-1]["step"]))

    def close(self) -> None:
        """Flush what TensorBoard still holds."""
        if self.board is not None:
            self.board.close()


def read_history(folder: Path) -> list[Row]:
    """The rows of `history.csv`, or none."""
    path = folder / "history.csv"
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
