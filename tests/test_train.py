"""Training: progress, budgets, exact resuming, and stopping with advice."""

from __future__ import annotations

import dataclasses
import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from apercu.checkpoint import NAME
from apercu.data.batches import Batches, in_order
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError, TrainingError
from apercu.model import Autoencoder
from apercu.presets import build
from apercu.tracking import read_history
from apercu.train import _Run, train
from apercu.training import Training
from tests.conftest import DRAWING, shapes

FAST = Training(epochs=2, batch=32, precision="32", device="cpu", ema=0.9)


def fresh(preset: str, images: ImageSet, seed: int = 0, **settings: object) -> Autoencoder:
    torch.manual_seed(seed)
    return build(preset, images.spec, len(images.classes), {"width": 8, **settings})


def same(a: Autoencoder, b: Autoencoder) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_two_steps_are_two_steps(drawn: ImageSet) -> None:
    run = train(fresh("vae_cnn", drawn), drawn, drawn, FAST)
    first, second = next(run), next(run)
    assert (first.step, second.step) == (1, 2)
    assert set(first.prices) == {"pixels", "kl", "label", "contrast", "taught"}
    run.close()


@pytest.mark.parametrize("preset", DRAWING)
def test_training_lowers_the_price(drawn: ImageSet, preset: str) -> None:
    model = fresh(preset, drawn)
    history = list(train(model, drawn, drawn, dataclasses.replace(FAST, epochs=15)))[-1].history
    drawing = f"val_{next(iter(model.objective.terms))}"
    assert history[-1][drawing] < history[0][drawing]
    assert not model.training


@pytest.mark.parametrize("preset", DRAWING)
def test_resuming_is_exact_after_any_step(drawn: ImageSet, tmp_path: Path, preset: str) -> None:
    whole = fresh(preset, drawn)
    for _ in train(whole, drawn, drawn, FAST):
        pass
    settings = dataclasses.replace(FAST, checkpoint_seconds=0.0)
    for stop in (1, 5, 8, 11):
        folder = tmp_path / str(stop)
        folder.mkdir()
        run = train(fresh(preset, drawn), drawn, drawn, settings, folder)
        for progress in run:
            if progress.step == stop:
                break
        run.close()
        resumed = fresh(preset, drawn, seed=99)
        last = list(train(resumed, drawn, drawn, settings, folder, resume=True))[-1]
        assert same(whole, resumed)
        assert [row["step"] for row in read_history(folder)] == [row["step"] for row in last.history]


CHILD = """
import sys, torch
from pathlib import Path
from apercu.data.open import open_images
from tests.test_train import fresh, FAST, shapes
from apercu.train import train
from apercu.checkpoint import NAME
import dataclasses
images = open_images(shapes(200)).split("all")
model = fresh("vae_cnn", images)
folder = Path(sys.argv[1])
settings = dataclasses.replace(FAST, epochs=6, checkpoint_seconds=0.0)
print("ready", flush=True)
for _ in train(model, images, images, settings, folder, resume=(folder / NAME).exists()):
    pass
torch.save(model.state_dict(), folder / "weights.pt")
"""


