"""Splits are official where there are any, otherwise by content: stable, and never the same image on two sides."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from apercu.data import Images, open_images
from apercu.data.splits import assign


def pictures(seeds: list[int]) -> np.ndarray:
    return np.stack([np.random.default_rng(seed).integers(0, 256, (4, 4), dtype=np.uint8) for seed in seeds])


def sides(opened: Images) -> dict[bytes, str]:
    return {h.tobytes(): name for name in ("train", "val", "test") for h in opened.split(name).hashes}


@settings(deadline=None)
@given(st.lists(st.integers(0, 10_000), min_size=30, max_size=60, unique=True), st.integers(20, 29))
def test_images_that_are_added_move_no_other(seeds: list[int], before: int) -> None:
    old = sides(open_images(pictures(seeds[:before])))
    new = sides(open_images(pictures(seeds[::-1])))
    if "train" in old.values() and set(old.values()) != {"train"}:
        assert {h: new[h] for h in old} == old


@settings(deadline=None)
@given(st.lists(st.integers(0, 15), min_size=2, max_size=80))
def test_the_same_image_stands_on_one_side(seeds: list[int]) -> None:
    opened = open_images(pictures(seeds))
    by_side = [{h.tobytes() for h in opened.split(name).hashes} for name in ("train", "val", "test")]
    assert sum(map(len, by_side)) == len(set.union(*by_side))
    assert len(opened.train) > 0
    assert len(opened.split("all")) == len(seeds)


def test_the_shares_are_as_said() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (20_000, 16), dtype=np.uint8)
    splits, notes = assign(np.full(20_000, ""), hashes)
    shares = [(splits == name).mean() for name in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.8, 0.1, 0.1], atol=0.01)
    assert "80 % train, 10 % val, 10 % test" in notes[0]


@pytest.mark.parametrize(
    ("given_splits", "left", "taken"),
    [(["train", "test"], "test", "val"), (["train", "val"], "val", "test"), (["train", "val", "test"], "test", None)],
)
def test_an_official_split_stands(given_splits: list[str], left: str, taken: str | None) -> None:
    official = np.array(given_splits * 500)
    hashes = np.random.default_rng(0).integers(0, 256, (len(official), 16), dtype=np.uint8)
    splits, notes = assign(official, hashes)
    np.testing.assert_array_equal(splits == left, official == left)
    if taken is None:
        np.testing.assert_array_equal(splits, official)
        assert notes == []
    else:
        assert 0.05 < (splits[official == "train"] == taken).mean() < 0.15
        assert f"no official {taken} split" in notes[0]


def test_a_file_and_an_array_of_one_image_have_one_digest(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "x.png")
    Image.fromarray(image).save(tmp_path / "y.webp", lossless=True)
    hashes = open_images(tmp_path).split("all").hashes
    np.testing.assert_array_equal(hashes[0], open_images(image[None]).split("all").hashes[0])
    np.testing.assert_array_equal(hashes[0], hashes[1])
    resized = open_images(tmp_path, size=3, fit="resize", channels=1).split("all").hashes
    np.testing.assert_array_equal(hashes, resized)


@pytest.mark.parametrize("seed", range(5))
def test_a_single_image_is_for_training(seed: int) -> None:
    opened = open_images(pictures([seed]))
    assert [len(opened.split(name)) for name in ("train", "val", "test")] == [1, 0, 0]
