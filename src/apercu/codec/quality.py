"""Operating points: where, between its lowest and its highest quality, a model with several writes an image.

A point is kept in eighths of a step from one quality to the next, 8 … 8·Q, and is 0 for a model that has one quality.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apercu.bottlenecks.rated import Rated
from apercu.errors import ApercuError, FormatError
from apercu.model import Autoencoder

EIGHTHS = 8


def points(network: Autoencoder) -> list[int]:
    """The qualities that a model was trained at, as points; [0] where it has one."""
    rated = _several(network)
    return [EIGHTHS * (k + 1) for k in range(rated.qualities)] if rated else [0]


def point_of(network: Autoencoder, quality: float | None) -> int:
    """The point of a quality, which may lie between two; None takes the middle.

    Raises:
        ApercuError: the model does not have this quality, or has one alone.
    """
    rated = _several(network)
    if rated is None:
        if quality is not None:
            raise ApercuError(
                "this model has one quality, so none can be chosen; train one that has several: "
                "apercu fit IMAGES --preset codec"
            )
        return 0
    quality = (rated.qualities + 1) / 2 if quality is None else quality
    if not 1 <= quality <= rated.qualities:
        raise ApercuError(
            f"there is no quality {quality:g}: this model has 1, for the smallest files, to {rated.qualities}"
        )
    return round(EIGHTHS * quality)


def check_point(network: Autoencoder, point: int) -> None:
    """Refuse a point that this model does not have.

    Raises:
        FormatError: the message is the reason only.
    """
    known = points(network)
    if not known[0] <= point <= known[-1]:
        raise FormatError("its header claims a quality that this model does not have")


@contextmanager
def at(network: Autoencoder, point: int) -> Iterator[None]:
    """Let a model with several qualities work at a point, and make symbols without what they would cost."""
    rated = network.bottleneck
    if not isinstance(rated, Rated):
        yield
        return
    with rated.at(point / EIGHTHS if rated.qualities > 1 else rated.quality, priced=False):
        yield


def _several(network: Autoencoder) -> Rated | None:
    bottleneck = network.bottleneck
    return bottleneck if isinstance(bottleneck, Rated) and bottleneck.qualities > 1 else None
