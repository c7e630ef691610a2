"""Learn the prior of a model's symbols from the symbols of its training images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from apercu.codec.coding import Integers
from apercu.codec.prior import FRACTION, REACH, Layout, Prior

ENTRIES = 1 << 18
"""Numbers in E, at most: half a megabyte."""
TOKENS = 300_000
BATCH = 2048
HELD_OUT = 0.1
NEIGHBOURS_UP_TO, EARLIER_UP_TO = 16, 128


def learn(
    codes: Sequence[Integers],
    alphabet: tuple[int, ...],
    steps: int = 600,
    seed: int = 0,
    points: Sequence[int] | None = None,
) -> Prior:
    """The prior that codes, each (h, w, S), are cheapest under; every tenth of them chooses when to stop.

    `points`: the operating point of each code, at equal distances, where there are several. By AdamW on the
    cross-entropy, from the frequencies of each symbol alone; then rounded to whole numbers.
    """
    if max(alphabet) == 1:
        raise ValueError("there is nothing to learn of symbols that have one value each")
    mapped = any(code.shape[0] * code.shape[1] > 1 for code in codes)
    neighbours = len(REACH) if mapped and len(alphabet) <= NEIGHBOURS_UP_TO else 0
    ladder = np.unique(points or [0])
    graded = (len(ladder), int(ladder[1] - ladder[0])) if len(ladder) > 1 else ()
    layout = Layout(alphabet, neighbours, len(alphabet) <= EARLIER_UP_TO, *graded)
    known, symbols = _tokens(codes, layout, seed, points or [0] * len(codes))
    counts = [np.bincount(symbols[:, s], minlength=count) for s, count in enumerate(alphabet)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _Net(layout, counts)
        _descend(net, torch.from_numpy(known), torch.from_numpy(symbols), steps)
    return net.rounded()


def _tokens(codes: Sequence[Integers], layout: Layout, seed: int, points: Sequence[int]) -> tuple[Integers, Integers]:
    """What is known of each token, (T, known), and its symbols, (T, S); of some, where they are many."""
    known, symbols = [], []
    order = np.random.default_rng(seed).permutation(len(codes))
    total = 0
    for code, point in ((codes[k], points[k]) for k in order):
        grid = (code.shape[0], code.shape[1])
        padded = layout.frame(1, grid)
        padded[0, 2:, 2:-2] = code
        i, j = (axis.ravel() for axis in np.indices(grid))
        known.append(layout.known(padded, i, j, grid, point)[0])
        symbols.append(code.reshape(-1, len(layout.alphabet)).astype(np.int64))
        total += len(i)
        if total >= TOKENS:
            break
    return np.concatenate(known), np.concatenate(symbols)


class _Net(nn.Module):
    """The prior in floating point."""

    def __init__(self, layout: Layout, counts: Sequence[Integers]) -> None:
        super().__init__()
        self.layout = layout
        rank = int(np.clip(ENTRIES // layout.rows, 8, 64))
        known = 1 + layout.neighbours * len(layout.alphabet) + (layout.qualities > 0)
        self.rows = nn.Parameter(torch.randn(layout.rows, rank) * 0.3 / known**0.5)
        self.columns = nn.Parameter(torch.randn(rank, sum(layout.alphabet)) * 0.5 / rank**0.5)
        shares = [(torch.from_numpy(count) + 0.5).log() for count in counts]
        self.bias = nn.Parameter(torch.cat([share - share.logsumexp(0) for share in shares]).float())

    def forward(self, known: Tensor, symbols: Tensor) -> Tensor:
        """−ln P of the symbols of each token: (T, known), (T, S) → (T,)."""
        h = F.embedding_bag(known, self.rows, mode="sum")
        price = h.new_zeros(len(h))
        for s, own in enumerate(self.layout.columns):
            logits = h.relu() @ self.columns[:, own] + self.bias[own]
            price = price + F.cross_entropy(logits, symbols[:, s], reduction="none")
            if self.layout.earlier and s + 1 < symbols.shape[1]:
                h = h + F.embedding(int(self.layout.before[s]) + symbols[:, s], self.rows)
        return price

    def rounded(self) -> Prior:
        """The same in whole numbers."""

        def whole(values: Tensor, unit: int, bits: int) -> np.ndarray:
            limit = 2 ** (bits - 1) - 1
            return (values.detach() * unit).round().clamp(-limit, limit).numpy().astype(f"int{bits}")

        graded = [self.layout.qualities, self.layout.every] if self.layout.qualities else []
        return Prior(
            self.layout.outside,
            np.array([self.layout.neighbours, self.layout.earlier, *graded], np.int64),
            whole(self.rows, FRACTION, 16),
            whole(self.columns, FRACTION, 16),
            whole(self.bias, FRACTION**2, 32),
        )


def _descend(net: _Net, known: Tensor, symbols: Tensor, steps: int) -> None:
    """Train, and keep the weights that the tokens held out are cheapest under, which may be those at the start."""
    held = max(1, int(HELD_OUT * len(known)))
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    best, kept = _price(net, known[:held], symbols[:held]), _copy(net)
    for step, index in zip(range(steps), _batches(held, len(known)), strict=False):
        optimizer.zero_grad()
        net(known[index], symbols[index]).mean().backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % max(1, steps // 10) == 0:
            price = _price(net, known[:held], symbols[:held])
            if price < best:
                best, kept = price, _copy(net)
    net.load_state_dict(kept)


def _batches(start: int, end: int) -> Iterator[Tensor]:
    """Tokens start … end in random batches, for ever."""
    while True:
        order = start + torch.randperm(end - start) if end > start else torch.zeros(1, dtype=torch.int64)
        yield from torch.split(order, BATCH)


def _copy(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.state_dict().items()}


@torch.no_grad()
def _price(net: _Net, known: Tensor, symbols: Tensor) -> float:
    parts = zip(torch.split(known, BATCH), torch.split(symbols, BATCH), strict=True)
    return float(sum(net(a, b).sum() for a, b in parts))
