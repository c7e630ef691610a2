"""Codes without symbols are rounded as coarsely as hardly costs anything."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import apercu
from apercu.api import Model
from apercu.codec.symbols import ASTRAY, LARGEST, learn_rounding
from apercu.errors import ApercuError
from apercu.training import Training


@pytest.fixture
def model() -> Model:
    """A joint model of digits whose head has something to say."""
    training = Training(epochs=3, batch=64, device="cpu", precision="32", validations=1)
    settings = {"width": 4, "dim": 4, "teach": "sure"}
    return apercu.fit("sklearn:digits", preset="vae_cnn", settings=settings, training=training)


def test_steps_are_no_coarser_than_the_head_can_bear(model: Model) -> None:
    """A decoder that ignores the code would bear any step."""
    with torch.no_grad():
        for parameter in model.network.decoder.parameters():
            parameter.zero_()
    images = model.images("sklearn:digits", "train")
    rounded = learn_rounding(model, images)
    head = model.network.heads["label"]
    _, output = next(iter(model.outputs(images)))
    with torch.no_grad():
        before = head(output.code)
        after = head(replace(output.code, z=rounded.code(rounded.of(output.code))))
        del model.network.heads["label"]
    astray = torch.nn.functional.kl_div(after.log_softmax(1), before.softmax(1), reduction="batchmean")
    assert float(astray) <= 2 * ASTRAY
    careless = learn_rounding(model, images)
    assert (rounded.step < careless.step).all()


def test_what_cannot_be_rounded_is_refused(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apercu.codec.symbols.SMALLEST", LARGEST)
    monkeypatch.setattr("apercu.codec.symbols.ASTRAY", -1.0)
    with pytest.raises(ApercuError, match="cannot be rounded without loss"):
        learn_rounding(model, model.images("sklearn:digits", "train"))
