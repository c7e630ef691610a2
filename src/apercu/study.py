"""What studies share, which train many models for one answer: a budget of time, and a question that stays the same."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apercu.errors import ApercuError

if TYPE_CHECKING:
    from apercu.tracking import Progress

Drive = Callable[[Iterator["Progress"]], None]
"""Trains to the end, showing how far it is."""

STEPS, SECONDS = 10, 2.0  # after so many, the speed of a training is known
UNITS = ((3600, "hour"), (60, "minute"), (1, "second"))


class TooLong(Exception):
    """A training will not end within the budget; `seconds` is how long all of it takes."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"it takes about {duration(seconds)}")
        self.seconds = seconds


class Budget:
    """So many minutes from now, or without end.

    Raises:
        ApercuError: minutes that are not a positive number.
    """

    def __init__(self, minutes: float | None = None) -> None:
        if minutes is not None and not 0 < minutes < math.inf:
            raise ApercuError(f"minutes must be a positive number, not {minutes:g}; leave them out for no limit")
        self.minutes = minutes
        self.ends = math.inf if minutes is None else time.monotonic() + 60 * minutes

    @property
    def left(self) -> float:
        """Seconds."""
        return self.ends - time.monotonic()

    def watch(self, run: Iterator[Progress]) -> Iterator[Progress]:
        """The same training, given up as soon as its speed says that it needs a tenth more time than there is.

        Raises:
            TooLong: it was given up.
        """
        begun = time.monotonic()
        for progress in run:
            seconds = time.monotonic() - begun
            if progress.steps and progress.step >= STEPS and seconds >= SECONDS:
                expected = seconds * progress.steps / progress.step
                if expected - seconds > self.left + 0.1 * expected:
                    raise TooLong(expected)
            yield progress


def to_the_end(run: Iterator[Progress]) -> None:
    """Train without showing anything."""
    for _ in run:
        pass


def check_question(known: Mapping[str, Any], asked: Mapping[str, Any], folder: Path) -> None:
    """See that what `folder` holds answers the question that is asked now.

    Raises:
        ApercuError: they differ; the message says in what.
    """
    other = [name for name in asked if known.get(name) != asked[name]]
    if other:
        raise ApercuError(
            f"{folder} holds the answers to another question (other {', '.join(other)}); "
            "ask the same one, name another folder, or start again with --overwrite"
        )


def duration(seconds: float) -> str:
    """0.2 seconds, 3 minutes, 2.5 hours."""
    size, unit = next((size, unit) for size, unit in UNITS if seconds >= size or size == 1)
    value = seconds / size
    return many(round(value) if value >= 10 else float(f"{value:.2g}"), unit)


def many(count: float, noun: str) -> str:
    """1 label, 1,000 labels."""
    text = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{text} {noun}" if text == "1" else f"{text} {noun}s"
