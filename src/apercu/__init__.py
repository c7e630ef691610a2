"""Apercu: one compact code for your own images, and every job from that code."""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from apercu.api import Model, load
    from apercu.codes.store import Codes
    from apercu.data.open import Images, open_images
    from apercu.encoding import encode
    from apercu.errors import ApercuError, FormatError, TrainingError
    from apercu.estimators import AutoencoderClassifier, AutoencoderTransformer
    from apercu.fitting import Job, fit, prepare
    from apercu.training import Training

__version__ = version("apercu")
__all__ = [
    "ApercuError",
    "AutoencoderClassifier",
    "AutoencoderTransformer",
    "Codes",
    "FormatError",
    "Images",
    "Job",
    "Model",
    "Training",
    "TrainingError",
    "encode",
    "fit",
    "load",
    "open_images",
    "prepare",
]

# Imported when first asked for, so that `import apercu` and the command line's help cost no PyTorch.
_HOME = {
    "ApercuError": "errors",
    "AutoencoderClassifier": "estimators",
    "AutoencoderTransformer": "estimators",
    "Codes": "codes.store",
    "FormatError": "errors",
    "Images": "data.open",
    "Job": "fitting",
    "Model": "api",
    "Training": "training",
    "TrainingError": "errors",
    "encode": "encoding",
    "fit": "fitting",
    "load": "api",
    "open_images": "data.open",
    "prepare": "fitting",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOME:
        return getattr(importlib.import_module(f"apercu.{_HOME[name]}"), name)
    raise AttributeError(f"module 'apercu' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