def test_a_killed_process_resumes_to_the_same_weights(drawn: ImageSet, tmp_path: Path) -> None:
    model = fresh("vae_cnn", drawn)
    for _ in train(model, drawn, drawn, dataclasses.replace(FAST, epochs=6)):
        pass
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-W", "ignore", "-c", CHILD, str(tmp_path)]
    rng = np.random.default_rng(0)
    for _ in range(2):
        process = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while not (tmp_path / NAME).exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(float(rng.uniform(0.05, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    weights = torch.load(tmp_path / "weights.pt", weights_only=True)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_gradient_accumulation_is_the_same_step(drawn: ImageSet) -> None:
    settings = dataclasses.replace(FAST, epochs=1)
    models = []
    for parts in (1, 4):
        model = fresh("ae", drawn)
        for _ in train(model, drawn, drawn, dataclasses.replace(settings, accumulate=parts)):
            pass
        models.append(model)
    for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def test_minutes_are_a_budget(drawn: ImageSet) -> None:
    started = time.monotonic()
    last = list(train(fresh("ae", drawn), drawn, drawn, dataclasses.replace(FAST, minutes=0.03)))[-1]
    assert last.seconds <= 0.03 * 60 * 1.5
    assert time.monotonic() - started < 20
    assert last.steps is not None
    assert last.step > 10


def test_time_that_a_busy_machine_cost_at_first_is_made_up_for(
    drawn: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = itertools.accumulate(itertools.chain(itertools.repeat(1.0, 60), itertools.repeat(0.25)))
    monkeypatch.setattr("apercu.train.time.monotonic", lambda: next(now))
    last = list(train(fresh("ae", drawn), drawn, drawn, dataclasses.replace(FAST, minutes=10)))[-1]
    assert 0.8 * 600 < last.seconds <= 600  # planned once, at four times the time of a step, it would be a third
    assert last.step == last.steps


def test_patience_stops_early(drawn: ImageSet) -> None:
    settings = dataclasses.replace(FAST, epochs=200, patience=2, learning_rate=1e-9, validations=200, ema=0.0)
    last = list(train(fresh("ae", drawn), drawn, drawn, settings))[-1]
    assert last.steps is not None
    assert last.step < last.steps


def test_a_price_that_is_not_finite_stops_with_term_images_and_advice(drawn: ImageSet, tmp_path: Path) -> None:
    model = fresh("vae", drawn)
    settings = dataclasses.replace(FAST, checkpoint_seconds=0.0)
    run = train(model, drawn, drawn, settings, tmp_path)
    next(run)
    good = (tmp_path / NAME).read_bytes()
    with torch.no_grad():
        model.bottleneck.to_mean.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"pixels.*step 1.*image#\d+.*learning rate.*checkpoint is kept"):
        next(run)
    assert (tmp_path / NAME).read_bytes() == good


def test_unlabelled_images_take_part(drawn: ImageSet) -> None:
    few = np.where(np.arange(200) < 8, drawn.labels, -1)
    order = Batches(drawn.with_labels(few), 32, seed=0)
    batches = list(order.epoch(0))
    assert len(batches) == len(order)
    assert {int((batch.y >= 0).sum()) for batch in batches} == {8}
    seen = torch.cat([batch.index[batch.y < 0] for batch in batches])
    assert sorted(seen.tolist()) == list(range(8, 200))


@pytest.mark.parametrize("labelled", [40, 200])
def test_balance_shows_every_class_equally_often(drawn: ImageSet, labelled: int) -> None:
    rare = np.where(np.arange(200) % 10 == 0, 1, 0)  # nine to one
    images = drawn.with_labels(np.where(np.arange(200) < labelled, rare, -1), ["often", "rare"])
    for balance, least, most in ((False, 0.05, 0.2), (True, 0.48, 0.52)):
        batches = Batches(images, 40, seed=0, balance=balance).epoch(0)
        shown = torch.cat([batch.y[batch.y >= 0] for batch in batches])
        assert least <= float((shown == 1).float().mean()) <= most


def test_an_epoch_depends_on_seed_and_number_alone(drawn: ImageSet) -> None:
    first, again, other = (
        [b.index.tolist() for b in Batches(drawn, 32, seed=s).epoch(e)] for s, e in [(1, 3), (1, 3), (1, 4)]
    )
    assert first == again
    assert first != other
    skipped = [b.index.tolist() for b in Batches(drawn, 32, seed=1).epoch(3, start=2)]
    assert skipped == first[2:]


def test_processes_share_each_batch(drawn: ImageSet) -> None:
    whole = [b.index.tolist() for b in Batches(drawn, 32, seed=1).epoch(0)]
    parts = [[b.index.tolist() for b in Batches(drawn, 32, 1, rank=r, processes=2).epoch(0)] for r in (0, 1)]
    assert [sorted(a + b) for a, b in zip(*parts, strict=True)] == [sorted(index) for index in whole]


def test_images_of_different_sizes_train_in_batches_of_one_size() -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (1, 12 + 4 * (i % 3), 20)).astype(np.uint8) for i in range(30)]
    images = open_images(pictures).split("all")
    assert not images.spec.uniform
    assert sorted(i for b in in_order(images, 4) for i in b.index.tolist()) == list(range(30))
    model = fresh("vqvae", images, codes=8)
    history = list(train(model, images, images, dataclasses.replace(FAST, batch=4)))[-1].history
    assert history[-1]["val_pixels"] < history[0]["val_pixels"] + 1e-6
    with pytest.raises(ApercuError, match="--size"):
        fresh("vae", images)


def test_a_collapsed_posterior_is_said_in_words(drawn: ImageSet) -> None:
    model = fresh("vae", drawn, beta=1e4, warmup=0.0)
    last = list(train(model, drawn, drawn, dataclasses.replace(FAST, epochs=10)))[-1]
    assert any("collapsed" in warning for warning in last.warnings)
    assert last.history[-1]["active_units"] == 0


def test_a_checkpoint_of_another_model_is_refused_with_advice(drawn: ImageSet, tmp_path: Path) -> None:
    settings = dataclasses.replace(FAST, checkpoint_seconds=0.0)
    run = train(fresh("ae", drawn), drawn, drawn, settings, tmp_path)
    next(run)
    run.close()
    with pytest.raises(TrainingError, match="does not belong to this model"):
        next(train(fresh("vae", drawn), drawn, drawn, settings, tmp_path, resume=True))
    (tmp_path / NAME).write_bytes((tmp_path / NAME).read_bytes()[:100])
    with pytest.raises(TrainingError, match="does not belong"):
        next(train(fresh("ae", drawn), drawn, drawn, settings, tmp_path, resume=True))
    with pytest.raises(TrainingError, match="no checkpoint"):
        next(train(fresh("ae", drawn), drawn, drawn, settings, tmp_path / "nowhere", resume=True))


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"minutes": float("nan")}, {"minutes": -1}, {"learning_rate": 0.0}])
def test_settings_that_make_no_sense_are_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ApercuError, match=next(iter(wrong))):
        Training(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{"device": "abacus"}, {"precision": "8"}])
def test_devices_and_precisions_that_are_not_there_are_named(drawn: ImageSet, asked: dict[str, str]) -> None:
    with pytest.raises(ApercuError, match="choose"):
        _Run(fresh("ae", drawn), drawn, drawn, dataclasses.replace(FAST, **asked), None)


def test_two_processes_train_the_same_model_together(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        "import torch, dataclasses, os, gc\n"
        "from apercu.data.open import open_images\n"
        "from tests.test_train import fresh, FAST, shapes\n"
        "from apercu.train import train\n"
        "images = open_images(shapes(64)).split('all')\n"
        "model = fresh('vae_cnn', images)\n"
        "for _ in train(model, images, images, FAST): pass\n"
        f"torch.save(model.state_dict(), '{tmp_path}/' + os.environ['RANK'] + '.pt')\n"
    )
    root = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    subprocess.run(command, cwd=root, env=environment, check=True, capture_output=True, timeout=120)
    a, b = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_drawn_images_are_what_the_tests_think() -> None:
    x, y = shapes(10)
    assert x.shape == (10, 1, 16, 16)
    assert set(y.tolist()) == {0, 1}
