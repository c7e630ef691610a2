"""Labels spread over a graph: the equation, moons, what is kept; beliefs in training; mixing and its prices."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.datasets import make_moons

from apercu import spread as module
from apercu.augment.mixup import mixed
from apercu.beliefs import MOMENTS, Beliefs, axes_of, maps
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.objective import TEMPERATURE, contrast, taught
from apercu.shares import agreed, by_confusion, by_likelihood
from apercu.spread import (
    ALPHA,
    NEIGHBOURS,
    POWER,
    Reached,
    balanced,
    principal_axes,
    rows_to_one,
    spread,
)
from apercu.train import train
from apercu.types import Batch, Code, Output
from tests.test_train import FAST, fresh, same


def unit(points: NDArray[np.float64]) -> NDArray[np.float32]:
    return (points / np.linalg.norm(points, axis=1, keepdims=True)).astype(np.float32)


def crowds(count: int = 120, classes: int = 3) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Points in crowds, one label in each, and the truth."""
    rng = np.random.default_rng(0)
    truth = np.arange(count) % classes
    points = unit(np.eye(classes)[truth] + 0.25 * rng.normal(size=(count, classes)))
    labels = np.full(count, -1)
    labels[:classes] = truth[:classes]
    return points, labels, truth


def test_it_is_the_equation() -> None:
    points, labels, _ = crowds()
    cosines = np.maximum(points.astype(float) @ points.T.astype(float), 0) ** POWER
    np.fill_diagonal(cosines, -1)
    nearest = np.argsort(-cosines, 1)[:, :NEIGHBOURS]
    one_way = np.zeros_like(cosines)
    np.put_along_axis(one_way, nearest, np.take_along_axis(cosines, nearest, 1), 1)
    weights = one_way + one_way.T
    scale = weights.sum(1) ** -0.5
    inverse = np.linalg.inv(np.eye(len(points)) - ALPHA * scale[:, None] * weights * scale)
    given = np.zeros((len(points), 3))
    given[np.arange(3), np.arange(3)] = 1
    expected = balanced(inverse @ given, 3)
    expected[:3] = given[:3]
    np.testing.assert_allclose(spread(points, labels, 3), expected, atol=2e-3)


def test_one_label_each_tells_two_moons_apart() -> None:
    x, truth = make_moons(400, noise=0.05, random_state=0)
    waves = np.random.default_rng(0).normal(size=(2, 300))  # places become directions, near ones near directions
    points = unit(np.hstack([np.cos(3 * x @ waves), np.sin(3 * x @ waves)]))
    labels = np.full(400, -1)
    for c in (0, 1):
        labels[np.flatnonzero(truth == c)[0]] = c
    answers = spread(points, labels, 2)
    assert (answers.argmax(1) == truth).mean() > 0.97
    np.testing.assert_allclose(answers.sum(1), 1)
    np.testing.assert_array_equal(answers[labels >= 0].argmax(1), labels[labels >= 0])
    assert answers[labels >= 0].max(1).min() == 1


def test_images_beyond_the_graph_ask_their_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels, truth = crowds(300)
    monkeypatch.setattr(module, "MOST", 60)
    answers = spread(points, labels, 3)
    assert (answers.argmax(1) == truth).mean() > 0.95
    np.testing.assert_allclose(answers.sum(1), 1)


def test_where_no_label_is_near_nothing_is_known() -> None:
    points = unit(
        np.vstack([np.eye(4)[[0] * 20], np.eye(4)[[3] * 20]]) + 1e-3 * np.random.default_rng(0).random((40, 4))
    )
    labels = np.full(40, -1)
    labels[:2] = 0, 1
    answers = spread(points, labels, 2)
    np.testing.assert_allclose(answers[20:], 1 / answers.shape[1], atol=0.05)


def test_balance_lies_between_what_was_said_and_equal_shares() -> None:
    answers = np.random.default_rng(0).dirichlet([4, 1, 1], 500)
    shares, said = balanced(answers).mean(0), answers.mean(0)
    np.testing.assert_allclose(shares, np.sqrt(said) / np.sqrt(said).sum(), atol=1e-3)


