"""Which changes leave the class of an image what it is: one line of a table for each kind of image."""

from __future__ import annotations

from dataclasses import dataclass

from apercu.augment.base import OneOf, Op
from apercu.augment.tone import Colour, Focus, Gamma, Level, Noise, Posterize, Shade, Solarize, Stroke
from apercu.augment.warp import Cutout, Warp
from apercu.types import ImageSpec

Ops = tuple[Op, ...]
SMALL = 32


@dataclass(frozen=True)
class Domain:
    """A kind of images: what it is for, what is done to the view that is learnt from, and to the strong view."""

    about: str
    weak: Ops
    strong: Ops


DOMAINS: dict[str, Domain] = {
    "digits": Domain(
        "digits, letters, signs: they have a right way round, so nothing is mirrored or turned far",
        (Warp(rotation=5.0, scale=0.05, shear=0.05, shift=0.04),),
        (
            Warp(rotation=20.0, scale=0.2, shear=0.25, shift=0.12, elastic=0.4),
            OneOf((Stroke(0.7), Level(contrast=0.5, brightness=0.3), Focus(1.0), Noise(0.3))),
        ),
    ),
    "objects": Domain(
        "photographs of things and scenes: left and right may change places, up and down not",
        (Warp(shift=0.125, symmetry="mirror"),),
        (
            Warp(rotation=20.0, scale=0.2, shear=0.2, shift=0.125, symmetry="mirror"),
            OneOf((Level(contrast=0.7), Level(brightness=0.8), Gamma(0.7), Focus(1.0), Solarize(0.5))),
            OneOf((Colour(saturation=1.0), Colour(hue=40.0), Posterize(0.25), Noise(0.3), Shade(0.7))),
            Cutout(0.5),
        ),
    ),
    "texture": Domain(
        "surfaces and materials: no way is up, so all eight flips and quarter turns",
        (Warp(shift=0.06, symmetry="all"),),
        (
            Warp(rotation=45.0, scale=0.2, shear=0.1, shift=0.1, elastic=0.2, symmetry="all"),
            OneOf((Level(contrast=0.5, brightness=0.5), Gamma(0.5), Shade(0.5), Focus(1.0), Noise(0.3))),
        ),
    ),
    "medical": Domain(
        "X-rays, scans, slices: the sides of a body differ, and values are measurements",
        (Warp(rotation=5.0, scale=0.05, shift=0.04),),
        (
            Warp(rotation=15.0, scale=0.15, shear=0.1, shift=0.08, elastic=0.3),
            OneOf((Level(contrast=0.4, brightness=0.4), Gamma(0.4), Shade(0.4), Focus(1.0), Noise(0.2))),
        ),
    ),
    "aerial": Domain(
        "land or cells seen from above, in any number of bands: no way is up either, but colours tell something",
        (Warp(shift=0.06, symmetry="all"),),
        (
            Warp(rotation=45.0, scale=0.2, shear=0.1, shift=0.1, symmetry="all"),
            OneOf((Level(contrast=0.5, brightness=0.5), Gamma(0.5), Shade(0.5), Focus(1.0), Noise(0.3))),
            OneOf((Colour(saturation=0.7), Colour(hue=15.0), Level(contrast=0.4))),
            Cutout(0.4),
        ),
    ),
}


def choose_domain(image: ImageSpec) -> tuple[str, str]:
    """The domain that suits these images as far as their kind tells, and why; in doubt nothing is mirrored."""
    if image.maximum > 255:
        return "medical", "more than 8 bits are taken for measurements, and nothing is mirrored"
    if image.channels == 3:
        return "objects", "colours are taken for photographs of things, which may be mirrored"
    if image.channels == 1 and max(image.height, image.width) <= SMALL:
        return "digits", f"grey images of at most {SMALL} pixels a side may be digits, which must not be mirrored"
    return "medical", "images that are not in colour may be scans, which must not be mirrored"


def domain_for(image: ImageSpec) -> str:
    """The domain that suits these images as far as their channels, depth and size tell."""
    return choose_domain(image)[0]
