"""Make new images: from the prior, or per class from the codes of real images, or between two images.

A variational code is drawn from its prior N(0, I). For every other code, and for each class, a Gaussian mixture is
fitted to the codes of real images (the aggregated posterior), after a projection onto their principal components where
a code is long; where codes are quantised, they are moved to the nearest there is. The folder that is written has one
sub-folder per class, ready to train with.

Example: apercu generate MODEL IMAGES -o OUT -s count=100 -s source=posterior
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from apercu.api import Model
from apercu.bottlenecks.base import Quantizer
from apercu.bottlenecks.gaussian import Gaussian
from apercu.data.images import ImageSet
from apercu.errors import ApercuError
from apercu.metrics import frechet
from apercu.sheet import contact_sheet, save_image
from apercu.tasks.base import Result, Task

__all__ = ["Generate"]

COMPONENTS = 64
Array = NDArray[Any]


class Aggregate:
    """A Gaussian mixture over codes (n, K): principal components first where K > 64; mixtures by BIC."""

    def __init__(self, codes: Array, seed: int) -> None:
        from sklearn.decomposition import PCA
        from sklearn.mixture import GaussianMixture

        rank = min(COMPONENTS, codes.shape[1], max(1, len(codes) // 2))
        with np.errstate(invalid="ignore", divide="ignore"):  # a lone code has no variance to divide by
            self.pca = PCA(rank, random_state=seed).fit(codes)
        reduced = self.pca.transform(codes).astype(np.float64)  # covariances need the digits
        fits = []
        for parts in (1, 2, 4, 8):
            if len(codes) >= 10 * parts:
                shape = "full" if rank <= 32 else "diag"
                mixture = GaussianMixture(parts, covariance_type=shape, reg_covar=1e-3, random_state=seed)
                fits.append(mixture.fit(reduced))
        self.mixture = min(fits, key=lambda m: float(m.bic(reduced))) if fits else None
        self.mean, self.deviation = reduced.mean(0), reduced.std(0)

    def draw(self, count: int, rng: np.random.Generator) -> Array:
        """(count, K)."""
        if self.mixture is None:  # fewer than ten codes: noise around their mean
            reduced = self.mean + self.deviation * rng.standard_normal((count, len(self.mean)))
        else:
            self.mixture.random_state = int(rng.integers(2**31))
            reduced = self.mixture.sample(count)[0]
            rng.shuffle(reduced)
        return np.asarray(self.pca.inverse_transform(reduced), np.float32)


def on_the_way(a: Array, b: Array, count: int, spherical: bool) -> Array:
    """`count` codes from one to the other, (N, D) → (count, N, D): straight, or along the sphere.

    A Gaussian prior in many dimensions lies near a sphere, which the straight way would leave.
    """
    steps = np.linspace(0, 1, count, dtype=np.float32)[:, None, None]
    straight: Array = (1 - steps) * a + steps * b
    cosine = float((a * b).sum() / max(1e-12, float(np.linalg.norm(a) * np.linalg.norm(b))))
    angle = math.acos(min(1.0, max(-1.0, cosine)))
    if not spherical or math.sin(angle) < 1e-3:
        return straight
    along: Array = (np.sin((1 - steps) * angle) * a + np.sin(steps * angle) * b) / math.sin(angle)
    return along


class Generate(Task):
    """x ~ p(x | z): `count` images, or `count` of every class.

    `source`: "prior" draws z ~ N(0, I), "posterior" draws from the codes of IMAGES, per class where labels are known,
    "auto" is posterior where images are given; `between`: two image files, comma-separated, and `count` steps from one
    to the other.
    """

    needs_images = False

    def __init__(
        self,
        model: Model,
        *,
        count: int = 64,
        source: Literal["auto", "prior", "posterior"] = "auto",
        between: str = "",
        seed: int = 0,
    ) -> None:
        super().__init__(model)
        self.count, self.source, self.between, self.seed = count, source, between, seed
        if count < 1:
            raise ApercuError(f"count must be at least 1, not {count}")

    def __call__(self, images: ImageSet | None, out: Path | None = None) -> Result:
        """The images per class or under "all"; with `out`, `CLASS/0000.png`, … and `sheet.png`."""
        drawn = self.draw(images)
        if out is not None:
            white = self.model.recipe.image.maximum
            shown, said = [], []
            for name, pixels in drawn.items():
                for number, image in enumerate(pixels):
                    save_image(image, out / name.replace("/", "_") / f"{number:04d}", white)
                some = pixels[: max(10, 64 // len(drawn))]
                shown += [image / np.float32(white) for image in some]
                said += [name] * len(some)
            columns = 10 if len(drawn) > 1 else 8
            save_image(contact_sheet(shown, columns, said if len(drawn) > 1 else ()), out / "sheet")
        counts = {name: len(pixels) for name, pixels in drawn.items()}
        return {"n": sum(counts.values()), "classes": counts, "out": str(out) if out else None}

    def draw(self, images: ImageSet | None) -> dict[str, Array]:
        """New images in stored values, (count, C, H, W) each, by class name or "all"."""
        rng = np.random.default_rng(self.seed)
        if self.between:
            return {"between": self.model.decode(self._interpolated())}
        source = self.source
        if source == "auto":
            source = "prior" if images is None else "posterior"
        if source == "prior":
            if not isinstance(self.model.network.bottleneck, Gaussian):
                raise ApercuError(
                    f"preset {self.model.recipe.preset} has no prior to draw from; give images, whose codes are the "
                    "source: apercu generate MODEL IMAGES"
                )
            codes = rng.standard_normal((self.count, *self._code_shape())).astype(np.float32)
            return {"all": self.model.decode(codes)}
        if images is None or len(images) == 0:
            raise ApercuError("generating from the posterior needs images whose codes are the source")
        codes = self.model.encode(images)
        present = np.unique(images.labels[images.labels >= 0])
        groups = {images.classes[k]: codes[images.labels == k] for k in present} if len(present) else {"all": codes}
        size = (images.spec.height, images.spec.width)
        return {name: self.model.decode(self._from_codes(group, rng), size) for name, group in groups.items()}

    def _code_shape(self) -> tuple[int, int]:
        network = self.model.network
        height, width = network.grid(network.image.shape[1:])
        return height * width, network.bottleneck.dim

    def _from_codes(self, codes: Array, rng: np.random.Generator) -> Array:
        drawn = Aggregate(codes.reshape(len(codes), -1), self.seed).draw(self.count, rng)
        return self._quantised(drawn.reshape(self.count, *codes.shape[1:]))

    def _quantised(self, codes: Array) -> Array:
        bottleneck = self.model.network.bottleneck
        if not isinstance(bottleneck, Quantizer):
            return codes
        import torch

        with torch.no_grad():
            moved: Array = bottleneck.quantise(torch.from_numpy(codes).to(self.model.device)).cpu().numpy()
        return moved

    def _interpolated(self) -> Array:
        """`count` codes on the way from one image to the other: straight, or along the sphere for a Gaussian prior."""
        paths = [part.strip() for part in self.between.split(",")]
        if len(paths) != 2:
            raise ApercuError("between takes two image files, comma-separated: -s between=a.png,b.png")
        a, b = (self.model.encode(path)[0] for path in paths)
        gaussian = isinstance(self.model.network.bottleneck, Gaussian)
        return self._quantised(on_the_way(a, b, max(2, self.count), gaussian))

    def evaluate(self, images: ImageSet) -> Result:
        """Fréchet distance, in the model's own code space, of generated images from half of these images.

        The other half is what the posterior is fitted to; its own distance, "frechet_real", is as low as one can get.

        With a joint head, also the share of images generated for a class that the head gives to this class.
        """
        if len(images) < 20:
            raise ApercuError(f"measuring generated images needs at least 20 real ones and these are {len(images)}")
        count = max(20, min(len(images), 1000))
        order = np.random.default_rng(self.seed).permutation(len(images))
        images, unseen = images.subset(order[::2]), images.subset(order[1::2])
        real = self.model.features(unseen)
        result: Result = {"n": count, "frechet_real": frechet(real, self.model.features(images))}
        per_class = max(2, count // max(1, len(np.unique(images.labels[images.labels >= 0]))))
        posterior = Generate(self.model, count=per_class, source="posterior", seed=self.seed).draw(images)
        result["frechet_posterior"] = frechet(real, self.model.features(np.concatenate(list(posterior.values()))))
        if isinstance(self.model.network.bottleneck, Gaussian):
            prior = Generate(self.model, count=count, source="prior", seed=self.seed).draw(None)["all"]
            result["frechet_prior"] = frechet(real, self.model.features(prior))
        if "label" in self.model.network.heads and "all" not in posterior:
            agreed = [
                (self.model.probabilities(pixels).argmax(1) == self.model.classes.index(name)).mean()
                for name, pixels in posterior.items()
                if name in self.model.classes
            ]
            result["label_agreement"] = float(np.mean(agreed))
        return result