def test_directions_have_length_one_along_the_axes_of_a_sample() -> None:
    features = np.random.default_rng(0).normal(size=(50, 200)).astype(np.float32)
    axes = principal_axes(features[:30])
    points = axes.directions([features[:20], features[20:]])
    assert points.shape == (50, 30)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1, rtol=1e-5)


def test_shares_are_found_where_the_labels_were_drawn_evenly() -> None:
    rng, even = np.random.default_rng(0), np.array([0.5, 0.5])
    known, y = np.arange(400) % 2, rng.choice(2, 4000, p=[0.2, 0.8])

    def answers(y: NDArray[np.int64]) -> NDArray[np.float64]:
        odds = rng.normal(4.0 * (2 * y - 1), 8**0.5)  # exact log-odds of two Gaussians under equal shares
        return 1 / (1 + np.exp(np.stack([odds, -odds], 1)))

    said = answers(y)
    for shares in (by_confusion(answers(known), known, said), by_likelihood(said, even)):
        assert abs(shares[1] - 0.8) < 0.03
        assert (rows_to_one(said * shares / even).argmax(1) == y).mean() > (said.argmax(1) == y).mean()


def test_one_label_of_each_class_is_judged_by_none_and_answers_are_trusted() -> None:
    points, labels, truth = crowds(150)
    reached = Reached(points, labels, 3)
    assert len(reached.apart) == len(reached.truth) == 0
    shares = by_confusion(reached.apart, reached.truth, reached.said)
    said = np.bincount(reached.said.argmax(1), minlength=3) / len(reached.said)
    np.testing.assert_allclose(shares, said, atol=1e-6)
    assert (reached.answers(shares).argmax(1) == truth).mean() > 0.9


def test_shares_move_as_far_as_both_witnesses_say() -> None:
    usual = np.array([0.25, 0.25, 0.25, 0.25])
    one, other = np.array([0.1, 0.3, 0.2, 0.4]), np.array([0.2, 0.2, 0.01, 0.59])
    shares = agreed(one, other, usual)
    expected = np.array([0.2, 0.25, 0.2, 0.4])
    np.testing.assert_allclose(shares, expected / expected.sum())
    np.testing.assert_allclose(agreed(one, one, usual), one)
    alone = by_likelihood(np.tile([[0.4, 0.2, 0.2, 0.2]], (500, 1)), usual)  # says nothing, and is driven to one class
    assert alone[0] > 0.99
    bound = agreed(alone, alone, usual)  # a third as frequent as among the labels, or three times
    np.testing.assert_allclose(bound, np.array([3, 1 / 3, 1 / 3, 1 / 3]) / 4)
    assert agreed(alone, usual, usual)[0] == pytest.approx(0.25)


def test_a_label_is_judged_by_all_others() -> None:
    points, labels, _ = crowds(60)
    labels[3:12] = np.arange(9) % 3
    known = np.flatnonzero(labels >= 0)
    order = np.concatenate([known, np.flatnonzero(labels < 0)])
    given = np.eye(3)[labels[known]]
    _, judged, apart = module._diffused(points[order], given)
    assert list(judged) == list(range(12))
    for k in (0, 5, 11):
        without = given.copy()
        without[k] = 0
        left_out = module._diffused(points[order], without)[0][k]
        np.testing.assert_allclose(apart[k], left_out, rtol=1e-3, atol=1e-6)


def test_answers_are_as_sharp_as_labels_explain_each_other() -> None:
    own = np.eye(3)[np.arange(30) % 3]
    right, wrong = 0.5 * own + 0.5 / 3, 0.5 * np.roll(own, 1, 1) + 0.5 / 3
    assert module._power(right, own) > 16
    mixed_up = np.where((np.arange(30) % 5 == 0)[:, None], wrong, right)
    assert 1 < module._power(mixed_up, own) < 4
    assert module._power(wrong, own) == 1
    assert module._power(wrong[:0], own[:0]) == 1


