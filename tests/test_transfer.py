"""Starting from another model: what is taken, what is new and said to be, and what cannot be."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import apercu
from apercu.api import Model
from apercu.errors import ApercuError
from apercu.fitting import Job, prepare
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

FAST = Training(epochs=1, batch=32, device="cpu", precision="32", ema=0.9)
OTHERS = shapes(80, seed=7)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vae_cnn with two classes, well enough trained to be worth starting from."""
    out = tmp_path_factory.mktemp("start") / "model"
    longer = dataclasses.replace(FAST, epochs=12)
    settings = {"width": 4, "dim": 6, "beta": 0.5}
    apercu.fit(shapes(120), preset="vae_cnn", settings=settings, training=longer, out=out)
    return out


def weights(job: Job | Model) -> dict[str, torch.Tensor]:
    return job.network.state_dict()


def same(a: Job | Model, b: Job | Model) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(value, second[name]) for name, value in first.items())


def finish(job: Job) -> Model:
    for _ in job.run():
        pass
    return job.finish()


def first_price(job: Job) -> float:
    """The validation price of the pixels after the epoch."""
    finish(job)
    return float(job.recipe.metrics["validation"]["val_pixels"])


def test_everything_is_taken_before_the_first_step(start: Path) -> None:
    job = prepare(OTHERS, start=start, training=FAST)
    theirs = apercu.load(start)
    assert same(job, theirs)
    assert (job.recipe.preset, job.recipe.settings) == ("vae_cnn", theirs.recipe.settings)
    assert job.recipe.data["start"] == {"model": str(start), "weights": theirs.recipe.files["model.safetensors"]}
    assert job.recipe.data["notes"][-1] == f"started from {start}"
    assert not job.recipe.files
    assert not job.recipe.tasks


def test_one_epoch_from_a_model_is_ahead_of_one_from_nothing(start: Path) -> None:
    ahead = first_price(prepare(OTHERS, start=start, training=FAST))
    settings = apercu.load(start).recipe.settings
    behind = first_price(prepare(OTHERS, preset="vae_cnn", settings=settings, training=FAST))
    assert ahead < behind - 20


def test_settings_that_are_given_win_and_parts_that_do_not_fit_are_said_to_be_new(start: Path) -> None:
    theirs, mine = weights(apercu.load(start)), prepare(OTHERS, start=start, settings={"dim": 5}, training=FAST)
    assert (mine.recipe.settings["dim"], mine.recipe.settings["beta"]) == (5, 0.5)
    note = mine.recipe.data["notes"][-1]
    assert "the bottleneck is new" in note
    assert "the decoder is partly new" in note
    assert "encoder is" not in note
    assert torch.equal(weights(mine)["encoder.dense.0.weight"], theirs["encoder.dense.0.weight"])


def test_a_head_for_other_classes_is_new(start: Path) -> None:
    x, y = OTHERS
    same_names = prepare((x, 1 - y), start=start, training=FAST)
    assert "label head" not in same_names.recipe.data["notes"][-1]
    job = prepare((x, np.array(["square", "cross"])[y]), start=start, training=FAST)
    assert job.recipe.data["notes"][-1].endswith("; the label head is new, as the classes differ")
    theirs = weights(apercu.load(start))
    different = [name for name, value in weights(job).items() if not torch.equal(value, theirs[name])]
    assert different
    assert all(name.startswith("heads.") for name in different)
    assert finish(job).classes == ("cross", "square")


