"""Images per second of our operations and of kornia's, for the same changes, on one thread.

Both change every image of a batch of 256 by its own draw, float32, and take turns, five times after one warm-up; the
medians are compared. Time is the processor's, so that other work on the machine does not count. Where kornia applies
one of five operations to each image it is given each of them with probability 1/5, which is the same work.

Run: python benchmarks/augment.py [--rounds 5]
(kornia: pip install --no-deps --target DIR kornia kornia_rs, and DIR on PYTHONPATH; without it ours are measured alone)
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from apercu.augment import DOMAINS
from apercu.augment.base import Op
from apercu.augment.tone import Colour, Focus, Gamma, Level, Noise, Posterize, Solarize
from apercu.augment.warp import Cutout, Warp

from record import Record

BATCH = 256
KINDS = {"28 grey": (1, 28), "32 colour": (3, 32), "64 colour": (3, 64)}
FOR_COLOUR = {"hue", "strong view of objects"}
OURS: dict[str, Sequence[Op]] = {
    "affine": [Warp(rotation=20.0, scale=0.2, shear=0.25, shift=0.12)],
    "affine and elastic": [Warp(rotation=20.0, scale=0.2, shear=0.25, shift=0.12, elastic=0.4)],
    "contrast": [Level(contrast=0.5)],
    "gamma": [Gamma(0.5)],
    "blur": [Focus(1.0)],
    "noise": [Noise(0.3)],
    "solarize": [Solarize(0.5)],
    "posterize": [Posterize(0.3)],
    "hue": [Colour(hue=40.0)],
    "hole": [Cutout(0.5)],
    "strong view of digits": DOMAINS["digits"].strong,
    "strong view of objects": DOMAINS["objects"].strong,
}


def theirs(side: int) -> dict[str, Callable[[Tensor], Tensor]]:
    """The nearest that kornia has; nothing where it is not installed."""
    if importlib.util.find_spec("kornia") is None:
        return {}
    from kornia import augmentation as k

    turn = partial(k.RandomAffine, 20, scale=(0.82, 1.22), padding_mode="border", p=1.0)
    affine = turn(translate=(0.12, 0.12), shear=14)
    elastic = k.RandomElasticTransform((2 * (side // 8) + 1,) * 2, (side / 8, side / 8), (1.0, 1.0), p=1.0)
    contrast, brightness = partial(k.RandomContrast, (0.6, 1.65)), partial(k.RandomBrightness, (0.8, 1.2))
    gamma, solarize = partial(k.RandomGamma, (0.6, 1.65)), partial(k.RandomSolarize, 0.5, 0.0)
    blur, noise = partial(k.RandomGaussianBlur, (5, 5), (0.1, 1.3)), partial(k.RandomGaussianNoise, 0.0, 0.1)
    posterize, hue = partial(k.RandomPosterize, (2, 6)), partial(k.RandomHue, (-0.11, 0.11))
    hole = k.RandomErasing((0.0, 0.25), (1.0, 1.0), p=1.0)
    single = {"contrast": contrast, "gamma": gamma, "blur": blur, "noise": noise, "solarize": solarize}
    single |= {"posterize": posterize, "hue": hue}
    values = (contrast, brightness, gamma, blur, solarize)
    more = (partial(k.RandomSaturation, (0.4, 2.7)), hue, posterize, noise, partial(k.RandomLinearIllumination))
    changes: dict[str, Callable[[Tensor], Tensor]] = {name: make(p=1.0) for name, make in single.items()}
    return changes | {
        "affine": affine,
        "affine and elastic": torch.nn.Sequential(affine, elastic),
        "hole": hole,
        "strong view of digits": torch.nn.Sequential(
            affine, elastic, *(make(p=0.25) for make in (gamma, contrast, blur, noise))
        ),
        "strong view of objects": torch.nn.Sequential(
            k.RandomHorizontalFlip(),
            turn(translate=(0.125, 0.125), shear=11),
            *(make(p=0.2) for make in (*values, *more)),
            hole,
        ),
    }


def ours(ops: Sequence[Op], x: Tensor) -> Tensor:
    """All operations, one after the other."""
    for op in ops:
        x = op(x)
    return x


def speed(change: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Images per second of processor time, over about a quarter of a second."""
    done, started = 0, time.process_time()
    while time.process_time() - started < 0.25:
        change(x)
        done += len(x)
    return done / (time.process_time() - started)


@torch.no_grad()
def measure(channels: int, side: int, rounds: int) -> dict[str, dict[str, float]]:
    """Every change, by both in turn; the first round warms up."""
    x = torch.rand(BATCH, channels, side, side)
    other = theirs(side)
    figures = {}
    for name, ops in OURS.items():
        if channels == 1 and name in FOR_COLOUR:
            continue
        both = {"apercu": partial(ours, ops)} | ({"kornia": other[name]} if name in other else {})
        seen: dict[str, list[float]] = {who: [] for who in both}
        for number in range(rounds + 1):
            for who, change in both.items():
                images = speed(change, x)
                if number:
                    seen[who].append(images)
        figures[name] = {who: round(statistics.median(values)) for who, values in seen.items()}
        if other:
            figures[name]["ratio"] = round(figures[name]["apercu"] / figures[name]["kornia"], 2)
        print(name, figures[name], flush=True)
    return figures


@torch.no_grad()
def domains(rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds for the weak and the strong views of a batch, for each domain."""
    figures: dict[str, dict[str, float]] = {}
    for name, domain in DOMAINS.items():
        figures[name] = {}
        for kind, (channels, side) in KINDS.items():
            x = torch.rand(BATCH, channels, side, side)
            values = [speed(partial(ours, ops), x) for _ in range(rounds + 1) for ops in (domain.weak, domain.strong)][
                2:
            ]
            weak, strong = statistics.median(values[::2]), statistics.median(values[1::2])
            figures[name][kind] = round(1000 * BATCH * (1 / weak + 1 / strong), 1)
        print(name, figures[name], flush=True)
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    record = Record("augment", "images per second of processor time, one thread, batch 256; domains: ms per batch")
    record.once("domains", partial(domains, rounds))
    for kind, (channels, side) in KINDS.items():
        record.once(kind, partial(measure, channels, side, rounds))