def few(images: ImageSet) -> ImageSet:
    """Two labels of each class."""
    labels = np.full(len(images), -1)
    for c in range(len(images.classes)):
        chosen = np.flatnonzero(images.labels == c)[:2]
        labels[chosen] = c
    return images.with_labels(labels)


def test_beliefs_begin_with_the_labels_and_grow(drawn: ImageSet) -> None:
    images = few(drawn)
    beliefs, index = Beliefs(images), torch.arange(len(images))
    assert beliefs.of(index) is None
    assert not beliefs.due(MOMENTS[0] - 0.01)
    assert beliefs.due(MOMENTS[0])
    beliefs.renew(fresh("vae_cnn", images), "cpu", torch.autocast("cpu", enabled=False))
    answers = beliefs.of(index)
    assert answers is not None
    known = images.labels >= 0
    np.testing.assert_array_equal(answers[known].numpy(), np.eye(len(images.classes))[images.labels[known]])
    assert float(answers.sum(1).max()) <= 1.001
    assert not beliefs.due(MOMENTS[0])
    for _ in MOMENTS[1:]:
        assert beliefs.due(1.0)
        beliefs.rounds += 1
    assert not beliefs.due(1.0)


def test_what_is_taught_joins_neighbours_and_the_networks_own_answers(drawn: ImageSet) -> None:
    images, model = few(drawn), fresh("vae_cnn", drawn)
    beliefs = Beliefs(images)
    beliefs.renew(model, "cpu", torch.autocast("cpu", enabled=False))
    points = axes_of(model, images, "cpu").directions(maps(model, images, "cpu"))
    with torch.no_grad():
        said = [model(batch, noise=False, decode=False).heads["label"].softmax(1) for batch in in_order(images, 7)]
    unknown, even = images.labels < 0, np.array([0.5, 0.5])
    own, reached = torch.cat(said)[torch.from_numpy(unknown)].double().numpy(), Reached(points, images.labels, 2)
    by_neighbours = by_confusion(reached.apart, reached.truth, reached.said)
    shares = agreed(by_neighbours, by_likelihood(own, even), even)
    both = reached.answers(shares)
    both[unknown] += rows_to_one(own * shares / even)
    both **= 2
    expected = (both / both.sum(1, keepdims=True))[unknown]
    np.testing.assert_allclose(beliefs.answers.numpy()[unknown], expected, atol=2e-3)


@pytest.mark.parametrize("balance", [False, True])
def test_answers_are_compared_with_what_was_taught_labels_among_it(drawn: ImageSet, balance: bool) -> None:
    labels = np.full(len(drawn), -1)
    for c, count in ((0, 6), (1, 2)):
        labels[np.flatnonzero(drawn.labels == c)[:count]] = c
    images, unknown = drawn.with_labels(labels), labels < 0
    beliefs = Beliefs(images, labelled_share=0.25, balance=balance)
    heard = np.array([0.5, 0.5] if balance else [7 / 10, 3 / 10])  # one more of each
    np.testing.assert_allclose(beliefs._learnt(unknown), heard)
    beliefs.answers[torch.from_numpy(unknown)] = torch.tensor([0.25, 0.75]).half()
    beliefs.rounds += 1
    told = (unknown.sum() * np.array([0.25, 0.75]) + 1) / (unknown.sum() + 2)
    np.testing.assert_allclose(beliefs._learnt(unknown), 0.4 * heard + 0.6 * told)


def test_rows_that_say_nothing_are_no_answers() -> None:
    truth = np.arange(8) % 4
    even = np.full((100, 4), 0.25)
    said = np.concatenate([np.repeat(np.eye(4), 25, 0), even])
    np.testing.assert_allclose(by_confusion(np.eye(4)[truth], truth, said), 0.25)
    np.testing.assert_allclose(by_confusion(np.full((8, 4), 0.25), truth, said), 0.25)


