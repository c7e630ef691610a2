"""Near duplicates among codes: planted ones are found, unlike images are not joined, and the distance is theory's."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import Codes
from apercu.codes import search
from apercu.codes.store import ALIKE
from apercu.training import Training
from tests.commands import run

UNLIKE, RESAVED, SHIFTED = 200, 10, 10


def texture(seed: int) -> np.ndarray:
    """A smooth pattern, (48, 49): all but the last column is one image, and all but the first the same moved."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:48, :49]
    waves = [
        rng.uniform(0.3, 1) * np.sin(a * x + b * y + rng.uniform(0, 6.28)) for a, b in rng.uniform(-0.35, 0.35, (6, 2))
    ]
    return ((np.sum(waves, 0) / 5 + 0.5).clip(0, 1) * 255).astype(np.uint8)


def resaved(pixels: np.ndarray) -> np.ndarray:
    """After a JPEG file of quality 75."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The codes of textures, ten of them once more as JPEG, and ten others once more moved by a pixel."""
    whole = [texture(k) for k in range(UNLIKE)]
    again = [resaved(pixels[:, :-1]) for pixels in whole[:RESAVED]]
    moved = [pixels[:, 1:] for pixels in whole[RESAVED : RESAVED + SHIFTED]]
    x = np.stack([*(pixels[:, :-1] for pixels in whole), *again, *moved])
    training = Training(epochs=2, batch=50, device="cpu", precision="32")
    model = apercu.fit(x[:UNLIKE], preset="vae", settings={"width": 4, "dim": 16}, training=training)
    out = tmp_path_factory.mktemp("codes")
    apercu.encode(model, x, out)
    return out


def test_planted_near_duplicates_are_found_and_no_others(folder: Path) -> None:
    found = Codes(folder).groups()
    planted = [{f"image#{k}", f"image#{UNLIKE + k}"} for k in range(RESAVED + SHIFTED)]
    assert all(set(group) in planted for group in found)
    assert all(pair in map(set, found) for pair in planted[:RESAVED])
    assert sum(pair in map(set, found) for pair in planted[RESAVED:]) >= SHIFTED - 2


def test_the_command_says_which_similarity_it_took(folder: Path) -> None:
    codes = Codes(folder)
    answer = run("search", folder, "--duplicates", "--json").answer
    assert answer["threshold"] == pytest.approx(codes.alike)
    assert answer["groups"] == codes.groups()
    assert len(run("search", folder, "--duplicates", "--threshold", 1, "--json").answer["groups"]) == 0
    assert f"by a similarity of at least {codes.alike:.6f}" in run("search", folder, "--duplicates").out


@pytest.mark.parametrize("dimensions", [2, 5, 10])
def test_chance_puts_one_in_a_thousand_beside_another(dimensions: int) -> None:
    """Points drawn evenly in m dimensions, seen in 16; a twentieth of them lies as dense as is reckoned with."""
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(16, dimensions)))[0]
    rows = (rng.uniform(size=(3000, dimensions)) @ axes.T).astype(np.float32)
    reach = search.beyond_chance(rows)
    assert reach is not None
    nearest = np.sqrt(search.Compared(rows).nearest(rows, 2)[1][:, 1])
    assert (nearest <= reach).mean() <= 3 * search.LUCK
    scale = (0.02 / search.LUCK) ** (1 / dimensions)  # where it would be a share of two in a hundred
    assert (nearest <= scale * reach).mean() > search.LUCK


def test_copies_do_not_change_what_is_near() -> None:
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1000, 6)).astype(np.float32)
    copies = rows[:200] + rng.normal(scale=1e-4, size=(200, 6)).astype(np.float32)
    alone, beside = search.beyond_chance(rows), search.beyond_chance(np.concatenate([rows, rows[:300], copies]))
    assert alone is not None
    assert beside == pytest.approx(alone, rel=0.25)


def test_few_images_take_the_usual_similarity(tmp_path: Path) -> None:
    x = np.stack([texture(k)[:, :-1] for k in range(20)])
    model = apercu.fit(x, preset="ae", settings={"dim": 4}, training=Training(epochs=1, device="cpu"))
    apercu.encode(model, x, tmp_path)
    assert Codes(tmp_path).alike == ALIKE
    assert search.beyond_chance(np.zeros((500, 3), np.float32)) is None
