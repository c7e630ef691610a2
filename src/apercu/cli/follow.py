"""How far the work is, on standard error: a bar on a terminal, now and then a line elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from apercu.cli.output import leads, note

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from apercu.tracking import Progress

LINE_SECONDS = 10.0


def follow(run: Iterator[Progress]) -> None:
    """Train to the end, showing where the run stands and warning as soon as the code collapses."""
    if sys.stderr.isatty() and leads():
        _draw(run)
    else:
        _print(run)


def glance(run: Iterator[Progress]) -> None:
    """Train one model of many: a bar that goes away, or a line when it takes long; its own warnings are not said."""
    if sys.stderr.isatty() and leads():
        with _bar(transient=True) as bar:
            task = bar.add_task("training", total=None)
            for progress in run:
                bar.update(task, completed=progress.step, total=progress.steps)
        return
    last = time.monotonic()
    for progress in run:
        if time.monotonic() - last > LINE_SECONDS:
            last = time.monotonic()
            note(f"  {_where(progress)}")


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar for work that reports (done, total); without a terminal now and then a line."""
    if not (sys.stderr.isatty() and leads()):
        last = time.monotonic()

        def line(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > LINE_SECONDS:
                last = time.monotonic()
                note(f"{what} {done}/{total}")

        yield line
        return
    with _bar() as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _draw(run: Iterator[Progress]) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    warned: set[str] = set()
    speed = 0.0
    bar, state = _bar(), Text()
    task = bar.add_task("training", total=None)
    with Live(Group(bar, state), console=bar.console) as live:
        for progress in run:
            speed = progress.images_per_second if not speed else 0.95 * speed + 0.05 * progress.images_per_second
            bar.update(task, completed=progress.step, total=progress.steps)
            state.plain = _state(progress, speed)
            for warning in _new(progress, warned):
                live.console.print(warning, markup=False, highlight=False, soft_wrap=True)


def _print(run: Iterator[Progress]) -> None:
    warned: set[str] = set()
    last = 0.0
    for progress in run:
        for warning in _new(progress, warned):
            note(warning)
        final = progress.step == progress.steps
        if progress.row and (final or time.monotonic() - last > LINE_SECONDS):
            last = time.monotonic()
            note(_where(progress))


def _bar(transient: bool = False) -> Bar:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    what = TextColumn("{task.description}", markup=False)
    columns = (what, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=transient)


def _where(progress: Progress) -> str:
    steps = f"/{progress.steps}" if progress.steps else ""
    return f"step {progress.step}{steps}  {_state(progress, progress.images_per_second)}"


def _state(progress: Progress, speed: float) -> str:
    prices = "  ".join(f"{name} {price:.4g}" for name, price in progress.prices.items())
    accuracy = progress.history[-1].get("val_accuracy") if progress.history else None
    shown = "" if accuracy is None else f"  accuracy {accuracy:.3f}"
    return f"epoch {progress.epoch + 1}  {prices}{shown}  {speed:,.0f} images/s"


def _new(progress: Progress, warned: set[str]) -> Iterator[str]:
    """Warnings that were not given yet; one that only counts something else now is not new."""
    for warning in progress.warnings:
        kind = "".join(c for c in warning if not c.isdigit())
        if kind not in warned:
            warned.add(kind)
            yield f"warning: {warning}"
