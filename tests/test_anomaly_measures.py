"""What an anomaly is measured by: promises, AUROC and AUPRO, regions, windows, videos; against plain computations."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label
from scipy.stats import binom

from apercu.data.tiles import blend, boxes
from apercu.errors import ApercuError
from apercu.metrics import detection, localisation
from apercu.tasks._false_alarms import drift, threshold
from apercu.tasks._frames import events, natural, smoothed, told, videos
from apercu.tasks._heat import overlay, thumbnails
from apercu.tasks._regions import as_mask, coco, regions
from apercu.training import Training

FAST = Training(epochs=4, batch=16, device="cpu", precision="32", validations=1)
SIZE = (24, 32)


@pytest.mark.parametrize("rate", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("n", [40, 99, 400])
def test_the_promise_is_kept_whatever_the_distribution(n: int, rate: float) -> None:
    rng = np.random.default_rng(n)
    for draw in (rng.exponential, rng.normal, lambda size: rng.random(size) ** 4):
        many = np.sort(draw(size=200_000))
        rates, inside = [], []
        for _ in range(200):
            promised = threshold(draw(size=n), rate)
            rates.append(1 - np.searchsorted(many, promised.value, side="right") / len(many))
            inside.append(promised.low <= rates[-1] <= promised.high)
        assert np.mean(rates) < (1.6 if promised.rank else 2.2) * rate
        assert np.mean(rates) > 0.4 * rate
        assert np.mean(inside) > 0.9


def test_an_order_statistic_has_the_bounds_of_a_binomial() -> None:
    promised = threshold(np.arange(1000.0), 0.01)
    assert promised.rank == 991
    assert promised.value == 990
    # As Clopper and Pearson have it: with a rate at either bound, so many exceedances would be rare.
    above = 1000 - promised.rank
    assert binom.cdf(above, 1000, promised.high) == pytest.approx(0.025, abs=1e-6)
    assert binom.sf(above, 1000, promised.low) == pytest.approx(0.025, abs=1e-6)


@pytest.mark.parametrize("n", [1, 2, 5, 30, 98])
def test_too_few_images_are_said_to_be_too_few(n: int) -> None:
    scores = np.random.default_rng(n).normal(size=n)
    promised = threshold(scores, 0.01)
    assert promised.value >= scores.max()
    assert promised.high == pytest.approx(1 - 0.05 ** (1 / n))
    assert f"takes 99 normal images that nothing was learnt from and there are {n}:" in promised.words
    assert threshold(np.zeros(n), 0.01).value == 0
    with pytest.raises(ApercuError, match="no normal images"):
        threshold(scores[:0], 0.01)
    with pytest.raises(ApercuError, match="between 0 and 1"):
        threshold(scores, 1.5)


def test_a_rate_that_drifts_is_told_from_one_that_does_not() -> None:
    rng = np.random.default_rng(0)
    promised = threshold(rng.normal(size=500), 0.02)
    told_same = [drift(rng.normal(size=200), promised)["p_same"] < 0.01 for _ in range(200)]
    assert np.mean(told_same) < 0.04
    moved = drift(rng.normal(size=200) + 1, promised)
    assert moved["p_value"] < 1e-3
    assert moved["p_same"] < 0.01
    assert "more than promised" in moved["words"]
    few = threshold(rng.normal(size=20), 0.02)
    assert "as promised" in drift(rng.normal(size=20), few)["words"]


def brute_force(maps: list[np.ndarray], masks: list[np.ndarray], limit: float) -> float:
    """AUPRO threshold by threshold."""
    values = np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]
    points = [(0.0, 0.0)]
    for t in values:
        shares = []
        for m, mask in zip(maps, masks, strict=True):
            numbered, count = label(mask, np.ones((3, 3)))
            shares += [float((m[numbered == k] >= t).mean()) for k in range(1, count + 1)]
        outside = np.concatenate([m[~mask] for m, mask in zip(maps, masks, strict=True)])
        points.append((float((outside >= t).mean()), float(np.mean(shares))))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        if x0 >= limit:
            break
        end = min(x1, limit)
        y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
        area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("levels", [7, 10_000])
def test_aupro_against_brute_force(limit: float, levels: int) -> None:
    rng = np.random.default_rng(levels)
    masks = [rng.random((9, 11)) < share for share in (0.15, 0.3, 0.0)]
    maps = [np.rint(levels * (rng.random((9, 11)) + 0.4 * mask)).astype(np.float32) for mask in masks]
    pixels, aupro = localisation(maps, masks, limit)
    assert aupro == pytest.approx(brute_force(maps, masks, limit), abs=1e-9)
    flat, truth = np.concatenate([m.ravel() for m in maps]), np.concatenate([m.ravel() for m in masks])
    assert pixels == pytest.approx(detection(flat, truth)[0])


def test_measures_at_their_ends() -> None:
    mask = np.zeros((4, 4), np.bool_)
    mask[1:3, 1:3] = True
    assert localisation([mask.astype(np.float32)], [mask]) == (1.0, 1.0)
    assert localisation([np.zeros((4, 4), np.float32)], [mask])[0] == 0.5
    assert localisation([mask.astype(np.float32)], [np.zeros_like(mask)]) == (None, None)
    assert detection(np.array([1.0, 2.0]), np.array([False, True])) == (1.0, 1.0)
    assert detection(np.array([1.0, 2.0]), np.array([True, True])) == (None, None)


def test_regions_grow_from_what_is_odd_and_become_coco() -> None:
    heat = np.zeros((10, 12), np.float32)
    heat[2:5, 3:8] = 1.0
    heat[3, 4] = 3.0
    heat[8, 0] = 1.5
    found = regions(heat, high=2.0, low=0.5)
    assert [region.as_dict() for region in found] == [{"box": [3, 2, 5, 3], "area": 15, "peak": 3.0}]
    mask = as_mask(found, (10, 12))
    assert mask.sum() == 15
    marked = coco(["a", "b"], np.array([[10, 12], [10, 12]]), [[], found])
    (region,) = marked["annotations"]
    assert (region["image_id"], region["bbox"], region["area"]) == (2, [3, 2, 5, 3], 15)
    inside = np.repeat(np.arange(len(region["segmentation"]["counts"])) % 2, region["segmentation"]["counts"])
    np.testing.assert_array_equal(inside.reshape(12, 10).T.astype(bool), mask)
    whole = regions(np.ones((3, 4), np.float32), 0.5, 0.2)
    assert coco(["a"], np.array([[3, 4]]), [whole])["annotations"][0]["segmentation"]["counts"] == [0, 12]


@pytest.mark.parametrize(("size", "window"), [((50, 70), (32, 32)), ((32, 33), (32, 32)), ((20, 90), (32, 32))])
def test_windows_cover_and_blend_to_what_they_were(size: tuple[int, int], window: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random(size).astype(np.float32)
    places = boxes(size, window)
    assert len({(height, width) for _, _, height, width in places}) == 1
    parts = [values[top : top + height, left : left + width] for top, left, height, width in places]
    np.testing.assert_allclose(blend(parts, places, size), values, rtol=1e-5)


def test_frames_in_their_natural_order_and_events(tmp_path: Path) -> None:
    ids = ["b/f10.png", "b/f9.png", "a/f2.png", "a/f1.png", "b/f100.png"]
    assert sorted(ids, key=natural) == ["a/f1.png", "a/f2.png", "b/f9.png", "b/f10.png", "b/f100.png"]
    assert videos(ids) == {"a": [3, 2], "b": [1, 0, 4]}
    curve = np.array([0, 3, 3, 0, 3, 0, 0, 0, 0, 5, 0.0])
    found = events(curve, 2.0, 1.0)
    assert [(e.start, e.end, e.peak) for e in found] == [(1, 4, 1), (9, 9, 9)]
    assert events(curve, 9.0, 1.0) == []
    np.testing.assert_allclose(smoothed(np.ones(7), 2.0), 1)
    assert smoothed(curve, 2.0).max() < 5
    (one, other) = told(ids, np.array([0.0, 9, 0, 0, 0]), 1.0, 0.0, tmp_path)
    assert one["events"] == []
    assert (other["video"], other["events"][0]["oddest"]) == ("b", "b/f9.png")
    with Image.open(tmp_path / "b-curve.png") as picture:
        assert picture.mode == "RGB"


def test_overlays_are_clear_where_nothing_is_odd() -> None:
    image = np.full((1, 12, 300), 0.4, np.float32)
    heat, mask = np.zeros((12, 300), np.float32), np.zeros((12, 300), np.bool_)
    np.testing.assert_allclose(overlay(image, heat, mask, 2.0), 0.4, atol=1e-6)
    heat[5, 5], mask[5, 5] = 4, True
    over = overlay(image, heat, mask, 2.0)
    assert abs(over[:, 5, 5] - 0.4).max() > 0.1
    assert abs(over[:, 4, 4] - 0.4).max() > 0.1
    assert max(thumbnails([image])[0].shape) == 224
