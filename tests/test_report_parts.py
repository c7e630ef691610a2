"""The parts of the report: how to make a model again, maps, charts, pictures and numbers in words."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import Model, Training
from apercu.maps import maps, neighbour_agreement
from apercu.pages.pictures import Film, data_uri, sheet
from apercu.pages.words import brief, percent, wilson
from apercu.report.again import make_again
from apercu.report.plots import bars, chart, nice_ticks

from .conftest import shapes

SETTINGS = {"dim": 8, "width": 4}


@pytest.fixture
def model(tmp_path: Path) -> Model:
    training = Training(epochs=3, batch=32, device="cpu")
    job = apercu.prepare(shapes(80), preset="vae_cnn", labels=20, settings=SETTINGS, training=training)
    return Model(job.network, job.recipe, tmp_path / "my model", "cpu")


def test_the_command_makes_the_model_again(model: Model) -> None:
    model.recipe.data["origin"] = "/my photos/$(rm)"
    again = make_again(model)
    words = shlex.split(again.command or "")
    assert words[:5] == ["apercu", "fit", "/my photos/$(rm)", "-o", "my model"]
    for option, value in {"--preset": "vae_cnn", "--labels": "20", "--epochs": "3", "--batch": "32"}.items():
        assert words[words.index(option) + 1] == value
    assert [words[i + 1] for i, word in enumerate(words) if word == "-s"] == ["dim=8", "width=4"]
    assert "--seed" not in words
    compile(again.python, "again", "exec")
    assert "labels=20" in again.python


def test_arrays_have_no_name_for_a_command(model: Model) -> None:
    again = make_again(model)
    assert again.command is None
    assert "    images,\n" in again.python


def test_settings_that_only_python_has(model: Model) -> None:
    model.recipe.data["origin"] = "sklearn:digits"
    model.recipe.training["clip"] = 2.0
    again = make_again(model)
    assert again.command is None
    assert "clip" in again.reason
    assert "clip=2.0" in again.python


def test_maps() -> None:
    rng = np.random.default_rng(0)
    groups = np.repeat([0, 1], 40)
    codes = (rng.normal(size=(80, 12)) + 12 * groups[:, None]).astype(np.float32)
    found = maps(codes)
    assert list(found) == ["PCA", "t-SNE"]
    for points in found.values():
        assert points.shape == (80, 2)
        assert points.min() >= -1e-9
        assert points.max() <= 1 + 1e-9
        assert neighbour_agreement(points.astype(np.float32), groups, 5).mean() > 0.95
    assert list(maps(codes[:, :2])) == ["the code itself"]
    assert list(maps(codes[:, :1])) == ["PCA"]
    assert maps(np.ones((80, 12), np.float32)) == {}
    assert maps(codes[:3]) == {}


def test_wilson() -> None:
    assert wilson(9, 10) == pytest.approx((0.5958, 0.9821), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-3)
    assert wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-3)


def test_numbers_in_words() -> None:
    assert [brief(value) for value in (0.054687, -45.74, 2536.2)] == ["0.0547", "−45.7", "2,536"]
    assert [percent(value) for value in (0.0, 0.9341, 1.0)] == ["0\u00a0%", "93.4\u00a0%", "100\u00a0%"]


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-45.2, 390), (0.305, 0.335), (0, 64), (1e5, 3e6)])
def test_ticks_are_few_and_inside(low: float, high: float) -> None:
    ticks = nice_ticks(low, high)
    assert 3 <= len(ticks) <= 9
    assert all(low - 1e-9 * abs(low) <= tick <= high * (1 + 1e-9) for tick in ticks)


def test_charts_hold_flat_and_single_values() -> None:
    flat = chart("flat", "nats", {"validation": [(1.0, 2.0), (2.0, 2.0)]}, "epoch")
    assert "nan" not in flat.lines[0].path
    assert bars([0.0, 0.0], "variance").y_ticks
    assert bars([3.0, 1.0, 2.0], "variance", 1.5).reference == 65


def test_pictures() -> None:
    film = Film.for_images([np.full((1, 4, 4), 0.25)], 65535.0)
    assert film.develop(np.full((1, 4, 4), 0.25), 8).getpixel((0, 0)) == 255
    assert film.develop(np.zeros((3, 40, 20)), 10).size == (5, 10)
    tiles = [film.develop(np.zeros((1, 4, 4)), 8)] * 3
    assert sheet(tiles, 2, gap=1).size == (9, 9)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3)).astype(np.uint8))
    assert len(data_uri(noise)) < len(data_uri(noise, limit=10**9))
