"""A curve of codes in place of images: the probe alone, without a pixel, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import apercu
from apercu.curve import Curve
from apercu.curve.methods import METHODS
from apercu.data.open import open_images
from apercu.encoding import encode
from apercu.errors import ApercuError
from apercu.tasks.classify import Classify
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

FAST = Training(epochs=2, batch=32, device="cpu", precision="32")


@pytest.fixture(scope="module", params=["vae", "vae_cnn"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with drawn images, a model and their codes."""
    root = tmp_path_factory.mktemp("coded")
    x, y = shapes(150, side=8)
    np.savez(root / "drawn.npz", x=x, y=y)
    settings = {"width": 4, "dim": 4} | ({"hidden": 8} if request.param == "vae_cnn" else {})
    model = apercu.fit(root / "drawn.npz", preset=request.param, settings=settings, training=FAST, out=root / "model")
    encode(model, root / "drawn.npz", root / "codes")
    return root


def test_the_probe_is_measured_on_codes_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = apercu.load(folder / "model")
    monkeypatch.setattr(model.network, "encode", lambda *_: pytest.fail("the encoder was asked"))
    (folder / "drawn.npz").rename(folder / "away.npz")  # not a pixel can be read
    try:
        curve = Curve(open_images(folder / "codes"), tmp_path / "out", made=model)
        plan = curve.plan([5], seeds=1)
        assert {key.method for key in plan} == {"probe"}
        found = list(curve.run(plan))
    finally:
        (folder / "away.npz").rename(folder / "drawn.npz")
    assert len(found) == 1
    assert not (tmp_path / "out" / "codes").exists()  # nothing was trained
    assert model.folder is not None
    # The same as a probe that is fitted by hand on the same draw.
    images = apercu.data.labels.hide_labels(open_images(folder / "drawn.npz"), 10, 0)
    alone = apercu.load(folder / "model")
    alone.folder = None
    classify = Classify(alone, method="best", seed=0)
    classify.fit(images.train.subset(images.train.labels >= 0))
    accuracy = float((classify.probabilities(images.test).argmax(1) == images.test.labels).mean())
    assert found[0].accuracy == pytest.approx(accuracy)


def test_the_command_says_what_is_left_out(folder: Path, tmp_path: Path) -> None:
    call = ("curve", folder / "codes", "-o", tmp_path / "out", "--labels", "1,3", "--seeds", "1")
    said = run(*call, "--json")
    assert said.status == 0, said.err
    assert {row["method"] for row in said.answer["table"]} == {"probe"}
    verdict = " ".join(said.answer["verdict"])
    assert "need the images themselves: pixels, pca, cnn, finetune and joint." in verdict
    joint = "label" in apercu.load(folder / "model").network.heads
    assert ("these figures are higher than so few labels give" in verdict) is joint
    assert "0 of them to measure" in run(*call).err


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (["--methods", "probe,pca"], "the method pca needs the images themselves"),
        (["--epochs", "2"], "of codes no model is trained"),
        (["-s", "dim=8"], "of codes no model is trained"),
        (["--model", "nowhere"], "nowhere"),
        (["--labels", "5000"], "ask for 1 to"),
    ],
)
def test_what_cannot_be_asked_of_codes(folder: Path, tmp_path: Path, words: list[str], advice: str) -> None:
    said = run("curve", folder / "codes", "-o", tmp_path / "out", *words)
    assert said.status == 2
    assert advice in said.err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_other_models_and_images_are_told_apart(folder: Path, tmp_path: Path) -> None:
    other = apercu.fit(shapes(20, side=8)[0], preset="ae", settings={"dim": 4}, training=FAST)
    codes = open_images(folder / "codes")
    with pytest.raises(ApercuError, match="another model"):
        Curve(codes, tmp_path, made=other)
    with pytest.raises(ApercuError, match="takes the model that made them"):
        Curve(codes, tmp_path)
    said = run("curve", folder / "drawn.npz", "-o", tmp_path / "out", "--model", folder / "model")
    assert (said.status, "leave it out" in said.err) == (2, True)
    assert [name for name, method in METHODS.items() if not method.pixels] == ["probe"]
