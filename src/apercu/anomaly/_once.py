"""What a model makes of a batch of images is made once, whichever scores ask for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, finalize

from torch import Tensor

from apercu.api import Model
from apercu.model import Autoencoder

Made = TypeVar("Made")

_made: dict[int, WeakKeyDictionary[Autoencoder, dict[str, Any]]] = {}
"""By the identity of a batch that is still held somewhere, then by the network."""


def once(make: Callable[[Model, Tensor], Made]) -> Callable[[Model, Tensor], Made]:
    """`make`, which then does nothing a second time for the same model and the same tensor.

    What was made is forgotten together with the tensor, which must not be changed in between.
    """

    @wraps(make)
    def remembered(model: Model, x: Tensor) -> Made:
        if id(x) not in _made:
            _made[id(x)] = WeakKeyDictionary()
            finalize(x, _made.pop, id(x), None).atexit = False
        known = _made[id(x)].setdefault(model.network, {})
        if make.__qualname__ not in known:
            known[make.__qualname__] = make(model, x)
        found: Made = known[make.__qualname__]
        return found

    return remembered
