"""Make the golden model of today's format: run once per format, commit the result, never again for that format.

Run: python -m tests.golden.make
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

import apercu
from apercu import store


def main() -> None:
    """Train a tiny `vae_cnn` on the digits and write what it says of ten of them."""
    folder = Path(__file__).parent / f"format-{store.FORMAT}"
    settings = {"width": 4, "dim": 6, "hidden": 16}
    training = apercu.Training(epochs=10, device="cpu", precision="32")
    model = apercu.fit("sklearn:digits", preset="vae_cnn", settings=settings, training=training)
    model.save(folder)
    x = apercu.open_images("sklearn:digits").test.read(np.arange(10))
    np.savez_compressed(
        folder / "expected.npz",
        x=x,
        code=model.encode(x),
        probabilities=model.probabilities(x),
        reconstruction=model.reconstruct(x),
        price=model.price(x)["total"],
    )


if __name__ == "__main__":
    main()
