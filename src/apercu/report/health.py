"""How the code is used, in words and bars; and how large it is beside the image."""

from __future__ import annotations

import math
from dataclasses import dataclass

from apercu.api import Model
from apercu.bottlenecks.base import Health, Use
from apercu.pages.words import FIXED, brief, many, number, size_in_bytes
from apercu.report.look import Look
from apercu.report.plots import Bars, bars


@dataclass(frozen=True)
class HealthSection:
    """A verdict in words, warnings, the measures and the bars that they sum up."""

    healthy: bool
    verdict: str
    warnings: list[str]
    measures: list[tuple[str, str]]
    bars: Bars | None
    caption: str


MEASURES = {
    "active_units": "active dimensions",
    "units": "dimensions",
    "kl": "KL divergence of an image's code, nats",
    "perplexity": "perplexity",
    "codes_used": "codes in use",
    "codebook_use": "share of the codebook in use",
    "revived": "codes that were moved onto features in training",
    "bits": "bits in the symbols of a token",
}


def show_health(model: Model, look: Look) -> HealthSection:
    """What the bottleneck says of itself for the images that were looked at, with the warnings of the training."""
    health = look.health
    trained = [str(warning) for warning in model.recipe.metrics.get("warnings", [])]
    warnings = health.warnings or trained
    single = len(health.symbols) == 1
    values = health.per_dimension
    even = 1 / len(values) if single else None
    what = "code of the codebook" if single else "symbol of a token" if health.symbols else "dimension of the code"
    caption = f"Each bar is one {what}, the largest first: {health.quantity}."
    if even is not None:
        caption += f" The line is where all would stand if they were used evenly ({brief(even)})."
    return HealthSection(
        not warnings,
        verdict(health, look),
        [warning[:1].upper() + warning[1:] for warning in warnings],
        [(MEASURES.get(name, name.replace("_", " ")), brief(value)) for name, value in health.measures.items()],
        bars(values, health.quantity, even) if len(values) > 1 else None,
        caption,
    )


def verdict(health: Health, look: Look) -> str:
    """One or two sentences on the use of the code."""
    measured = health.measures
    if health.symbols:
        return _use(health.symbols)
    if "active_units" not in measured:
        return ""
    text = f"{number(measured['active_units'])} of {number(measured['units'])} dimensions carry information."
    if "kl" in measured:
        text += (
            f" An image's code holds {brief(measured['kl'])} nats, or "
            f"{number(measured['kl'] / math.log(2))} bits, beyond what is known before it is seen."
        )
    return text


def _use(symbols: list[Use]) -> str:
    used, total = sum(use.used for use in symbols), sum(len(use.shares) for use in symbols)
    bits, most = sum(use.bits for use in symbols), sum(math.log2(len(use.shares)) for use in symbols)
    if len(symbols) == 1:
        return (
            f"{number(used)} of {number(total)} codes are in use. Their perplexity is "
            f"{brief(symbols[0].perplexity)}: they are as varied as if chosen evenly among so many, "
            f"{bits:.1f} bits in each symbol of {most:.1f}."
        )
    return (
        f"The {len(symbols)} symbols of a token hold {bits:.1f} bits of {most:.1f}; "
        f"{number(used)} of their {number(total)} values are in use."
    )


@dataclass(frozen=True)
class CodeSize:
    """The code beside the image that it stands for: 64 · numbers · for 784 pixel values; and a sentence."""

    figure: str
    unit: str
    beside: str
    sentence: str


def code_size(model: Model, look: Look) -> CodeSize:
    """How much is kept of an image: symbols in bytes, or numbers against pixel values."""
    spec = model.recipe.image
    grid = model.network.grid((spec.height, spec.width))
    tokens, values = grid[0] * grid[1], spec.dimensions
    image = f"An image of {spec.height}×{spec.width}" + (f"×{spec.channels}" if spec.channels > 1 else "")
    image += " pixel values" + ("" if spec.uniform else " (the largest)")
    bottleneck = model.network.bottleneck
    uses = look.health.symbols
    if uses:
        bits = tokens * (math.log2(len(uses[0].shares)) if len(uses) == 1 else sum(use.bits for use in uses))
        stored = values * (math.ceil(math.log2(spec.maximum + 1)) if spec.maximum > 1 else 32)
        written, pixels = size_in_bytes(bits / 8), size_in_bytes(stored / 8)
        figure, _, unit = written.partition(FIXED)
        symbols = (
            f"{grid[0]}×{grid[1]} symbols out of {number(len(uses[0].shares))}, {written}"
            if len(uses) == 1
            else f"{grid[0]}×{grid[1]}×{len(uses)} symbols, {written} when they are entropy-coded"
        )
        sentence = f"{image}, {pixels}, becomes {symbols}{_ratio(stored / max(1.0, bits))}"
        return CodeSize(figure, unit, f"for {pixels} of pixels", sentence)
    count = tokens * bottleneck.dim
    shape = f" in {grid[0]}×{grid[1]} places" if tokens > 1 else ""
    sentence = f"{image} becomes {many(count, 'number')}{shape}"
    unit = "number" if count == 1 else "numbers"
    return CodeSize(number(count), unit, f"for {number(values)} pixel values", sentence + _ratio(values / count))


def _ratio(times: float) -> str:
    if times > 1:
        return f", {times:.3g} times fewer."
    return ", as many as it has." if times == 1 else f", {1 / times:.3g} times as many."