def test_where_every_label_is_known_they_are_all_that_is_taught(drawn: ImageSet) -> None:
    beliefs = Beliefs(drawn)
    assert not beliefs.due(1.0)
    answers = beliefs.of(torch.arange(5))
    assert answers is not None
    np.testing.assert_array_equal(answers.numpy(), np.eye(len(drawn.classes))[drawn.labels[:5]])


def test_resuming_is_exact_before_and_after_labels_are_spread(drawn: ImageSet, tmp_path: Path) -> None:
    images = few(drawn)
    settings = dataclasses.replace(FAST, epochs=2, checkpoint_seconds=0.0)
    whole = fresh("vae_cnn", images)
    steps = len(list(train(whole, images, images, settings)))
    for share in (0.2, 0.45, 0.95):
        folder = tmp_path / str(share)
        folder.mkdir()
        run = train(fresh("vae_cnn", images), images, images, settings, folder)
        for progress in run:
            if progress.step == max(1, int(share * steps)):
                break
        run.close()
        resumed = fresh("vae_cnn", images, seed=99)
        for _ in train(resumed, images, images, settings, folder, resume=True):
            pass
        assert same(whole, resumed)


def test_prices_first_tell_apart_and_then_teach(drawn: ImageSet) -> None:
    images = few(drawn)
    prices = [progress.prices for progress in train(fresh("vae_cnn", images), images, images, FAST)]
    assert prices[0]["contrast"] > 0
    assert prices[-1]["contrast"] == 0
    assert prices[-1]["taught"] > 0


def test_answers_are_mixed_as_their_images_are() -> None:
    torch.manual_seed(0)
    answers = torch.rand(16, 3)
    strong = answers[:, :, None, None].expand(-1, -1, 4, 4)
    batch = Batch(strong, torch.zeros(16).long(), torch.arange(16), strong=strong, taught=answers)
    after = mixed(batch)
    assert after.strong is not None
    assert after.taught_strong is not None
    torch.testing.assert_close(after.strong[:, :, 0, 0], after.taught_strong)
    assert after.taught is answers
    assert not torch.equal(after.taught_strong, answers)
    # The larger share stays.
    assert ((after.taught_strong - answers).norm(dim=1) <= 0.5 * torch.cdist(answers, answers).max() + 1e-6).all()
    assert after.x is strong
    alone = dataclasses.replace(batch, taught=None)
    assert mixed(alone) is alone


def output(weak: torch.Tensor, strong: torch.Tensor, name: str) -> Output:
    code = Code(torch.zeros(len(weak), 1, 1), (1, 1), torch.zeros(len(weak), 1, 1))
    return Output(code, None, {name: weak}, {name: strong})


def test_the_price_of_contrast() -> None:
    torch.manual_seed(0)
    weak, strong = (F.normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.full((6,), -1), torch.arange(6))
    scores = weak @ strong.T / TEMPERATURE
    expected = -0.5 * (scores.log_softmax(1).diagonal() + scores.log_softmax(0).diagonal())
    torch.testing.assert_close(contrast(output(weak, strong, "contrast"), batch), expected)
    answers = dataclasses.replace(batch, taught=torch.ones(6, 2))
    assert not contrast(output(weak, strong, "contrast"), answers).any()


def test_the_price_of_what_is_taught() -> None:
    torch.manual_seed(0)
    logits, answers = torch.randn(6, 3), torch.rand(6, 3)
    batch = Batch(torch.zeros(6, 1, 2, 2), torch.tensor([0, 1, 2, -1, -1, -1]), torch.arange(6), taught=answers)
    expected = F.cross_entropy(logits, answers, reduction="none")
    torch.testing.assert_close(taught(output(logits, logits, "label"), batch), expected)
    alone = taught(output(logits, logits, "label"), dataclasses.replace(batch, taught=None))
    torch.testing.assert_close(alone[:3], F.cross_entropy(logits[:3], batch.y[:3], reduction="none"))
    assert not alone[3:].any()
