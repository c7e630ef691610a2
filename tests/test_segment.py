"""Segmenting: learnt from a handful of masks, in every layout, at any size; what is measured is what is defined."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.data.open import open_images
from apercu.errors import ApercuError
from apercu.segment.network import Segmenter
from apercu.tasks.segment import Segment
from tests.commands import run
from tests.scenes import SETTINGS, SIDE, model_for, scene, write, write_scenes


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("few"), range(8))


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("many"), range(100, 112))


@pytest.fixture(scope="module")
def taught(few: Path) -> Segment:
    task = Segment(model_for(), steps=60, domain="texture")
    task.fit(task.model.images(few))
    return task


def test_shapes_are_learnt_from_eight_masks(taught: Segment, many: Path) -> None:
    found = taught.evaluate(taught.model.images(many))
    assert found["n"] == 12
    assert found["mean_iou"] > 0.7
    assert found["pixel_accuracy"] > 0.9


@pytest.mark.parametrize("encoder", ["finetuned", "frozen"])
def test_the_model_itself_never_changes_and_a_frozen_encoder_stays_bit_equal(encoder: str, few: Path) -> None:
    model = model_for()
    before = {name: values.clone() for name, values in model.network.state_dict().items()}
    task = Segment(model, steps=3, encoder=encoder)  # type: ignore[arg-type]
    task.fit(model.images(few))
    for name, values in model.network.state_dict().items():
        assert torch.equal(values, before[name])
    inner = "encoder.encoder."  # the denoising preset wraps its map encoder
    learnt = task._restored("pretrained").encoder.state_dict()
    same = [torch.equal(values, before[inner + name]) for name, values in learnt.items()]
    assert all(same) if encoder == "frozen" else not any(same[:1])
    kept = task.beside.find("pretrained")
    assert kept is not None
    assert any(name.startswith("encoder.") for name in kept) == (encoder == "finetuned")


@pytest.mark.parametrize("preset", SETTINGS)
def test_every_map_encoder_takes_any_size_and_learns_everywhere(preset: str) -> None:
    network = Segmenter(model_for(preset).network, 3, crop=SIDE)
    for size in ((SIDE, SIDE), (37, 51), (5, 3)):
        logits = network(torch.rand(2, 1, *size))
        assert logits.shape == (2, 3, *size)
    network(torch.rand(2, 1, 37, 51)).square().sum().backward()
    unmoved = {name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not {name for name in unmoved if not name.startswith("encoder.")}
    # What stands behind the last stage is not asked: the final normalisation of a transformer.
    assert unmoved <= {"encoder.transformer.norm.weight", "encoder.transformer.norm.bias"}


def test_an_encoder_without_maps_is_refused_with_advice(few: Path) -> None:
    model = model_for("ae")
    with pytest.raises(ApercuError, match=r"makes no maps.*--preset dae"):
        Segment(model).fit(model.images(few))


def test_what_was_learnt_comes_back_with_the_model(taught: Segment, many: Path, tmp_path: Path) -> None:
    model = model_for()
    model.save(tmp_path / "model")
    task = Segment(model, steps=2, baseline=True)
    task.fit(model.images(many))
    loaded = Segment(apercu.load(tmp_path / "model", device="cpu"), baseline=True)
    images = model.images(many)
    assert loaded.evaluate(images) == task.evaluate(images)
    assert (tmp_path / "model" / "segment.pretrained.safetensors").is_file()
    task.baseline = False
    task.fit(images)
    with pytest.raises(ApercuError, match="baseline=true"):
        Segment(model, baseline=True).evaluate(images)
    again = Segment(model_for(), steps=2)
    again.fit(model.images(many))
    for one, other in zip(again.scan(images), task.scan(images), strict=True):
        np.testing.assert_array_equal(one.p, other.p)


def test_without_masks_or_learning_there_is_advice(tmp_path: Path, few: Path) -> None:
    model = model_for()
    with pytest.raises(ApercuError, match="--learn MASKS"):
        Segment(model)(model.images(few))
    write(tmp_path / "a.png", scene(0)[0])
    with pytest.raises(ApercuError, match="no mask marks anything"):
        Segment(model).fit(model.images(tmp_path))


@pytest.mark.parametrize("top", [255, 65535])
def test_files_have_the_size_of_their_image(top: int, tmp_path: Path) -> None:
    folder = write_scenes(tmp_path / "odd", range(2), size=(37, 51), top=top)
    write_scenes(folder, range(2, 3), size=(53, 46), top=top)
    task = Segment(model_for(maximum=top), steps=2)
    images = task.model.images(folder)
    assert images.spec.maximum == top
    task.fit(images)
    answer = task(images, tmp_path / "out")
    for said in (answer, task.evaluate(images)):
        assert json.loads(json.dumps(said, allow_nan=False)) == said
    marked_there = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert [row["name"] for row in marked_there["categories"]] == ["1", "2"]
    for k, row in enumerate(answer["images"]):
        with Image.open(tmp_path / "out" / "mask" / f"images/{k}.png") as mask:
            assert mask.mode == "P"
            numbers = np.asarray(mask)
        assert numbers.shape == tuple(images.sizes[k])
        assert row["area"] == {"1": (numbers == 1).sum(), "2": (numbers == 2).sum()}
        assert sum(region["area"] for region in row["regions"]) == (numbers > 0).sum()
        with Image.open(tmp_path / "out" / "overlay" / f"images/{k}.png") as over:
            assert over.size == numbers.shape[::-1]


def test_large_images_are_read_in_windows(taught: Segment, monkeypatch: pytest.MonkeyPatch) -> None:
    images = taught.model.images(np.stack([scene(k, (70, 90))[0][None] for k in range(2)]))
    whole = list(taught.scan(images))
    monkeypatch.setattr("apercu.tasks.segment.WINDOW", 48)
    for one, tiled in zip(whole, taught.scan(images), strict=True):
        np.testing.assert_allclose(tiled.p.sum(0), 1, atol=1e-5)
        assert (one.numbers == tiled.numbers).mean() > 0.9


def test_colour_is_learnt_too(tmp_path: Path) -> None:
    for k in range(3):
        image, mask = scene(k)
        write(tmp_path / "images" / f"{k}.png", np.stack([image, image, 255 - image], 2))
        write(tmp_path / "masks" / f"{k}.png", mask)
    task = Segment(model_for(channels=3), steps=2, domain="objects")
    task.fit(task.model.images(tmp_path))
    assert task(task.model.images(tmp_path))["n"] == 3


def test_what_is_written_can_be_learnt_from(taught: Segment, many: Path, tmp_path: Path) -> None:
    images = taught.model.images(many)
    taught(images, tmp_path)
    (tmp_path / "images").symlink_to(many / "images")
    again = open_images(tmp_path / "regions.json").split("all")
    for k, name in enumerate(again.ids):
        with Image.open(tmp_path / "mask" / name) as mask:
            np.testing.assert_array_equal(again.numbers(k), np.asarray(mask))


def test_classes_that_were_not_learnt_are_named_and_left_out(taught: Segment, tmp_path: Path) -> None:
    found = taught.evaluate(taught.model.images(write_scenes(tmp_path, range(3), levels=(1, 3))))
    assert found["not_learnt"] == ["3"]
    assert sum(row["pixels"] for row in found["per_class"].values()) < 3 * SIDE**2


def test_the_command_learns_marks_and_measures(few: Path, many: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    model_for().save(model)
    said = run("segment", model, many, "--learn", few, "-o", tmp_path / "out", "-s", "steps=2", "--json")
    assert said.status == 0, said.err
    assert said.answer["n"] == 12
    assert "masks: 8" in said.err
    assert (tmp_path / "out" / "sheet.png").is_file()
    said = run("evaluate", "segment", model, many, "--split", "all", "-s", "baseline=true", "--json")
    assert said.status == 2
    assert "--learn MASKS -s baseline=true" in said.answer["error"]
    said = run(
        *("evaluate", "segment", model, many, "--split", "all", "--json"),
        *("--learn", few, "-s", "baseline=true", "-s", "steps=2"),
    )
    assert said.answer["gain"] == said.answer["mean_iou"] - said.answer["baseline"]["mean_iou"]
