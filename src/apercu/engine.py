"""The machine under training: device, precision and processes, from Lightning Fabric."""

from __future__ import annotations

import logging
import os
import warnings
from typing import TYPE_CHECKING

import torch
from torch import nn

from apercu.attention import Attention
from apercu.errors import ApercuError
from apercu.model import Autoencoder

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.precision import Precision

PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed"}


def fast_bf16(device: str) -> bool:
    """Whether this device multiplies in bfloat16 faster than in float32."""
    if device == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return device == "cpu" and bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def choose_device(device: str = "auto") -> str:
    """The device that "auto" means here: "cuda", "mps" or "cpu".

    Raises:
        ApercuError: the device asked for is not there.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, is_there in there.items() if is_there)
    if not there.get(device, False):
        names = ", ".join(name for name, is_there in there.items() if is_there)
        raise ApercuError(f"there is no device {device!r} here; choose auto or one of: {names}")
    return device


def choose_precision(precision: str, device: str, model: Autoencoder) -> str:
    """The precision in Fabric's words.

    "auto" is bfloat16 where the device is fast in it and the model convolves or attends, else float32: small dense
    networks lose more to conversions than they win, and second derivatives want full precision.
    """
    if precision == "auto":
        heavy = any(isinstance(module, nn.Conv2d | Attention) for module in model.modules())
        fits = heavy and not model.bottleneck.differentiates_input
        return PRECISIONS["bf16" if fits and fast_bf16(device) else "32"]
    if precision not in PRECISIONS:
        raise ApercuError(f"there is no precision {precision!r}; choose one of: auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def first_process() -> bool:
    """Whether this process is the only one, or the one of them that writes files."""
    return int(os.environ.get("RANK", 0)) == 0


def seed_noise(seed: int, device: str) -> None:
    """Start the device's noise from `seed`; `torch.manual_seed` would queue the same for every absent device too."""
    torch.default_generator.manual_seed(seed)
    if device != "cpu":
        getattr(torch, device).manual_seed(seed)


def make_fabric(device: str, precision: str) -> Fabric:
    """A launched Fabric; under `torchrun` it joins the processes that torchrun started."""
    from lightning_fabric import Fabric  # a second of import that only training needs

    world = int(os.environ.get("WORLD_SIZE", 1))
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    logger = logging.getLogger("lightning_fabric")
    level = logger.level
    logger.setLevel(logging.WARNING)  # what it chose is known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # hints about hardware that is not asked for
        fabric = Fabric(
            accelerator=device,
            plugins=[_precision(precision, device)],
            devices=local,
            num_nodes=world // local,
            strategy="ddp" if world > 1 else "auto",
        )
        fabric.launch()
    logger.setLevel(level)
    return fabric


def _precision(precision: str, device: str) -> Precision:
    """Fabric's plugin for this precision, in its words."""
    from lightning_fabric.plugins.precision import MixedPrecision, Precision

    if precision == PRECISIONS["32"]:
        return Precision()
    plugin = MixedPrecision("bf16-mixed", device)
    # Autocast converts where a layer gains by it; the pixels themselves are what is to be explained, and stay exact.
    plugin.convert_input = lambda data: data  # type: ignore[method-assign]
    return plugin
