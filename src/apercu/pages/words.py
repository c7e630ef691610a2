"""Numbers and names as a reader expects them."""

from __future__ import annotations

import math

FIXED = "\u00a0"  # a space that does not break
JOIN = "\u2060"  # no break here


def number(value: float) -> str:
    """12,000."""
    return f"{value:,.0f}"


def brief(value: float) -> str:
    """Three digits, or all of those before the point: 0.0547, 18.9, 2,536."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def percent(share: float) -> str:
    """93.4 %; whole numbers at the ends."""
    value = 100 * share
    return f"{value:.0f}{FIXED}%" if value in (0, 100) else f"{value:.1f}{FIXED}%"


def many(count: int, singular: str, plural: str = "") -> str:
    """1 image, 1,200 images."""
    return f"{number(count)}{FIXED}{singular if count == 1 else plural or singular + 's'}"


def size_in_bytes(count: float) -> str:
    """96 bytes, 1.5 kB, 2.1 MB."""
    for power, unit in ((2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g}{FIXED}{unit}"
    return many(math.ceil(count), "byte")


def listed(names: list[str]) -> str:
    """a, b and c."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def wilson(right: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, `right` of `count` (Wilson, 1927); it keeps inside [0, 1]."""
    z = 1.959964
    share = right / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(right: int, count: int) -> str:
    """88.7–96.2 %."""
    low, high = wilson(right, count)
    return f"{100 * low:.1f}–{JOIN}{100 * high:.1f}{FIXED}%"
