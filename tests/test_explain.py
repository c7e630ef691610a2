"""Explanations: decisions really change, attributions add up and depend on the model, pages hold what they show."""

from __future__ import annotations

import copy
import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

import apercu
from apercu.api import Model
from apercu.data.batches import in_order
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError
from apercu.explain.attribution import attributions, background, held_by
from apercu.explain.decision import Decision, log_odds
from apercu.explain.explained import Explained
from apercu.explain.faithfulness import at_random, faithfulness, inside
from apercu.explain.imagined import imagine
from apercu.pages.names import file_names
from apercu.tasks._decision import decision_of
from apercu.tasks.classify import Classify
from apercu.tasks.explain import Explain
from apercu.training import Training
from apercu.types import Batch
from tests.commands import run

DENSE = {"dim": 6, "encoder": "dense", "width": 32, "hidden": 32, "augment": 0.0}
SMALL = Training(epochs=10, batch=64, learning_rate=1e-2, device="cpu", precision="32", validations=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("explain") / "model"
    apercu.fit("sklearn:digits", preset="vae_cnn", settings=DENSE, training=SMALL, out=path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> Model:
    return apercu.load(folder, "cpu")


@pytest.fixture(scope="module")
def few(digits: Images) -> ImageSet:
    return digits.test.subset(np.arange(12))


@pytest.fixture(scope="module")
def plain(digits: Images) -> Model:
    """A model without a label head."""
    settings = {"dim": 6, "encoder": "dense", "width": 32}
    return apercu.fit(digits, preset="vae", settings=settings, training=dataclasses.replace(SMALL, epochs=3))


def batch_of(images: ImageSet) -> Batch:
    return next(in_order(images, 250))


def decided(decision: Decision, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return decision.logits(x).argmax(1)


def test_the_decision_is_that_of_the_classifier(model: Model, few: ImageSet) -> None:
    classify = Classify(model)
    p = decision_of(classify).logits(batch_of(few).x).softmax(1).detach().numpy()
    np.testing.assert_allclose(p, classify.probabilities(few), atol=1e-5)


@pytest.mark.parametrize(
    ("method", "classes"), [("linear", 2), ("linear", 10), ("mlp", 2), ("prototypes", 10), ("finetune", 10)]
)
def test_a_fitted_classifier_becomes_the_same_decision(plain: Model, digits: Images, method: str, classes: int) -> None:
    model = Model(plain.network, copy.deepcopy(plain.recipe))
    learnt = digits.train.subset(np.flatnonzero(digits.train.labels < classes)[:150])
    classify = Classify(model, method=method, epochs=1)  # type: ignore[arg-type]
    classify.fit(learnt.with_labels(learnt.labels, digits.train.classes[:classes]))
    decision = decision_of(classify)
    asked = digits.test.subset(np.arange(60))
    p = decision.logits(batch_of(asked).x).softmax(1).detach().numpy()
    np.testing.assert_allclose(p, classify.probabilities(asked), atol=0.05)  # a probe never says never
    assert (p.argmax(1) == classify.probabilities(asked).argmax(1)).all()


def test_a_classifier_without_a_gradient_is_met_with_advice(plain: Model, digits: Images) -> None:
    model = Model(plain.network, copy.deepcopy(plain.recipe))
    explain = Explain(model)
    with pytest.raises(ApercuError, match="no classifier"):
        explain(digits.test)
    explain.classify = Classify(model, method="knn")
    explain.classify.fit(digits.train.subset(np.arange(100)))
    with pytest.raises(ApercuError, match="method=linear"):
        explain(digits.test)


def test_a_model_without_classes_learns_a_classifier_first(plain: Model, digits: Images) -> None:
    explain = Explain(Model(plain.network, copy.deepcopy(plain.recipe)), n=3, steps=40)
    explain.fit(digits.train.subset(np.arange(300)))
    result = explain(digits.test)
    assert [row["label"] for row in result["explanations"]]
    assert sum(row["changed"] for row in result["explanations"]) >= 2
    assert result["notes"] == []


def test_a_model_of_features_is_met_with_advice(model: Model) -> None:
    network = copy.copy(model.network)
    network.backbone = torch.nn.Identity()  # type: ignore[assignment]
    with pytest.raises(ApercuError, match="no pixels"):
        decision_of(Classify(Model(network, model.recipe)))


def test_log_odds() -> None:
    logits, chosen = torch.randn(5, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 3, 0])
    p = logits.softmax(1).gather(1, chosen[:, None]).squeeze(1)
    torch.testing.assert_close(log_odds(logits, chosen), torch.logit(p))


@pytest.mark.parametrize("with_known", [True, False])
def test_the_nearest_image_that_would_be_decided_otherwise(model: Model, few: ImageSet, with_known: bool) -> None:
    explain, x = Explain(model), batch_of(few).x
    decision = decision_of(explain.classify)
    known = explain._references(decision)
    assert known is not None
    before = decided(decision, x)
    found = imagine(decision, x, before, known if with_known else None, 3, 0.9, 100)
    assert found.reached.float().mean() >= (1.0 if with_known else 0.7)
    p = decision.logits(found.pixels).softmax(1).detach()
    sure = p.gather(1, found.aimed[:, None]).squeeze(1)
    assert (sure[found.reached] >= 0.9 - 1e-4).all()
    assert (found.aimed != before).all()
    # No known image that is surely decided otherwise is nearer, in the same units.
    assert found.code.scale is not None
    drawn = decision.draw(torch.from_numpy(known.codes), found.code.grid, (8, 8))
    sure_of = decision.logits(drawn).softmax(1).detach().numpy() >= 0.9
    for i in np.flatnonzero(found.reached.numpy()).tolist() if with_known else []:
        others = known.codes[sure_of[:, int(found.aimed[i])]]
        away = (others - found.code.z[i].numpy()) / found.code.scale[i].numpy()
        assert float(found.distance[i]) <= np.sqrt(np.square(away).sum((1, 2))).min() + 1e-3
        moved = (found.z[i] - found.code.z[i]) / found.code.scale[i]
        assert float(moved.norm()) == pytest.approx(float(found.distance[i]), rel=1e-4)


def test_a_surer_change_is_farther_away(model: Model, few: ImageSet) -> None:
    explain, x = Explain(model), batch_of(few).x
    decision = decision_of(explain.classify)
    known = explain._references(decision)
    near, far = (
        imagine(decision, x, decided(decision, x), known, 3, confidence, 100).distance.mean()
        for confidence in (0.5, 0.99)
    )
    assert near < far


def test_quantised_codes_move_to_codes_that_there_are(digits: Images, tmp_path: Path) -> None:
    settings = {"dim": 4, "codes": 16, "width": 4, "depth": 1, "lam": 64.0, "encoder": "conv"}
    training = dataclasses.replace(SMALL, epochs=2)
    quantised = apercu.fit(digits, preset="vqvae", settings=settings, training=training)
    x = batch_of(digits.test.subset(np.arange(4))).x
    decision = decision_of(Classify(quantised))
    found = imagine(decision, x, decided(decision, x), None, 2, 0.6, 30)
    bottleneck = quantised.network.bottleneck
    torch.testing.assert_close(bottleneck.quantise(found.z), found.z)
    Explain(quantised, n=2, steps=5)(digits.test, tmp_path)
    page = next(path for path in tmp_path.glob("*.html") if path.stem != "index").read_text(encoding="utf-8")
    assert "Where the decision comes from" in page
    assert "Coordinate" not in page
    larger = digits.test.read([0, 1]).repeat(2, 2).repeat(2, 3)
    assert Explain(quantised, steps=5)(quantised.images(larger), tmp_path)["n"] == 2


def test_integrated_gradients_are_complete(model: Model, few: ImageSet) -> None:
    decision, x = decision_of(Classify(model)), batch_of(few).x
    chosen = decided(decision, x)
    maps = attributions(decision, x, chosen)
    with torch.no_grad():
        difference = decision.odds(x, chosen) - decision.odds(background(x), chosen)
    torch.testing.assert_close(maps["gradients"].sum((1, 2)), difference, atol=0.1, rtol=0.02)
    found = imagine(decision, x, chosen, None, 2, 0.9, 40)
    shares = held_by(decision, found.code.z, found.z, found.code.grid, (8, 8), chosen).sum((1, 2))
    with torch.no_grad():
        fall = decision.odds(found.redrawn, chosen) - decision.odds(found.pixels, chosen)
    torch.testing.assert_close(shares, fall, atol=0.2, rtol=0.05)


def test_attributions_are_faithful_and_depend_on_what_was_learnt(model: Model, digits: Images) -> None:
    """Adebayo et al., "Sanity checks for saliency maps" (2018): a model that has learnt nothing explains otherwise."""
    images = digits.test.subset(np.arange(40))
    decision, x = decision_of(Classify(model)), batch_of(images).x
    chosen = decided(decision, x)
    maps = attributions(decision, x, chosen)
    deletion, insertion = at_random(decision, x, chosen, 0)
    network = copy.deepcopy(model.network)
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, torch.nn.Linear):
            module.reset_parameters()
    nothing = Decision(network, network, network.heads["label"], decision.classes)
    other = attributions(nothing, x, chosen)
    for name, values in maps.items():
        removed, added = faithfulness(decision, x, chosen, values)
        assert removed.mean() < deletion.mean() - 0.05
        assert added.mean() > insertion.mean() + 0.05
        alike = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(values, other[name], strict=True)]
        assert abs(float(np.mean(alike))) < 0.5
        again = attributions(decision, x, chosen)[name]
        torch.testing.assert_close(values, again)


