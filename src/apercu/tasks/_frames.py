"""Frames of a video in their order: a smoothed curve of how odd each is, and the events that stand out of it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apercu.sheet import save_image

Floats = NDArray[np.float64]

WIDTH, HEIGHT, MARGIN = 960, 320, 48
INK, LINE, RAW, ALARM, EVENT = (40, 40, 40), (0, 114, 178), (150, 170, 185), (213, 94, 0), (255, 228, 205)
LEGEND = (("of each frame", RAW, 1), ("smoothed", LINE, 2), ("threshold", ALARM, 1), ("event", EVENT, 8))


@dataclass(frozen=True)
class Event:
    """Frames `start` to `end`, both included, `peak` being the oddest; `score`: the smoothed score there."""

    start: int
    end: int
    peak: int
    score: float


def natural(name: str) -> list[tuple[int, int | str]]:
    """A key that puts frame-2 before frame-10, folder by folder."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", name)]


def videos(ids: Sequence[str]) -> dict[str, list[int]]:
    """The positions of the frames of each folder, in their order."""
    found: dict[str, list[int]] = {}
    for k in sorted(range(len(ids)), key=lambda k: natural(ids[k])):
        found.setdefault(PurePosixPath(ids[k]).parent.as_posix(), []).append(k)
    return found


def smoothed(scores: Floats, frames: float) -> Floats:
    """The scores (T,) in their order by a Gaussian of that many frames, 0 for none; the ends are repeated."""
    from scipy.ndimage import gaussian_filter1d

    curve: Floats = gaussian_filter1d(scores, frames, mode="nearest") if frames > 0 else scores
    return curve


def events(curve: Floats, threshold: float, gap: float) -> list[Event]:
    """Runs of frames above the threshold; those that are at most `gap` frames apart are one."""
    above = np.flatnonzero(curve > threshold)
    if not len(above):
        return []
    runs = np.split(above, np.flatnonzero(np.diff(above) > gap + 1) + 1)
    peaks = [int(run[0] + curve[run[0] : run[-1] + 1].argmax()) for run in runs]
    return [Event(int(run[0]), int(run[-1]), peak, float(curve[peak])) for run, peak in zip(runs, peaks, strict=True)]


def told(ids: Sequence[str], scores: Floats, threshold: float, frames: float, out: Path | None) -> list[dict[str, Any]]:
    """Curve and events of every video; with `out`, a picture `VIDEO-curve.png` each."""
    answers = []
    for name, rows in videos(ids).items():
        curve = smoothed(scores[rows], frames)
        found = events(curve, threshold, frames)
        title = "frames" if name == "." else name
        if out is not None:
            save_image(draw(scores[rows], curve, threshold, found), out / f"{title.replace('/', '-')}-curve")
        named = [
            asdict(e) | {"first": ids[rows[e.start]], "last": ids[rows[e.end]], "oddest": ids[rows[e.peak]]}
            for e in found
        ]
        answers.append(
            {
                "video": title,
                "frames": [ids[k] for k in rows],
                "scores": scores[rows].tolist(),
                "smoothed": curve.tolist(),
                "threshold": threshold,
                "events": named,
            }
        )
    return answers


def draw(scores: Floats, curve: Floats, threshold: float, found: Sequence[Event]) -> NDArray[np.uint8]:
    """The scores over the frames, smoothed on top, the threshold across, events shaded: (3, H, W)."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(picture)
    low, high = (float(f([scores.min(), scores.max(), threshold])) for f in (min, max))
    room = 0.05 * (high - low or 1.0)
    low, high = low - room, high + room

    def across(frame: float) -> float:
        return MARGIN + (WIDTH - 2 * MARGIN) * (frame / max(1, len(scores) - 1))

    def down(value: float) -> float:
        return MARGIN / 2 + (HEIGHT - 1.5 * MARGIN) * (high - value) / (high - low)

    for event in found:
        left, right = across(event.start - 0.5), across(event.end + 0.5)
        pen.rectangle((max(left, MARGIN), MARGIN / 2, min(right, WIDTH - MARGIN), HEIGHT - MARGIN), fill=EVENT)
    for values, colour, width in ((scores, RAW, 1), (curve, LINE, 2)):
        path = [(across(t), down(float(v))) for t, v in enumerate(values)]
        pen.line(path if len(path) > 1 else path * 2, fill=colour, width=width)
    pen.line((MARGIN, down(threshold), WIDTH - MARGIN, down(threshold)), fill=ALARM)
    pen.text((MARGIN + 4, down(threshold) - 14), f"threshold {threshold:.3g}", fill=ALARM)
    pen.line((MARGIN, MARGIN / 2, MARGIN, HEIGHT - MARGIN, WIDTH - MARGIN, HEIGHT - MARGIN), fill=INK)
    for frame in np.unique(np.linspace(0, len(scores) - 1, 6).round().astype(int)).tolist():
        pen.text((across(frame), HEIGHT - MARGIN + 6), str(frame), fill=INK, anchor="ma")
    for value in (low + room, high - room):
        pen.text((MARGIN - 4, down(value)), f"{value:.3g}", fill=INK, anchor="rm")
    pen.text((WIDTH / 2, HEIGHT - 16), "frame", fill=INK, anchor="ma")
    pen.text((4, 4), "score", fill=INK)
    place = MARGIN + 60.0
    for name, colour, width in LEGEND:
        pen.line((place, 10, place + 20, 10), fill=colour, width=width)
        pen.text((place + 26, 10), name, fill=INK, anchor="lm")
        place += 46 + pen.textlength(name)
    return np.moveaxis(np.asarray(picture), 2, 0)
