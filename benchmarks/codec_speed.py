"""Images per second, written and read, beside CompressAI's factorised prior of the same size in the same run.

Pixels in memory to the bytes of each image, and these to pixels; ours with header and checksum. Both take the same
batches, with as many convolutions of the same widths and one quality, and are trained for the same minutes on the same
images and λ, so that their symbols are alike: bytes and PSNR stand beside the speeds. Ours predicts each symbol from
others by a context in eight stages, theirs has a factorised prior and does not. After one round that does not count,
the two take turns, five times; medians. Seconds are those of the processor, on one thread, so that whatever else the
machine does is not counted.

    fashion   28×28 grey in batches of 250, two halvings, 64 channels, 16 in the code
    tiles     magnetic tile, 0.14 megapixels each, three halvings, 64 channels, 64 in the code
    shipped   the same in colour, as CompressAI ships it for its lower qualities: four halvings, 128 and 192 channels

CompressAI's convolutions, divisive normalisation and `compress` are taken as they are; for grey images and fewer
halvings, the layers are put together anew. It imports torchvision and other packages that none of this needs: they are
stood in for by empty modules.

Run: pip install --no-deps --target DIR compressai
     OMP_NUM_THREADS=1 PYTHONPATH=DIR python benchmarks/codec_speed.py [--minutes 1] [--rounds 5]
     … --minutes 0.05 --rounds 1 --images 4 --steps 20 --only fashion --name try --models /tmp/try
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import apercu
from apercu.codec.codec import Codec, kept_codec, together
from apercu.codec.container import from_file, to_file
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.tasks.compress import Compress
from apercu.training import Training

from classical import decibels
from pictures import first, idx, patches, tiles
from record import Record

ABSENT = (
    "torchvision",
    "torchvision.transforms",
    "torch_geometric",
    "torch_geometric.data",
    "torch_geometric.data.datapipes",
    "torch_geometric.transforms",
    "einops",
    "pytorch_msssim",
    "requests",
)
Pixels = list[NDArray[Any]]


@dataclass(frozen=True)
class Row:
    """A size of images and of networks."""

    channels: int
    depth: int
    width: int
    dim: int
    lam: float
    batch: int
    images: int

    def learnt(self) -> NDArray[Any]:
        """What both are trained on, (N, C, H, W)."""
        if self.depth == 2:
            images = idx("fashion_mnist", "train", 20_000)
            return images.read(np.arange(len(images)))
        images = tiles()[0]
        cut = patches([images.read([k])[0] for k in range(len(images))], 96, 4_000, 0)
        return cut.repeat(self.channels, 1)

    def measured(self, most: int) -> ImageSet:
        """What both write and read."""
        if self.depth == 2:
            return idx("fashion_mnist", "test", min(most, self.images))
        images = first(tiles()[1], min(most, self.images))
        grey = [images.read([k])[0] for k in range(len(images))]
        return apercu.open_images([np.repeat(image, self.channels, 0) for image in grey]).split("all")


ROWS = {
    "fashion": Row(1, 2, 64, 16, 60.0, 128, 1000),
    "tiles": Row(1, 3, 64, 64, 270.0, 16, 20),
    "shipped": Row(3, 4, 128, 192, 270.0, 16, 10),
}


class Ours:
    """The preset `codec`."""

    def __init__(self, row: Row, minutes: float, steps: int, folder: Path) -> None:
        pixels = row.learnt()
        if not (folder / "apercu.json").exists():
            settings = {"prior": "context", "qualities": 1}
            settings |= {"depth": row.depth, "width": row.width, "dim": row.dim, "lam": row.lam}
            training = Training(minutes=minutes, batch=row.batch, learning_rate=1e-3, device="cpu")
            apercu.fit(pixels, preset="codec", settings=settings, training=training, out=folder)
        model = apercu.load(folder, device="cpu")
        if kept_codec(model) is None:
            Compress(model, steps=steps).fit(model.images(pixels[:2_000]))
        self.codec = known(kept_codec(model))

    def write(self, images: ImageSet) -> list[bytes]:
        """The files of images, those of one size together."""
        written = [pair for batch in self.codec.encode(images) for pair in batch]
        return [to_file(coded, self.codec.fingerprint) for _, coded in sorted(written, key=lambda pair: pair[0])]

    def read(self, files: list[bytes], images: ImageSet) -> Pixels:
        """Their pixels; `images` are not looked at."""
        return self.codec.decode([from_file(file, self.codec.fingerprint) for file in files])


def known(codec: Codec | None) -> Codec:
    """The codec, which is there."""
    if codec is None:
        raise TypeError("the tables were learnt with the model")
    return codec


class Theirs:
    """CompressAI's FactorizedPrior."""

    def __init__(self, row: Row, minutes: float) -> None:
        for name in ABSENT:
            sys.modules[name] = MagicMock()
        from compressai.layers import GDN
        from compressai.models.google import FactorizedPrior
        from compressai.models.utils import conv, deconv

        torch.manual_seed(0)
        self.model = FactorizedPrior(row.width, row.dim)
        if (row.channels, row.depth) != (3, 4):
            widths = [row.channels, *[row.width] * (row.depth - 1), row.dim]
            down: list[nn.Module] = []
            up: list[nn.Module] = []
            for k in range(row.depth):
                down += [GDN(widths[k]), conv(widths[k], widths[k + 1])]
                up += [GDN(widths[-k - 1], inverse=True), deconv(widths[-k - 1], widths[-k - 2])]
            self.model.g_a, self.model.g_s = nn.Sequential(*down[1:]), nn.Sequential(*up[1:])
        self._train(row, 60 * minutes)
        self.model.eval()
        self.model.update(update_quantiles=True)

    def _train(self, row: Row, seconds: float) -> None:
        """λ·‖x − x̂‖² + nats, as ours, by Adam."""
        pixels, rng = row.learnt(), np.random.default_rng(0)
        weights = [value for name, value in self.model.named_parameters() if not name.endswith("quantiles")]
        optimizer, until = torch.optim.Adam(weights, 1e-3), time.monotonic() + seconds
        while time.monotonic() < until:
            x = torch.from_numpy(pixels[rng.integers(0, len(pixels), row.batch)]).float() / 255
            said = self.model(x)
            again = said["x_hat"][..., : x.shape[2], : x.shape[3]]
            loss = row.lam * (x - again).square().sum() - said["likelihoods"]["y"].log().sum()
            optimizer.zero_grad()
            (loss / len(x)).backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()

    @torch.no_grad()
    def write(self, images: ImageSet) -> list[bytes]:
        """The strings of images, in the batches that ours takes."""
        found: dict[int, bytes] = {}
        for batch in in_order(images, together(images.spec.dimensions)):
            found |= zip(batch.index.tolist(), self.model.compress(batch.x)["strings"][0], strict=True)
        return [found[k] for k in range(len(images))]

    @torch.no_grad()
    def read(self, files: list[bytes], images: ImageSet) -> Pixels:
        """Their pixels, in batches of one size; sizes are taken from the images, for they are in no file."""
        found: dict[int, NDArray[Any]] = {}
        for size in np.unique(images.sizes, axis=0):
            alike = np.flatnonzero((images.sizes == size).all(1))
            for part in np.array_split(alike, -(-len(alike) // together(images.spec.dimensions))):
                found |= zip(part.tolist(), self._read([files[k] for k in part], size), strict=True)
        return [found[k] for k in range(len(files))]

    def _read(self, files: list[bytes], size: NDArray[Any]) -> NDArray[Any]:
        height, width = size.tolist()
        halvings = 2 ** sum(isinstance(layer, nn.Conv2d) for layer in self.model.g_a)
        x: Tensor = self.model.decompress([files], (-(-height // halvings), -(-width // halvings)))["x_hat"]
        pixels: NDArray[Any] = (x[..., :height, :width] * 255).round().byte().numpy()
        return pixels


def seconds(work: Callable[[], Any]) -> float:
    """What it takes of the processor's time."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure(row: Row, minutes: float, steps: int, rounds: int, most: int, folder: Path) -> dict[str, Any]:
    """Train both, then let them take turns."""
    images = row.measured(most)
    sides: dict[str, Ours | Theirs] = {"apercu": Ours(row, minutes, steps, folder), "compressai": Theirs(row, minutes)}
    result: dict[str, Any] = {"images": len(images), "threads": torch.get_num_threads()}
    files = {}
    for name, side in sides.items():
        files[name] = side.write(images)
        read = side.read(files[name], images)
        reached = [decibels(images.read([k])[0], pixels) for k, pixels in enumerate(read)]
        result[name] = {"bytes": float(np.mean([len(file) for file in files[name]])), "psnr": float(np.mean(reached))}
    taken: dict[tuple[str, str], list[float]] = {}
    for _ in range(rounds):
        for name, side in sides.items():
            taken.setdefault((name, "write"), []).append(seconds(partial(side.write, images)))
            taken.setdefault((name, "read"), []).append(seconds(partial(side.read, files[name], images)))
    for (name, what), times in taken.items():
        result[name][f"{what}, images/s"] = round(len(images) / statistics.median(times), 2)
    for what in ("write", "read"):
        ours, theirs = (statistics.median(taken[name, what]) for name in sides)
        result[f"{what}, times as fast"] = round(theirs / ours, 3)
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--minutes", type=float, default=1.0, help="of training, for each of the two")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=1000, help="at most")
    parser.add_argument("--steps", type=int, default=600, help="of learning our tables")
    parser.add_argument("--models", type=Path, default=Path("/tmp/apercu-speed"))
    parser.add_argument("--name", default="codec_speed", help="of the results")
    arguments = parser.parse_args()
    record = Record(arguments.name, "images per second written and read, beside CompressAI's FactorizedPrior")
    for chosen in arguments.only.split(","):
        size = (arguments.minutes, arguments.steps, arguments.rounds, arguments.images)
        record.once(chosen, partial(measure, ROWS[chosen], *size, arguments.models / chosen))