def test_a_planted_mark_that_decides_is_found() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 60, (300, 1, 12, 12)).astype(np.uint8)
    x[:, :, 4:8, 3:9] = rng.integers(0, 255, (300, 1, 4, 6))  # bright, and of no consequence
    y = np.arange(300) % 2
    x[y == 0, :, :3, :3] = 255
    x[y == 1, :, 9:, 9:] = 255
    settings = {"dim": 4, "encoder": "dense", "width": 16, "hidden": 16, "augment": 0.0}
    marked = apercu.fit((x, y), preset="vae_cnn", settings=settings, training=dataclasses.replace(SMALL, epochs=12))
    images = open_images((x, y)).test
    decision, batch = decision_of(Classify(marked)), batch_of(images)
    assert (decided(decision, batch.x) == batch.y).all()
    mask = torch.zeros(len(images), 12, 12)
    mask[:, :3, :3] = mask[:, 9:, 9:] = 1  # an eighth of the image
    found = attributions(decision, batch.x, batch.y)
    assert inside(found["gradients"], mask).mean() > 0.5
    assert inside(found["occlusion"], mask).mean() > 0.5


def test_pages_hold_all_that_they_show_and_escape_names(
    folder: Path, few: ImageSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Explained.rows
    monkeypatch.setattr(Explained, "rows", lambda *a: [row | {"changed": row["id"] != "index.png"} for row in rows(*a)])
    names = ["<script>alert(1)</script>.png", "a/b.png", "a-b.png", "index.png"]
    images = dataclasses.replace(few.subset(np.arange(4)), ids=names)
    explain = Explain(apercu.load(folder, "cpu"), steps=20)
    result = explain(images, tmp_path / "why")
    assert [row["id"] for row in result["explanations"]] == names
    assert result["notes"] == []
    pages = sorted((tmp_path / "why").glob("*.html"))
    assert len(pages) == 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script" not in text
        assert "default-src 'none'" in text
        assert not any(f'{attribute}="{scheme}' in text for attribute in ("src", "href") for scheme in ("http", "//"))
        assert text.count("data:image/") >= 8
    index = (tmp_path / "why" / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in index
    page = (tmp_path / "why" / "a-b.html").read_text(encoding="utf-8")
    for words in ("What would change the decision", "What it resembles", "random order", "Coordinate"):
        assert words in page
    assert len(list((tmp_path / "why").glob("*-imagined.png"))) == 4
    unchanged = [page for page in pages if "moved, without another decision" in page.read_text(encoding="utf-8")]
    assert len(unchanged) == 1
    assert "to the other decision</span>" not in unchanged[0].read_text(encoding="utf-8")
    assert "to the other decision</span>" in page


def test_file_names_differ_on_every_system() -> None:
    names = file_names(["a/b.png", "a-b.png", "A-B.jpg", "index.png"], taken=("index",))
    assert len({name.casefold() for name in names.values()} | {"index"}) == 5


def test_how_good_explanations_are(folder: Path) -> None:
    said = run(
        *("evaluate", "explain", folder, "sklearn:digits", "--json", "--device", "cpu"),
        *("-s", "sample=30", "-s", "steps=60", "-s", f"judge={folder}"),
    )
    assert said.status == 0, said.err
    measured = said.answer
    assert measured["n"] == 30
    assert measured["changed"] >= 0.9
    assert measured["judged"] == measured["changed"]  # the judge is the model itself
    assert measured["judged_redrawn"] < 0.5
    assert measured["distance"] > 0
    assert 5 < measured["psnr"] < 40
    assert measured["deletion"]["gradients"] < measured["deletion"]["random"]
    assert measured["insertion"]["gradients"] > measured["insertion"]["random"]


def test_without_the_extra_there_is_advice(model: Model, few: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "captum", None)
    with pytest.raises(ApercuError, match=r"apercu\[explain\]"):
        Explain(model, steps=1)(few)


@pytest.mark.parametrize(
    "settings", [{"n": 0}, {"targets": 0}, {"steps": 0}, {"sample": 0}, {"confidence": 1.0}, {"confidence": 0.2}]
)
def test_settings_that_mean_nothing(model: Model, settings: dict[str, float]) -> None:
    with pytest.raises(ApercuError, match=next(iter(settings))):
        Explain(model, **settings)  # type: ignore[arg-type]


def test_nothing_to_explain(model: Model, few: ImageSet) -> None:
    with pytest.raises(ApercuError, match="no images"):
        Explain(model)(few.subset([]))
