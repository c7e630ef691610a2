"""What a search comes to: the best settings as the command that learns with them, and how sure they are."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from apercu.errors import ApercuError
from apercu.pages.words import brief, wilson
from apercu.study import many
from apercu.tune.run import LOG, TABLE, Tried, Tuning


def conclude(tuning: Tuning, opened: Sequence[str]) -> dict[str, Any]:
    """The best trial, and `apercu fit` with its settings; `opened` are the words that say which images and labels.

    Raises:
        ApercuError: no trial was finished yet.
    """
    best = tuning.best
    if best is None:
        raise ApercuError(
            "no trial was finished in this time: give more --minutes, or a shorter training with --epochs or "
            "--minutes-per-run"
        )
    states = Counter(tried.state for tried in tuning.tried)
    return {
        "judged_by": tuning.judge.about,
        "trials": len(tuning.tried),
        "given_up": states["given up"],
        "failed": states["failed"],
        "best": asdict(best),
        "defaults": None if tuning.usual is None else asdict(tuning.usual),
        "verdict": _verdict(tuning, best),
        "command": shlex.join(["apercu", "fit", *opened, *_words(tuning, best)]),
        "files": [str(tuning.folder / name) for name in (LOG, TABLE)],
    }


def _words(tuning: Tuning, best: Tried) -> list[str]:
    choice, training = best.choice, tuning.training
    words = ["--preset", choice.preset]
    for name, value in choice.settings.items():
        words += ["-s", f"{name}={_text(value)}"]
    words += ["--learning-rate", _text(choice.learning_rate)]
    if training.minutes is not None:
        words += ["--minutes", _text(training.minutes)]
    elif training.epochs is not None:
        words += ["--epochs", str(training.epochs)]
    return [*words, "--batch", str(training.batch), "--seed", str(training.seed)]


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _verdict(tuning: Tuning, best: Tried) -> str:
    """The best beside the defaults, and whether the images that judged them can tell the two apart."""
    usual = tuning.usual
    value, other = best.value or 0.0, None if usual is None else usual.value
    trials = many(len(tuning.tried), "trial")
    if not tuning.judge.by_accuracy:
        text = f"The best of {trials} costs {brief(value)} nats an image"
        return f"{text}." if other is None else f"{text}, the defaults {brief(other)}."
    count = len(tuning.judge.images)
    low, high = wilson(round(value * count), count)
    text = f"The best of {trials} recognises {100 * value:.1f} % (95 % interval {100 * low:.1f} to {100 * high:.1f})"
    if usual is None or other is None:
        return f"{text}."
    if usual == best:
        return f"{text}: the defaults of {usual.choice.preset}, which nothing surpassed."
    apart = "" if other < low else f", which {many(count, 'image')} cannot tell apart"
    return f"{text}, the defaults of {usual.choice.preset} {100 * other:.1f} %{apart}."
