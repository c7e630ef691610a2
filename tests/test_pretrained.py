"""Pretrained encoders: read from checkpoints that the tests write, kept with the model, and never from a pickle."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import apercu
from apercu.data.batches import to_batch
from apercu.encoders._checkpoint import KINDS, Checkpoint
from apercu.encoders.pretrained import Pretrained
from apercu.errors import ApercuError
from apercu.fitting import prepare
from apercu.likelihoods._features import FLOOR, Features
from apercu.presets import build
from apercu.report import write_report
from apercu.training import Training
from apercu.types import Batch, ImageSpec
from tests.commands import run
from tests.conftest import shapes

transformers = pytest.importorskip("transformers")

SIDE, WIDTH, OTHERS = 32, 16, {"siglip_vision_model": 0, "dinov2_with_registers": 5, "deit": 2}
MEAN, STD = (0.5, 0.4, 0.3), (0.3, 0.2, 0.25)
COLOUR, GREY = ImageSpec(3, SIDE, SIDE), ImageSpec(1, 16, 16)
FAST = Training(epochs=2, batch=16, device="cpu", precision="32", ema=0.9)


def write_checkpoint(folder: Path, kind: str = "vit", **images: object) -> Path:
    """A tiny encoder with random weights, as its own library writes it."""
    if kind in ("convnext", "convnextv2", "resnet"):
        shape: dict[str, Any] = {"hidden_sizes": [4, 4, 8, 8], "depths": [1, 1, 1, 1]}
        shape |= {"embedding_size": 4} if kind == "resnet" else {}
    else:
        shape = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2}
        shape |= {"image_size": SIDE, "patch_size": 8, "intermediate_size": 32}
        if kind.startswith("dinov2"):
            del shape["intermediate_size"]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = transformers.AutoModel.from_config(transformers.AutoConfig.for_model(kind, **shape))
        for parameter in network.parameters():  # some start at zero, where nothing would be seen
            torch.nn.init.normal_(parameter, 0, 0.3)
    network.save_pretrained(folder)
    about = {"image_mean": MEAN, "image_std": STD, "size": {"height": SIDE, "width": SIDE}, "resample": 2} | images
    (folder / "preprocessor_config.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("vit"))


def opened(folder: Path, image: ImageSpec = COLOUR, frozen: bool = True) -> Pretrained:
    encoder = Pretrained(image, f"hf:{folder}", frozen).eval()
    encoder.fetch()
    return encoder


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_those_of_the_library_and_need_no_checkpoint_later(kind: str, tmp_path: Path) -> None:
    encoder = opened(write_checkpoint(tmp_path / "model", kind))
    x = torch.rand(3, *COLOUR.shape, generator=torch.Generator().manual_seed(0))
    reference = transformers.AutoModel.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        seen = reference(pixel_values=(x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1))
    last = seen.last_hidden_state
    if last.ndim == 4:
        expected = seen.pooler_output.flatten(1)
    else:
        patches = last[:, OTHERS.get(kind, 1) :]
        assert patches.shape[1] == 16
        whole = seen.pooler_output if kind in ("clip_vision_model", "siglip_vision_model") else last[:, 0]
        expected = torch.cat([whole, patches.mean(1)], 1)
    torch.testing.assert_close(encoder.raw(x), expected, rtol=1e-4, atol=1e-5)
    assert encoder.raw(x).std(0).max() > 0
    shutil.rmtree(tmp_path / "model")
    again = Pretrained(COLOUR, encoder.description).eval()
    again.load_state_dict(encoder.state_dict())
    assert torch.equal(again(x)[0], encoder(x)[0])


def test_any_size_and_grey_are_brought_to_what_the_encoder_expects(checkpoint: Path) -> None:
    encoder, grey = opened(checkpoint), opened(checkpoint, GREY)
    ramp = torch.linspace(0.2, 0.8, 2 * SIDE).expand(1, 1, 2 * SIDE, -1)
    half = ramp.unflatten(3, (SIDE, 2)).mean(4)[:, :, ::2]
    torch.testing.assert_close(grey.raw(ramp), encoder.raw(half.expand(-1, 3, -1, -1)), rtol=1e-2, atol=2e-2)
    assert torch.equal(grey.raw(half), encoder.raw(half.expand(-1, 3, -1, -1)))
    with pytest.raises(ApercuError, match="4 channels"):
        Pretrained(ImageSpec(4, 16, 16), f"hf:{checkpoint}")


@pytest.mark.parametrize(
    ("images", "side", "bicubic"),
    [
        ({"size": 24}, 24, False),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "resample": 3}, 32, True),
        ({"size": {"shortest_edge": 40}, "crop_size": {"height": 32}, "do_center_crop": False}, 40, False),
    ],
)
def test_what_the_encoder_expects_is_read(images: dict[str, Any], side: int, bicubic: bool, tmp_path: Path) -> None:
    found = Checkpoint.read(f"hf:{write_checkpoint(tmp_path / 'm', 'dinov2', **images)}")
    assert (found.side, found.bicubic, found.mean, found.std) == (side, bicubic, MEAN, STD)
    with pytest.raises(ApercuError, match="does not take images of 24×24"):
        Pretrained(COLOUR, f"hf:{write_checkpoint(tmp_path / 'v', 'vit', size=24)}")
    plain = Checkpoint.read(f"hf:{write_checkpoint(tmp_path / 'n', 'dinov2', do_normalize=False)}")
    assert (plain.mean, plain.std) == ((0, 0, 0), (1, 1, 1))


def test_of_images_and_texts_the_half_for_images_is_taken(tmp_path: Path) -> None:
    tiny = {"hidden_size": WIDTH, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    vision = tiny | {"image_size": SIDE, "patch_size": 8}
    text = tiny | {"vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1}
    network = transformers.CLIPModel(transformers.CLIPConfig(text_config=text, vision_config=vision))
    network.save_pretrained(write_checkpoint(tmp_path / "clip"))
    encoder = opened(tmp_path / "clip")
    x = torch.rand(2, *COLOUR.shape)
    normal = (x - encoder.mean) / encoder.std
    with torch.no_grad():
        whole = network.eval().vision_model(pixel_values=normal).pooler_output
    torch.testing.assert_close(encoder.raw(x)[:, :WIDTH], whole, rtol=1e-4, atol=1e-5)


def without_safetensors(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["layernorm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def other_kind(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "vit_mae"}))


@pytest.mark.parametrize(
    ("damage", "advice"),
    [
        (without_safetensors, "can run code.*choose a checkpoint that has safetensors"),
        (without_a_weight, "not whole: layernorm.weight"),
        (other_kind, "kind vit_mae.*choose one of: clip"),
        (lambda f: (f / "model.safetensors").write_bytes(b"junk"), "cannot be read"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "not a checkpoint.*preprocessor_config"),
        (lambda f: (f / "preprocessor_config.json").write_text("{}"), "not a checkpoint"),
        (lambda f: (f / "config.json").write_text("{}"), "not a checkpoint"),
        (lambda f: (f / "config.json").unlink(), "not a checkpoint"),
        (shutil.rmtree, "there is no folder"),
    ],
)
def test_checkpoints_that_cannot_be_used_are_named(
    damage: Callable[[Path], object], advice: str, checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    damage(tmp_path / "copy")
    with pytest.raises(ApercuError, match=advice) as caught:
        opened(tmp_path / "copy")
    assert "\n" not in str(caught.value)


def test_code_in_a_checkpoint_is_not_run(checkpoint: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "copy", tmp_path / "ran"
    shutil.copytree(checkpoint, folder)
    (folder / "evil.py").write_text(f"open({str(mark)!r}, 'w').close()\nclass C: pass\nclass M: pass\n")
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}, "_attn_implementation": "evil/kernel"}
    (folder / "config.json").write_text(json.dumps(config))
    encoder = opened(folder)
    assert "evil" not in encoder.description.replace(str(tmp_path), "")
    about = json.loads(encoder.description)
    about["config"] |= {"attn_implementation": "evil/kernel", "auto_map": config["auto_map"]}
    assert str(Checkpoint.read(json.dumps(about))) == encoder.description
    about["config"]["model_type"] = "timm_wrapper"
    with pytest.raises(ApercuError, match="timm_wrapper"):
        Checkpoint.read(json.dumps(about))
    assert not mark.exists()


@pytest.mark.parametrize("text", ["{", "{}", '{"mean": 3}', "dinov2", "hf:", "hf:a/b/c", "hf:a b"])
def test_names_and_descriptions_that_mean_nothing_are_refused(text: str) -> None:
    with pytest.raises(ApercuError, match=r"damaged|hf:owner/name"):
        Checkpoint.read(text)


def test_the_hub_is_asked_for_safetensors_alone_and_its_answers_are_said_in_words(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import errors

    stored, asked = tmp_path / "0123abcd", []
    shutil.copytree(checkpoint, stored)

    def download(name: str, *, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        assert all(pattern.endswith((".json", ".safetensors")) for pattern in allow_patterns)
        return str(stored)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    encoder = Pretrained(COLOUR, "hf:owner/name")
    encoder.fetch()
    assert json.loads(encoder.description)["source"] == "hf:owner/name@0123abcd"
    assert asked[0] == ("owner/name", None)
    assert set(asked[1:]) == {("owner/name", "0123abcd")}

    def fail(*_: object, **__: object) -> str:
        raise answers[0][0]

    monkeypatch.setattr("huggingface_hub.snapshot_download", fail)
    answers: list[tuple[Exception, str]] = [
        (errors.LocalEntryNotFoundError("no\nnetwork"), "cannot be reached for owner/name; fit once where there is"),
        (PermissionError(13, "denied"), "cannot be downloaded"),
    ]
    while answers:
        with pytest.raises(ApercuError, match=answers[0][1]) as caught:
            Checkpoint.read("hf:owner/name")
        assert "\n" not in str(caught.value)
        del answers[0]


def test_without_the_library_there_is_advice(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ApercuError, match=r"pip install 'apercu\[hf\]'"):
        Checkpoint.read(f"hf:{checkpoint}")


def test_features_are_priced_by_their_density_and_no_gradient_reaches_them() -> None:
    torch.manual_seed(0)
    likelihood = Features(5)
    with torch.no_grad():
        likelihood.log_sigma.copy_(torch.linspace(-1, 1, 5).view(5, 1, 1))
    raw, features = torch.randn(3, 5, 1, 1), torch.randn(3, 5, 1, 1, requires_grad=True)
    distribution = likelihood(raw)
    sigma = distribution.sigma
    expected = -torch.distributions.Normal(raw, sigma).log_prob(features).flatten(1).sum(1)
    torch.testing.assert_close(distribution.nll(features), expected)
    torch.testing.assert_close(sigma.flatten(), torch.linspace(-1, 1, 5).exp(), rtol=1e-3, atol=0)
    distribution.nll(features).sum().backward()
    assert features.grad is None
    assert distribution.sample().shape == raw.shape
    with torch.no_grad():
        likelihood.log_sigma.fill_(-100.0)
    assert likelihood(raw).sigma.min() >= 0.999 * FLOOR


def learn(checkpoint: Path, out: Path | None = None, **settings: object) -> apercu.Model:
    own = {"encoder": f"hf:{checkpoint}", "width": 16, "dim": 4}
    return apercu.fit(shapes(60), preset="features", out=out, settings=own | settings, training=FAST)


def test_a_model_of_features_is_whole_without_its_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    model = learn(tmp_path / "copy", tmp_path / "model")
    shutil.rmtree(tmp_path / "copy")
    again = apercu.load(tmp_path / "model")
    x = shapes(5, seed=1)[0]
    assert np.array_equal(model.encode(x), again.encode(x))
    assert np.array_equal(model.price(x)["features"], again.price(x)["features"])
    assert again.encode(x).shape == (5, 1, 4)
    assert again.recipe.versions["transformers"] == transformers.__version__
    sides = np.random.default_rng(0).integers(0, 255, (2, 1, 20, 31)).astype(np.uint8)
    assert again.features(sides).shape == (2, 4)
    for draw in (lambda: again.reconstruct(x), lambda: again.decode(again.encode(x))):
        with pytest.raises(ApercuError, match="no pixels"):
            draw()


def test_a_report_on_features_shows_what_there_is_and_says_what_is_not(checkpoint: Path, tmp_path: Path) -> None:
    model = learn(checkpoint, tmp_path / "model")
    page = write_report(model, apercu.open_images(shapes(60)), tmp_path / "page.html").read_text(encoding="utf-8")
    assert "no pixels, so no image is redrawn or sampled here" in page
    assert 'id="health"' in page
    assert "PSNR" not in page
    assert 'href="#reconstructions"' not in page


def test_a_frozen_encoder_stays_as_it_was_and_looks_at_every_image_once(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, raw = [], Pretrained.raw

    def counted(self: Pretrained, x: torch.Tensor) -> torch.Tensor:
        looked.append(len(x))
        return raw(self, x)

    monkeypatch.setattr(Pretrained, "raw", counted)
    model = learn(checkpoint)
    assert sum(looked) == 1 + model.recipe.data["train"] + model.recipe.data["val"]
    below = model.network.backbone
    assert below is not None
    theirs = opened(checkpoint, GREY).network.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in below.network.state_dict().items())
    assert not any(parameter.requires_grad for parameter in below.parameters())


def test_features_are_standardised_over_the_training_images_and_priced_as_they_were_trained(checkpoint: Path) -> None:
    own = {"encoder": f"hf:{checkpoint}", "width": 16, "dim": 4}
    job = prepare(shapes(60), preset="features", settings=own, training=FAST)
    seen = job.seen.train.read(np.arange(len(job.seen.train)))[:, :, 0, 0]
    np.testing.assert_allclose(seen.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(seen.std(0), 1, atol=1e-3)
    for progress in job.run():
        last = progress
    model = job.finish()
    assert last.history[-1]["val_features"] < last.history[0]["val_features"]
    with torch.no_grad():
        prices, _ = job.network.above.price(to_batch(job.seen.val, np.arange(len(job.seen.val))), noise=False)
    np.testing.assert_allclose(model.price(job.data.val)["features"], prices["features"], rtol=1e-3, atol=1e-2)


def test_an_encoder_that_is_not_frozen_learns_too(checkpoint: Path) -> None:
    model = learn(checkpoint, frozen=False)
    below = model.network.backbone
    assert below is not None
    theirs = opened(checkpoint, GREY).network.state_dict()
    changed = [name for name, value in below.network.state_dict().items() if not torch.equal(value, theirs[name])]
    assert len(changed) > len(theirs) / 2
    assert any("learning-rate" in note for note in model.recipe.data["notes"])


@pytest.mark.parametrize("frozen", [True, False])
def test_images_of_several_sizes_and_without_labels_are_learnt_from(checkpoint: Path, frozen: bool) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (12 + 5 * (i % 3), 20, 3)).astype(np.uint8) for i in range(30)]
    settings = {"encoder": f"hf:{checkpoint}", "width": 8, "dim": 3, "frozen": frozen}
    model = apercu.fit(pictures, preset="features", settings=settings, training=FAST)
    assert "label" not in model.network.heads
    assert model.encode(pictures[:2]).shape == (2, 1, 3)
    assert np.isfinite(model.price(pictures)["total"]).all()


def test_every_part_of_an_encoder_that_is_not_frozen_gets_a_gradient(checkpoint: Path) -> None:
    torch.manual_seed(0)
    encoder = f"hf:{checkpoint}"
    model = build("features", GREY, 2, {"encoder": encoder, "frozen": False, "width": 8, "dim": 3})
    x, y = torch.rand(6, *GREY.shape), torch.tensor([0, 1, -1, -1, 0, 1])
    prices, _ = model.price(Batch(x, y, torch.arange(6)))
    assert all(price.shape == (6,) for price in prices.values())
    assert (prices["label"][y < 0] == 0).all()
    model.objective.total(prices).mean().backward()
    assert not [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    model.eval()
    with torch.no_grad():
        together, _ = model.price(Batch(x, y, torch.arange(6)), noise=False)
        alone = [model.price(Batch(x[i : i + 1], y[i : i + 1], torch.arange(1)), noise=False)[0] for i in range(6)]
    for name, price in together.items():
        torch.testing.assert_close(price, torch.cat([one[name] for one in alone]), rtol=1e-4, atol=1e-3)


def test_a_stopped_run_on_features_is_resumed_exactly(checkpoint: Path, tmp_path: Path) -> None:
    own = {"encoder": f"hf:{checkpoint}", "width": 16, "dim": 4}
    whole = learn(checkpoint)
    job = prepare(shapes(60), preset="features", settings=own, training=FAST, out=tmp_path / "m")
    going = job.run()
    for _ in range(3):
        next(going)
    going.close()
    again = prepare(shapes(60), out=tmp_path / "m", resume=True)
    for _ in again.run():
        pass
    weights = again.finish().network.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.network.state_dict().items())


def test_the_command_line_fits_classifies_and_refuses_to_draw(checkpoint: Path, tmp_path: Path) -> None:
    x, y = shapes(60)
    np.savez(
        tmp_path / "images.npz", train_images=x[:40, 0], train_labels=y[:40], test_images=x[40:, 0], test_labels=y[40:]
    )
    images, model = tmp_path / "images.npz", tmp_path / "model"
    setting = [f"-sencoder=hf:{checkpoint}", "-swidth=16", "-sdim=4"]
    fitted = run("fit", images, "-o", model, "--preset", "features", "--epochs", 2, *setting, "--json")
    assert fitted.status == 0, fitted.err
    assert fitted.answer["metrics"]["validation"]["val_features"] > 0
    shown = run("info", model)
    assert shown.status == 0
    assert max(map(len, shown.out.splitlines())) < 600
    assert run("evaluate", "classify", model, images, "--json").answer["n"] == 20
    assert run("evaluate", "likelihood", model, images, "-s", "samples=3").status == 0
    for task in ("reconstruct", "generate"):
        said = run(task, model, images)
        assert (said.status, "no pixels" in said.err) == (2, True)
    start = run("fit", images, "-o", tmp_path / "next", "--from", model, "--epochs", 1, "--json")
    assert start.status == 0, start.err
    assert start.answer["preset"] == "features"