def test_another_preset_takes_what_fits(start: Path) -> None:
    job = prepare(OTHERS, preset="vae", start=start, settings={"encoder": "residual", "width": 4}, training=FAST)
    assert job.recipe.settings["beta"] == 1.0
    theirs = weights(apercu.load(start))
    assert any(name.startswith("encoder.") and torch.equal(value, theirs[name]) for name, value in weights(job).items())
    with pytest.raises(ApercuError, match="the encoder of this vae_cnn does not fit the new model; leave out --preset"):
        prepare(OTHERS, preset="ae", start=start, settings={"likelihood": "mse"}, training=FAST)


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (shapes(20, channels=3), "has 3 channels, this model was trained on 1.*--channels 1"),
        (shapes(20, side=20), "is 20×20, this model was trained on 16×16.*--size 16x16"),
    ],
)
def test_images_of_another_kind_are_answered_with_advice(
    images: tuple[np.ndarray, np.ndarray], advice: str, start: Path
) -> None:
    with pytest.raises(ApercuError, match=advice):
        prepare(images, start=start, training=FAST)


def test_maps_start_on_images_of_any_size(tmp_path: Path) -> None:
    apercu.fit(shapes(40), preset="vqvae", settings={"width": 4, "codes": 8}, training=FAST, out=tmp_path / "m")
    job = prepare(shapes(40, side=20), start=tmp_path / "m", training=FAST)
    assert same(job, apercu.load(tmp_path / "m"))
    assert job.recipe.image.shape == (1, 20, 20)


def test_images_are_opened_as_those_of_the_start_were(tmp_path: Path) -> None:
    apercu.fit(
        shapes(40, side=20),
        preset="ae",
        settings={"width": 4},
        training=FAST,
        out=tmp_path / "m",
        size=12,
        fit="resize",
    )
    assert prepare(shapes(20), start=tmp_path / "m", training=FAST).recipe.image.shape == (1, 12, 12)


def test_a_stopped_run_that_started_from_a_model_is_resumed_exactly(start: Path, tmp_path: Path) -> None:
    longer = dataclasses.replace(FAST, epochs=3)
    whole = finish(prepare(OTHERS, start=start, training=longer))
    mine = tmp_path / "start"
    shutil.copytree(start, mine)
    job = prepare(OTHERS, start=mine, training=longer, out=tmp_path / "m")
    going = job.run()
    for _ in range(4):
        next(going)
    going.close()
    shutil.rmtree(mine)  # the checkpoint holds everything
    resumed = finish(prepare(OTHERS, out=tmp_path / "m", resume=True))
    assert same(whole, resumed)
    assert resumed.recipe.data["start"]["model"] == str(mine)
    assert [note.replace(str(mine), str(start)) for note in resumed.recipe.data["notes"]] == whole.recipe.data["notes"]


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_again(start: Path, tmp_path: Path) -> None:
    mine = tmp_path / "start"
    shutil.copytree(start, mine)
    job = prepare(OTHERS, start=mine, training=FAST, out=tmp_path / "m")
    next(job.run())
    for checkpoint in (tmp_path / "m").glob("checkpoint*"):
        checkpoint.unlink()
    assert same(prepare(OTHERS, out=tmp_path / "m", resume=True), apercu.load(start))
    apercu.fit(shapes(40), preset="ae", training=FAST, out=mine, overwrite=True)
    with pytest.raises(ApercuError, match="was changed since"):
        prepare(OTHERS, out=tmp_path / "m", resume=True)


def test_the_command_line_starts_from_a_model(start: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", train_images=OTHERS[0][:, 0], train_labels=OTHERS[1])
    said = run(
        "fit",
        tmp_path / "x.npz",
        "-o",
        tmp_path / "m",
        "--from",
        start,
        "-s",
        "beta=2",
        "--epochs",
        1,
        "--precision",
        32,
        "--json",
    )
    assert said.status == 0, said.err
    assert f"started from {start}" in said.err
    assert (said.answer["preset"], said.answer["settings"]["beta"], said.answer["settings"]["dim"]) == ("vae_cnn", 2, 6)
    for wrong in (("--from", tmp_path), ("--from", start, "-s", "codes=3")):
        assert run("fit", tmp_path / "x.npz", "-o", tmp_path / "n", *wrong, "--json").status == 2
    assert not (tmp_path / "n").exists()
