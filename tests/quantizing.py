"""What tests of quantizers share: codes of features in a row, and codebooks that have seen some."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from apercu.bottlenecks.base import Quantizer
from apercu.types import Code


def encoded(quantizer: Quantizer, features: Tensor, noise: bool = False) -> Code:
    """The code of (B, N, F) features in a row."""
    code: Code = quantizer(features, (1, features.shape[1]), torch.zeros(1), noise)
    return code


def plain(quantizer: Quantizer) -> Quantizer:
    """The same with the identity in place of the learnt projection."""
    with torch.no_grad():
        quantizer.to_code.weight.copy_(torch.eye(quantizer.dim))
        quantizer.to_code.bias.zero_()
    return quantizer


def same_bits(a: Tensor, b: Tensor) -> bool:
    return torch.equal(a.view(torch.int32), b.view(torch.int32))


def trained(quantizer: Quantizer, batches: Callable[[], Tensor], steps: int) -> Quantizer:
    """Codebooks that have seen so many batches."""
    quantizer.train()
    with torch.no_grad():
        for _ in range(steps):
            encoded(quantizer, batches(), noise=True)
    return quantizer.eval()
