"""Fit a model, load one, and use it: images in, codes, images and prices out.

model = apercu.fit("photos", preset="vae_cnn", labels=100, out="model")
model = apercu.load("model")
codes = model.encode(images)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from apercu import store
from apercu.bottlenecks.base import Quantizer
from apercu.data.batches import in_order, unread
from apercu.data.conform import Wanted, conform, of_size
from apercu.data.convert import Fit
from apercu.data.images import ImageSet, Problem
from apercu.data.recalled import Recalled
from apercu.engine import choose_device
from apercu.errors import ApercuError
from apercu.heads import pooled
from apercu.model import Autoencoder
from apercu.store import Recipe
from apercu.types import Batch, Code, ImageSpec, Output

if TYPE_CHECKING:
    from apercu.codes.store import Codes

BATCH, VALUES = 250, 16_000_000


def batch_size(image: ImageSpec) -> int:
    """How many images to take at a time, so that large ones do not fill memory."""
    return max(1, min(BATCH, VALUES // image.dimensions))


class Model:
    """A trained autoencoder with its recipe.

    Every method takes what `open_images` takes: arrays, tensors, Pillow images, paths, folders. Arrays hold the values
    that the training images were stored with (0–255 for 8-bit images).
    """

    def __init__(self, network: Autoencoder, recipe: Recipe, folder: Path | None = None, device: str = "auto") -> None:
        self.network, self.recipe, self.folder = network.eval(), recipe, folder
        self.device = choose_device(device)
        network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes that it was trained with."""
        return tuple(self.recipe.classes)

    @property
    def fingerprint(self) -> str:
        """The digest of its weights, by which what was made with it knows it again."""
        return self.recipe.files.get(store.WEIGHTS) or store.weights_digest(self.network)

    def images(
        self,
        images: object,
        split: str = "all",
        *,
        size: str | int | tuple[int, int] | None = None,
        fit: Fit | None = None,
        channels: int | None = None,
    ) -> ImageSet:
        """Open `images` as this model sees them: treated as its training images were, unless told otherwise.

        Raises:
            ApercuError: they cannot be read, or their channels or size are not the model's, or they are codes of
                another model; with advice.
        """
        usual = self.recipe.data.get("request", {})
        wanted = Wanted(
            self.recipe.image,
            self.network.fixed_size,
            size or usual.get("size"),
            fit or usual.get("fit", "error"),
            channels or usual.get("channels"),
        )
        opened = conform(images, wanted, split)
        if isinstance(opened.pixels, Recalled) and opened.pixels.fingerprint != self.fingerprint:
            raise ApercuError("these codes were made with another model, or before this one changed; encode them again")
        return opened

    def of_size(self, images: ImageSet) -> tuple[ImageSet, list[Problem]]:
        """Those of the images whose size this model can take, and why not the others."""
        return of_size(images, Wanted(self.recipe.image, self.network.fixed_size))

    def outputs(self, images: ImageSet, decode: bool = True) -> Iterator[tuple[Batch, Output]]:
        """Run the model over the images batch by batch, without noise and without gradients.

        Codes that were kept are taken as they are, and the images themselves are read only to `decode` beside them.
        """
        if decode:
            self._check_that_it_draws()
        self.network.eval()
        if isinstance(images.pixels, Recalled):
            yield from self._recalled(images, images.pixels, decode)
            return
        for batch in in_order(images, batch_size(images.spec), self.device):
            with torch.no_grad():  # never open while the caller works: two passes may take turns
                output = self.network(batch, noise=False, decode=decode)
            yield batch, output

    def glances(self, images: ImageSet) -> Iterator[tuple[Batch, Output, Tensor]]:
        """As `outputs`, with the price of every image without its label, (B,) nats; nothing is decoded for the caller.

        Raises:
            ApercuError: codes that were kept without prices.
        """
        kept = images.pixels
        if isinstance(kept, Recalled):
            if kept.prices is None:
                raise ApercuError("these codes were kept without their prices, which take the images; name IMAGES")
            for batch, output in self.outputs(images, decode=False):
                yield batch, output, torch.from_numpy(kept.prices[images.rows[batch.index.cpu().numpy()]])
            return
        unlabelled = images.with_labels(np.full(len(images), -1))  # their classes need not be the model's
        self.network.eval()
        for batch in in_order(unlabelled, batch_size(images.spec), self.device):
            with torch.no_grad():
                prices, output = self.network.price(batch, noise=False)
            yield batch, output, self.network.objective.unlabelled(prices)

    def _recalled(self, images: ImageSet, kept: Recalled, decode: bool) -> Iterator[tuple[Batch, Output]]:
        """What the rest of the model says of codes that were kept."""
        network = self.network
        batches = (in_order if decode else unread)(images, batch_size(images.spec), self.device)
        for batch in batches:
            size = (batch.x.shape[2], batch.x.shape[3])
            values = torch.from_numpy(np.array(kept.codes(images.rows[batch.index.cpu().numpy()]))).to(self.device)
            with torch.no_grad():
                symbols = None
                if isinstance(network.bottleneck, Quantizer) and not values.is_floating_point():
                    symbols = values.long()
                    values = network.bottleneck.from_symbols(symbols)
                code = Code(values, network.grid(size), mean=values, symbols=symbols)
                pixels = network.decode(code.z, code.grid, size) if decode else None
                heads = {name: head(code) for name, head in network.heads.items()}
            yield batch, Output(code, pixels, heads)

    def encode(self, images: object) -> NDArray[np.float32]:
        """The code of every image, (B, N, D); a vector code has N = 1. The images share one size."""
        return self._gather(images, lambda output: output.code.mean)

    def features(self, images: object) -> NDArray[np.float32]:
        """One vector per image whatever its size, (B, K): the code, averaged over at most 4×4 cells."""
        return self._gather(images, lambda output: pooled(output.code))

    def probabilities(self, images: object) -> NDArray[np.float32]:
        """What the joint label head says, (B, classes).

        Raises:
            ApercuError: the model was trained without one.
        """
        if "label" not in self.network.heads:
            raise ApercuError(
                f"preset {self.recipe.preset} has no label head; use the task classify, which fits a probe"
            )
        return self._gather(images, lambda output: output.heads["label"].softmax(1))

    def reconstruct(self, images: object) -> NDArray[Any]:
        """Decode the code of every image, (B, C, H, W) in the stored values of the training images."""
        return self.stored(self._gather(images, lambda output: output.pixels.mean, decode=True))

    def decode(self, codes: NDArray[Any] | torch.Tensor, size: tuple[int, int] | None = None) -> NDArray[Any]:
        """Images of codes (B, N, D), (B, C, H, W) in the stored values of the training images.

        `size` (height, width) is needed for maps of symbols where it is not the size in the recipe.
        """
        self._check_that_it_draws()
        z = torch.as_tensor(np.asarray(codes), dtype=torch.float32)
        height, width = size or (self.recipe.image.height, self.recipe.image.width)
        grid = self.network.grid((height, width))
        expected = (grid[0] * grid[1], self.network.bottleneck.dim)
        if z.ndim != 3 or tuple(z.shape[1:]) != expected:
            raise ApercuError(f"codes of this model have shape (B, {expected[0]}, {expected[1]}), not {tuple(z.shape)}")
        with torch.no_grad():
            parts = [
                self.network.decode(part.to(self.device), grid, (height, width)).mean.cpu()
                for part in torch.split(z, batch_size(self.recipe.image))
            ]
        return self.stored(torch.cat(parts).numpy())

    def price(self, images: object, noise: bool = False, seed: int = 0) -> dict[str, NDArray[np.float32]]:
        """Every term of the objective for every image, (B,) in nats, and "total", which leaves out the label.

        The price of an image is that of its code's mean, whatever stands beside it; with `noise` the code is drawn from
        `seed`, and the mean over images is the negative ELBO of a variational model. Labels of other classes than the
        model's cost nothing.
        """
        rows: dict[str, list[torch.Tensor]] = {}
        objective, opened = self.network.objective, self.images(images)
        if opened.classes != self.classes:
            opened = opened.with_labels(np.full(len(opened), -1))
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for batch in in_order(opened, batch_size(opened.spec), self.device):
                prices, _ = self.network.price(batch, noise)
                for name, price in (prices | {"total": objective.unlabelled(prices)}).items():
                    rows.setdefault(name, []).append(price.cpu())
        return {name: torch.cat(parts).numpy() for name, parts in rows.items()}

    def stored(self, pixels: NDArray[np.float32]) -> NDArray[Any]:
        """[0, 1] → the values and type that the training images were stored with."""
        spec = self.recipe.image
        values = pixels if spec.maximum == 1 else np.rint(np.clip(pixels, 0, 1) * spec.maximum)
        stored: NDArray[Any] = values.astype(spec.dtype)
        return stored

    def save(self, folder: str | Path) -> Path:
        """Write the model as a folder, with what its tasks keep beside it, and return its path."""
        before, self.folder = self.folder, Path(folder)
        if before is not None:
            store.copy_files(self.recipe, before, self.folder)
        store.save(self.network, self.recipe, self.folder)
        return self.folder

    def _check_that_it_draws(self) -> None:
        if self.network.backbone is not None:
            raise ApercuError(
                f"preset {self.recipe.preset} decodes the features of its encoder and no pixels, so it cannot draw; "
                "train another for that, such as vae"
            )

    def _gather(self, images: object, read: Callable[[Any], torch.Tensor], decode: bool = False) -> NDArray[np.float32]:
        opened = self.images(images)
        if len(opened) == 0:
            raise ApercuError("there are no images here")
        rows = [(batch.index, read(output)) for batch, output in self.outputs(opened, decode)]
        shapes = {tuple(row.shape[1:]) for _, row in rows}
        if len(shapes) > 1:
            raise ApercuError("the images differ in size, so their codes do; pass the images of one size at a time")
        order = torch.cat([index for index, _ in rows]).argsort()
        values = torch.cat([row for _, row in rows])[order]
        return values.float().cpu().contiguous().numpy()


def model_of(codes: Codes, folder: str | Path | None = None, device: str = "auto") -> Model:
    """The model that made these codes, from `folder`, or from where it was then.

    Raises:
        ApercuError: it is not there, or another one is.
    """
    path = Path(folder or codes.about.model)
    if folder is None and not (codes.about.model and path.is_dir()):
        raise ApercuError(f"the model that made {codes.folder} is not where it was; say where it is with --model MODEL")
    model = load(path, device)
    model.images(codes)
    return model


def load(folder: str | Path, device: str = "auto") -> Model:
    """Open a model folder.

    Raises:
        FormatError: a folder that is damaged, foreign, or from a newer version.
    """
    network, recipe = store.load(Path(folder))
    return Model(network, recipe, Path(folder), device)
