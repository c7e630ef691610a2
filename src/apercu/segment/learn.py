"""Learning from a handful of masks: crops around what is rare, varied alike with their masks.

    loss = cross-entropy + (1 − mean over classes of (2·Σ p·y + 1) / (Σ p + Σ y + 1))

The second part is that of Milletari, Navab and Ahmadi, "V-Net" (2016), over the classes that a batch shows; pixels that
are unknown take no part in either.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from apercu.augment import Views
from apercu.augment.base import Op
from apercu.augment.warp import Cutout, Warp
from apercu.segment.marks import UNKNOWN, Marked
from apercu.segment.network import Segmenter

SIDE, BATCH = 128, 8
DECAY, CLIP = 1e-4, 1.0
WARM = 0.1
RARE = 0.75  # the share of crops that show a class drawn evenly, however few its pixels are


def crop_side(largest: int, stride: int) -> int:
    """The side of crops from images of at most `largest` pixels a side."""
    return stride * -(-min(SIDE, largest) // stride)


class Crops:
    """Squares of `side` pixels out of images with masks, drawn from a seed; small images are continued at the edge."""

    def __init__(self, lesson: Marked, side: int, seed: int) -> None:
        self.lesson, self.side = lesson, side
        self.rng = np.random.default_rng(seed)
        held = [np.unique(numbers) for numbers in lesson.numbers]
        classes = sorted({int(c) for values in held for c in values} - {UNKNOWN})
        self.holding = {c: [k for k, values in enumerate(held) if c in values] for c in classes}

    def draw(self, count: int) -> tuple[Tensor, Tensor]:
        """Crops, (count, C, side, side) in [0, 1], and what their pixels show, (count, side, side)."""
        crops = [self._crop() for _ in range(count)]
        x = np.stack([pixels for pixels, _ in crops]).astype(np.float32) / np.float32(self.lesson.images.spec.maximum)
        return torch.from_numpy(x), torch.from_numpy(np.stack([numbers for _, numbers in crops]).astype(np.int64))

    def _crop(self) -> tuple[np.ndarray, np.ndarray]:
        if self.rng.random() < RARE:
            shown = int(self.rng.choice(list(self.holding)))
            k = int(self.rng.choice(self.holding[shown]))
            places = np.flatnonzero(self.lesson.numbers[k] == shown)
        else:
            k = int(self.rng.integers(len(self.lesson.numbers)))
            places = np.flatnonzero(self.lesson.numbers[k] != UNKNOWN)
        numbers = self.lesson.numbers[k]
        centre = np.unravel_index(self.rng.choice(places), numbers.shape)
        # The pixel that was drawn lies anywhere in the crop, as far as the image reaches.
        corner = [
            int(np.clip(at - self.rng.integers(self.side), 0, max(0, length - self.side)))
            for at, length in zip(centre, numbers.shape, strict=True)
        ]
        here = tuple(slice(start, start + self.side) for start in corner)
        pixels, shown_there = self.lesson.images.read([k])[0][(slice(None), *here)], numbers[here]
        after = [(0, self.side - length) for length in shown_there.shape]
        return np.pad(pixels, [(0, 0), *after], mode="edge"), np.pad(shown_there, after, constant_values=UNKNOWN)


def varied(ops: tuple[Op, ...], x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Views of (B, C, H, W), and the masks, (B, H, W), of what has moved in them; no part is cut out."""
    for op in ops:
        if isinstance(op, Warp):
            grid = op.grid(x)
            x = F.grid_sample(x, grid, padding_mode="border", align_corners=False).clamp_(0, 1)
            moved = F.grid_sample(y[:, None].float(), grid, "nearest", padding_mode="border", align_corners=False)
            y = moved[:, 0].long()
        elif not isinstance(op, Cutout):
            x = op(x)
    return x, y


def loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy + Dice of (B, K, H, W) and (B, H, W), −1 where unknown; 0 where nothing is known."""
    known = y != UNKNOWN
    entropy = F.cross_entropy(logits, y, ignore_index=UNKNOWN, reduction="sum") / known.sum().clamp_min(1)
    truth = F.one_hot(y.clamp_min(0), logits.shape[1]).movedim(3, 1) * known[:, None]
    p = logits.softmax(1) * known[:, None]
    overlap, total, there = (p * truth).sum((0, 2, 3)), (p + truth).sum((0, 2, 3)), truth.sum((0, 2, 3)) > 0
    dice = (1 - (2 * overlap + 1) / (total + 1)) * there
    return entropy + dice.sum() / there.sum().clamp_min(1)


def learn(network: Segmenter, lesson: Marked, views: Views, side: int, steps: int, rate: float, seed: int) -> float:
    """Train on `steps` batches of crops, at a learning rate that rises to `rate` and falls to 0.

    Returns the mean loss of the last tenth of the steps.
    """
    device = next(network.parameters()).device
    crops = Crops(lesson, side, seed)
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(learning, rate, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=max(2, steps), pct_start=WARM)
    losses = []
    network.train()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(steps):
            x, y = crops.draw(BATCH)
            x, y = varied(views.strong, x.to(device), y.to(device))
            price = loss(network(x.contiguous(memory_format=torch.channels_last)), y)
            optimiser.zero_grad(set_to_none=True)
            price.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(learning, CLIP)
            optimiser.step()
            schedule.step()
            losses.append(price.detach())
    network.eval()
    return float(torch.stack(losses[-max(1, steps // 10) :]).mean())
