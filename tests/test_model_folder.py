"""The model on disk: equal to the last bit, and refused in one clear sentence when it is not what was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import apercu
from apercu import store
from apercu.api import Model
from apercu.checkpoint import NAME
from apercu.errors import ApercuError, FormatError
from apercu.fitting import RUN, prepare
from apercu.tasks.classify import Classify
from apercu.training import Training
from tests.conftest import DRAWING, shapes

GOLDEN = Path(__file__).parent / "golden"
FAST = Training(epochs=1, batch=32, device="cpu", precision="32")


def small(preset: str, out: Path | None = None, **settings: object) -> Model:
    return apercu.fit(shapes(60), preset=preset, out=out, settings={"width": 8, **settings}, training=FAST)


@pytest.mark.parametrize("preset", DRAWING)
def test_saved_and_loaded_models_agree_to_the_last_bit(preset: str, tmp_path: Path) -> None:
    model = small(preset, tmp_path / "model")
    again = apercu.load(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir() if path.is_file()) == [
        "apercu.json",
        "history.csv",
        "model.safetensors",
    ]
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name])
    x = shapes(5, seed=1)[0]
    assert np.array_equal(model.encode(x), again.encode(x))
    assert np.array_equal(model.reconstruct(x), again.reconstruct(x))
    first, second = model.price(x), again.price(x)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    assert again.recipe == model.recipe


def test_what_tasks_keep_goes_with_a_model_into_another_folder(tmp_path: Path) -> None:
    model = small("vae", tmp_path / "model")
    Classify(model).fit(model.images(shapes(60)))
    before = Classify(model)(model.images(shapes(5, seed=1)))
    model.save(tmp_path / "moved")
    shutil.rmtree(tmp_path / "model")
    again = apercu.load(tmp_path / "moved")
    assert Classify(again)(again.images(shapes(5, seed=1))) == before


def test_loading_leaves_the_random_numbers_alone(tmp_path: Path) -> None:
    small("vae", tmp_path / "model")
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    apercu.load(tmp_path / "model")
    assert torch.equal(torch.rand(3), expected)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "model"
    small("ae", folder)
    return folder


def edit(folder: Path, **changes: object) -> None:
    path = folder / store.RECIPE
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / store.RECIPE).unlink(), "not an Apercu model"),
        (lambda f: (f / store.WEIGHTS).unlink(), "cannot be read"),
        (lambda f: (f / store.RECIPE).write_text("{"), "damaged"),
        (lambda f: (f / store.RECIPE).write_text("[]"), "damaged"),
        (lambda f: (f / store.RECIPE).write_text("{}"), "damaged"),
        (lambda f: (f / store.RECIPE).write_bytes(b"\xff\xfe\x00"), "damaged"),
        (lambda f: (f / store.WEIGHTS).write_bytes((f / store.WEIGHTS).read_bytes()[:-1]), "hash.* train again"),
        (lambda f: (f / store.WEIGHTS).write_bytes(b"\x80\x04N."), "hash"),
        (lambda f: edit(f, format=99), "update Apercu"),
        (lambda f: edit(f, format="1"), "update Apercu"),
        (lambda f: edit(f, preset="gan"), "do not fit"),
        (lambda f: edit(f, settings={"dim": 5}), "do not fit"),
        (lambda f: edit(f, settings={"colour": 5}), "do not fit"),
        (lambda f: edit(f, secret=1), "does not know: secret"),
        (lambda f: edit(f, image={"channels": 1}), "damaged"),
    ],
)
def test_a_damaged_or_foreign_folder_gives_one_clear_sentence(
    saved: Path, tmp_path: Path, damage: object, message: str
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    damage(folder)  # type: ignore[operator]
    with pytest.raises(FormatError, match=message) as caught:
        apercu.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 1, 7, 8, 50, 300])
def test_truncated_weights_with_a_matching_hash_are_refused_too(saved: Path, tmp_path: Path, cut: int) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(saved, folder)
    recipe = store.load_recipe(folder)
    store.add_file(recipe, folder, store.WEIGHTS, (folder / store.WEIGHTS).read_bytes()[:cut])
    with pytest.raises(FormatError, match="do not fit"):
        apercu.load(folder)


def test_a_model_is_not_overwritten_unasked(saved: Path) -> None:
    with pytest.raises(ApercuError, match="--overwrite"):
        small("ae", saved)


def test_a_stopped_run_is_resumed_with_its_own_settings_or_refused(tmp_path: Path) -> None:
    images = shapes(60)
    whole = small("vae_cnn")
    job = prepare(images, preset="vae_cnn", out=tmp_path / "m", settings={"width": 8}, training=FAST)
    run = job.run()
    next(run)
    run.close()
    assert (tmp_path / "m" / RUN).exists()
    with pytest.raises(ApercuError, match="--resume"):
        prepare(images, preset="vae_cnn", out=tmp_path / "m")
    with pytest.raises(ApercuError, match="not the images"):
        prepare(shapes(60, seed=9), out=tmp_path / "m", resume=True)
    job = prepare(images, out=tmp_path / "m", resume=True)
    for _ in job.run():
        pass
    model = job.finish()
    assert (model.recipe.settings["width"], model.recipe.settings["dim"]) == (8, 64)
    assert all(torch.equal(v, whole.network.state_dict()[k]) for k, v in model.network.state_dict().items())
    assert not (tmp_path / "m" / NAME).exists()
    with pytest.raises(ApercuError, match="is finished"):
        prepare(images, out=tmp_path / "m", resume=True)
    with pytest.raises(ApercuError, match="never started"):
        prepare(images, out=tmp_path / "other", resume=True)


@pytest.mark.parametrize("folder", sorted(GOLDEN.glob("format-*")), ids=lambda path: path.name)
def test_models_of_every_release_still_say_what_they_said(folder: Path) -> None:
    model = apercu.load(folder)
    expected = dict(np.load(folder / "expected.npz"))
    x = expected["x"]
    np.testing.assert_allclose(model.encode(x), expected["code"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.probabilities(x), expected["probabilities"], rtol=1e-4, atol=1e-4)
    assert np.abs(model.reconstruct(x).astype(int) - expected["reconstruction"]).max() <= 1
    np.testing.assert_allclose(model.price(x)["total"], expected["price"], rtol=1e-3, atol=1e-2)
    with np.load(folder / "expected.npz") as data:
        assert data["x"].dtype == np.uint8


def test_there_is_a_golden_model_of_this_format() -> None:
    assert (GOLDEN / f"format-{store.FORMAT}" / store.RECIPE).is_file()


def test_recipes_of_the_first_format_teach_as_they_did() -> None:
    """A setting that came later must not change a model, or a run that was stopped."""
    old = {"format": 1, "preset": "vae_cnn", "settings": {"dim": 8}}
    assert store.upgraded(old) == {"format": 2, "preset": "vae_cnn", "settings": {"dim": 8, "teach": "sure"}}
    assert store.upgraded(old | {"preset": "vae"})["settings"] == {"dim": 8}
