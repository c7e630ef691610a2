"""The check finds what was planted, and nothing where nothing is."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from apercu.data import open_images
from apercu.data.check import check
from apercu.data.duplicates import ALIKE, near_pairs, thumbnails

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


def photograph(seed: int, size: int = 48) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(30):
        path = tmp_path / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(exist_ok=True)
        photograph(i).save(path)
    return tmp_path


def test_what_is_planted_is_found(folder: Path) -> None:
    photograph(0).save(folder / "b" / "copy.png")
    photograph(1).save(folder / "b" / "again.jpg", quality=80)
    photograph(2).resize((31, 31)).save(folder / "a" / "small.png")
    Image.new("RGB", (48, 48), (9, 9, 9)).save(folder / "a" / "flat.png")
    (folder / "a" / "cut.png").write_bytes((folder / "a" / "2.png").read_bytes()[:500])
    report = check(folder)
    assert [set(group.ids) for group in report.duplicates] == [{"a/0.png", "b/copy.png"}]
    assert [set(group.ids) for group in report.contradictions] == [{"a/0.png", "b/copy.png"}]
    assert {frozenset(pair.ids) for pair in report.near} == {
        frozenset({"b/1.png", "b/again.jpg"}),
        frozenset({"a/2.png", "a/small.png"}),
    }
    assert report.constant == ["a/flat.png"]
    assert [problem.id for problem in report.problems] == ["a/cut.png"]
    assert report.sizes == {"48×48": 33, "31×31": 1}
    assert report.kinds == {"8-bit colour": 34}
    assert sum(report.balance["b"].values()) == 17
    assert all(len(set(found.splits)) > 1 for found in report.across)
    again = json.loads(json.dumps(report.to_json()))
    assert again["problems"][0]["id"] == "a/cut.png"
    assert "near duplicates" in str(report)
    console = Console(width=120)
    with console.capture() as captured:
        console.print(report)
    assert "a/flat.png" in captured.get()


def test_a_clean_set_is_clean(folder: Path) -> None:
    report = check(open_images(folder))
    assert (report.duplicates, report.near, report.across, report.constant, report.problems) == ([], [], [], [], [])
    low, high = report.range
    assert 0 <= low < high <= 255


def test_simple_images_are_not_all_alike() -> None:
    report = check("sklearn:digits")
    assert len(report.near) < 5
    assert report.range == (0, 16)


def test_every_near_pair_is_found_and_no_other() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 1, 16, 16))
    noisy = base[rng.integers(0, 40, 3000)] + rng.normal(0, rng.uniform(1, 12, (3000, 1, 1, 1)), (3000, 1, 16, 16))
    thumbs = thumbnails(noisy.clip(0, 255).astype(np.uint8), 255)
    thumbs[5] = 7
    centred = thumbs - thumbs.mean(1, keepdims=True)
    units = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1)
    correlation = np.triu(units @ units.T, 1)
    pairs, found = near_pairs(thumbs)
    sure = {tuple(p) for p in np.argwhere(correlation >= ALIKE + 1e-5).tolist()}
    possible = {tuple(p) for p in np.argwhere(correlation >= ALIKE - 1e-5).tolist()}
    assert sure <= {tuple(p) for p in pairs.tolist()} <= possible
    assert len(sure) > 1000
    assert (found >= ALIKE - 1e-5).all()


def test_known_copies_between_splits_are_found() -> None:
    file = SHARED / "pneumoniamnist" / "pneumoniamnist.npz"
    if not file.exists():
        pytest.skip("the shared data are not here")
    report = check(file)
    assert sum({"train", "val"} <= set(found.splits) for found in report.across) == 8
