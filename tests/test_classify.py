"""Recognition whose probabilities mean something: temperature, sets, abstention, novelty, shots, generated images."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import balanced_accuracy_score, f1_score, roc_auc_score

import apercu
from apercu import metrics
from apercu.api import Model
from apercu.data.images import ImageSet
from apercu.data.open import Images
from apercu.errors import ApercuError, FormatError
from apercu.tasks import _generated
from apercu.tasks._answers import rows, table
from apercu.tasks._calibration import Evidence, calibration_error, fit_temperature, promise, tempered
from apercu.tasks._novelty import p_values, separation
from apercu.tasks._probe import fit_probe, out_of_fold, prototypes, said
from apercu.tasks.classify import Classify
from apercu.training import Training
from tests.commands import run

FAST = Training(epochs=25, batch=64, device="cpu", precision="32")
GOLDEN = Path(__file__).parent / "golden" / "format-1"


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A joint head that knows nothing of its calibration."""
    out = tmp_path_factory.mktemp("classify") / "joint"
    settings = {"encoder": "dense", "width": 32, "dim": 16, "augment": 0.0}
    apercu.fit("sklearn:digits", preset="vae_cnn", out=out, settings=settings, training=replace(FAST, epochs=10))
    return out


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model without labels."""
    out = tmp_path_factory.mktemp("classify") / "codes"
    apercu.fit("sklearn:digits", preset="ae", out=out, settings={"dim": 16}, training=FAST)
    return out


@pytest.fixture
def head(joint: Path, tmp_path: Path) -> Model:
    return apercu.load(shutil.copytree(joint, tmp_path / "joint"))


@pytest.fixture
def coder(codes: Path, tmp_path: Path) -> Model:
    return apercu.load(shutil.copytree(codes, tmp_path / "codes"))


def some(images: ImageSet, per_class: int) -> ImageSet:
    """So many of each class, drawn at random: the first ones are of a few writers."""
    order = np.random.default_rng(0).permutation(len(images))
    return images.subset(np.concatenate([order[images.labels[order] == k][:per_class] for k in range(10)]))


def answers(count: int, temperature: float, seed: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and classes drawn from them at this temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, (count, classes))
    p = tempered(logits, temperature)
    return logits, (p.cumsum(1) < rng.random((count, 1))).sum(1)


def evidence(count: int, temperature: float = 1.0, seed: int = 0) -> Evidence:
    return Evidence(*answers(count, temperature, seed), np.arange(count))


def test_measures_are_those_of_the_libraries() -> None:
    from torchmetrics.functional.classification import multiclass_calibration_error

    logits, truth = answers(500, 3.0, 0)
    p, predicted = tempered(logits, 1), logits.argmax(1)
    measured = metrics.classification(truth, predicted, tuple("abcde"))
    assert measured["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"))
    assert measured["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert metrics.auroc(p, truth) == pytest.approx(roc_auc_score(truth, p, multi_class="ovr", average="macro"))
    two = tempered(logits[truth < 2, :2], 1)
    assert metrics.auroc(two, truth[truth < 2]) == pytest.approx(roc_auc_score(truth[truth < 2], two[:, 1]))
    theirs = multiclass_calibration_error(torch.tensor(p), torch.tensor(truth), 5, n_bins=15, norm="l1")
    assert calibration_error(p, truth) == pytest.approx(float(theirs), abs=1e-6)


def test_measures_of_nothing_are_none() -> None:
    nothing, none = np.empty((0, 3)), np.empty(0, np.int64)
    assert metrics.auroc(nothing, none) is None
    assert calibration_error(nothing, none) is None
    assert metrics.auroc(np.ones((4, 3)) / 3, np.ones(4, np.int64)) is None
    assert metrics.classification(none, none, ("a", "b"))["macro_f1"] is None
    assert metrics.classification(np.array([0, 0]), np.array([0, 0]), ("a", "b"))["balanced_accuracy"] == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    logits, truth = answers(4000, temperature, 1)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.1)
    wrong, right = tempered(logits, 1), tempered(logits, temperature)
    after = calibration_error(tempered(logits, fit_temperature(logits, truth)), truth)
    assert after is not None
    assert after < 0.03
    assert (wrong.argmax(1) == right.argmax(1)).all()


def test_a_handful_of_right_answers_does_not_make_it_certain() -> None:
    logits = np.log(np.array([[0.8, 0.2], [0.3, 0.7]]))
    assert 0.5 < fit_temperature(logits, np.array([0, 1])) < 1
    assert fit_temperature(np.empty((0, 2)), np.empty(0, np.int64)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_sets_hold_the_class_as_often_as_they_say(coverage: float) -> None:
    held, sizes = [], []
    for seed in range(100):
        promised = promise(evidence(99, 2.0, seed).calibration(), coverage, 0.05)
        logits, truth = answers(200, 2.0, 1000 + seed)
        measured = promised.measured(tempered(logits, promised.temperature), truth)
        held.append(measured["coverage"])
        sizes.append(measured["set_size"])
    # With 99 labels the expectation is ⌈100·coverage⌉ / 100, and the mean of 100 splits has an error of 0.4 %.
    assert np.mean(held) == pytest.approx(coverage, abs=0.012)
    assert 1 < np.mean(sizes) < 5


def test_more_coverage_takes_larger_sets_and_in_the_end_all_classes() -> None:
    calibration = evidence(100).calibration()
    p = tempered(answers(50, 1.0, 7)[0], 1)
    sizes = [promise(calibration, coverage, 0.05).sets(p).sum() for coverage in (0.5, 0.9, 0.99)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]
    promised = promise(calibration, 0.995, 0.05)
    assert promised.sets(p).all()
    assert "need 199 held-out labels and there are 100" in promised.notes[0]


def test_answers_that_do_not_abstain_keep_the_rate_of_errors() -> None:
    kept, answered = [], []
    for seed in range(60):
        promised = promise(evidence(400, 1.5, seed).calibration(), 0.9, 0.25)
        logits, truth = answers(4000, 1.5, 500 + seed)
        measured = promised.measured(tempered(logits, promised.temperature), truth)
        kept.append(measured["accuracy_answered"] is None or measured["accuracy_answered"] >= 0.75)
        answered.append(1 - (measured["abstained"] or 0))
    assert np.mean(kept) >= 0.95
    assert np.mean(answered) > 0.3


def test_what_cannot_be_promised_is_not() -> None:
    few = promise(evidence(20).calibration(), 0.9, 0.01)
    assert few.cut is not None
    assert few.least is None
    assert "20 held-out labels do not show" in few.notes[0]
    p = tempered(answers(5, 1.0, 0)[0], 1)
    nothing = promise(None, 0.9, 0.05)
    assert nothing.sets(p).all()
    assert nothing.abstains(p).all()
    assert "--learn" in nothing.notes[0]


def test_p_values_of_known_values_are_uniform() -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([p_values(rng.normal(size=20), rng.normal(size=199)) for _ in range(200)])
    for level in (0.01, 0.05, 0.5):
        assert (p <= level).mean() == pytest.approx(level, abs=3 * np.sqrt(level / len(p)) + 0.005)
    assert p_values(np.array([9.0, -9.0]), np.zeros(3)).tolist() == [0.25, 1.0]
    assert separation(np.array([0.5, 0.9]), np.array([0.01, 0.6])) == 0.75


def test_a_joint_head_is_calibrated_kept_and_restored(head: Model, digits: Images) -> None:
    before = Classify(head)(digits.test)
    assert before["calibrated"] is None
    assert all(len(row["set"]) == 10 and row["abstain"] for row in before["predictions"])
    about = Classify(head).calibrate(digits.train, digits.val)["head"]
    assert (about["on"], about["n"]) == ("held-out labels", len(digits.val))
    again = apercu.load(str(head.folder))
    first, second = Classify(head)(digits.test), Classify(again)(digits.test)
    assert first == second
    assert [row["label"] for row in first["predictions"]] == [row["label"] for row in before["predictions"]]
    measured = Classify(again, coverage=0.95).evaluate(digits.test)
    assert measured["ece"] <= measured["ece_before"] + 0.01
    assert measured["coverage"] == pytest.approx(0.95, abs=0.05)
    assert measured["set_size"] < 3
    assert measured["novel"] <= 0.05
    assert measured["auroc"] > 0.95


def test_nothing_is_measured_on_the_labels_that_calibrated(head: Model, digits: Images) -> None:
    Classify(head).calibrate(digits.train, digits.val)
    measured = Classify(head).evaluate(digits.val)
    assert measured["accuracy"] > 0.5
    assert all(measured[name] is None for name in ("ece", "ece_before", "coverage", "set_size", "abstained"))


def test_a_model_that_came_without_its_calibration_still_answers(head: Model, digits: Images, tmp_path: Path) -> None:
    Classify(head).calibrate(digits.train, digits.val)
    head.save(tmp_path / "copy")
    assert Classify(apercu.load(tmp_path / "copy"))(digits.test)["predictions"][0]["abstain"]
    file = tmp_path / "joint" / "classify.head.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    with pytest.raises(FormatError, match="damaged"):
        Classify(apercu.load(tmp_path / "joint"))(digits.test)


def test_models_of_before_still_classify() -> None:
    expected = np.load(GOLDEN / "expected.npz")
    task = Classify(apercu.load(GOLDEN, "cpu"))
    images = task.model.images(expected["x"])
    np.testing.assert_allclose(task.probabilities(images), expected["probabilities"], atol=1e-5)
    answered = task(images)
    assert answered["calibrated"] is None
    assert answered["predictions"][0]["novelty"] is None
    assert len(answered["notes"]) == 2


def test_a_probe_is_calibrated_by_labels_it_did_not_see(coder: Model, digits: Images) -> None:
    few = some(digits.train, 20)
    fitted = Classify(coder, method="linear").fit(few)
    assert (fitted["calibration"]["on"], fitted["calibration"]["n"]) == ("labels out of fold", 200)
    assert Classify(coder).evaluate(few)["ece"] is None
    measured = Classify(coder).evaluate(digits.test)
    assert measured["coverage"] == pytest.approx(0.9, abs=0.07)
    assert measured["novelty_auroc"] is None
    held_out = Classify(coder, method="linear").fit(few, digits.val)
    assert (held_out["calibration"]["on"], held_out["calibration"]["n"]) == ("held-out labels", len(digits.val))


def test_an_image_of_no_known_class_is_novel(coder: Model, digits: Images) -> None:
    train, val = (part.subset(part.labels < 7) for part in (digits.train, digits.val))
    classify = Classify(coder, novel=0.02, method="prototypes")
    classify.fit(train.with_labels(train.labels, digits.train.classes[:7]), val)
    measured = classify.evaluate(digits.test)
    assert measured["n"] == (digits.test.labels < 7).sum()
    assert measured["novel"] <= 0.08
    assert measured["novelty_auroc"] > 0.7
    noise = np.random.default_rng(0).integers(0, 17, (20, 1, 8, 8)).astype(np.uint8)
    strange = classify(coder.images(noise))["predictions"]
    assert np.mean([row["novel"] for row in strange]) > 0.8
    assert min(row["novelty"] for row in strange) > 0.8


def test_labels_of_other_classes_do_not_stop_the_joint_head(head: Model, digits: Images) -> None:
    Classify(head).calibrate(digits.train, digits.val)
    more = digits.test.with_labels(digits.test.labels + 5, [f"class {k}" for k in range(15)])
    assert len(Classify(head)(more)["predictions"]) == len(more)
    with pytest.raises(ApercuError, match="none of these images has a label that the model knows"):
        Classify(head).evaluate(more)


def test_prototypes_name_the_nearest_class_mean() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 4)), np.arange(30) % 3
    new = rng.normal(size=(50, 4))
    means = np.stack([x[y == k].mean(0) for k in range(3)])
    nearest = ((new[:, None] - means) ** 2).sum(2).argmin(1)
    logits = said(prototypes(x, y), new, 5)
    assert (logits.argmax(1) == nearest).all()
    assert (np.exp(logits[:, 3:]) < 1e-20).all()
    np.testing.assert_allclose(np.exp(logits), np.exp(said(prototypes(100 * x, y), 100 * new, 5)), atol=1e-9)


def test_one_image_of_each_class_is_enough(coder: Model, digits: Images) -> None:
    fitted = Classify(coder).fit(some(digits.train, 1))
    assert (fitted["method"], fitted["labels"]) == ("prototypes", 10)
    assert "calibration" not in fitted
    measured = Classify(coder).evaluate(digits.test)
    assert measured["accuracy"] > 0.35
    assert measured["set_size"] == 10
    one = Classify(coder)(digits.test.subset([0]))["predictions"][0]
    assert 0.1 < one["probability"] < 1
    assert one["novelty"] is None


def test_a_class_with_a_single_image_costs_the_others_nothing(coder: Model, digits: Images) -> None:
    few = some(digits.train, 30)
    alone = few.subset(np.flatnonzero((few.labels != 3) | (np.cumsum(few.labels == 3) == 1)))
    for method in ("linear", "knn"):
        fitted = Classify(coder, method=method).fit(alone)
        assert fitted["calibration"]["n"] == 270
        assert Classify(coder).evaluate(digits.test)["accuracy"] > 0.7


def test_no_answer_out_of_fold_has_seen_its_label() -> None:
    x, y = np.random.default_rng(0).normal(size=(60, 3)), np.arange(60) % 2

    def remember(codes: np.ndarray, labels: np.ndarray) -> object:
        class Memory:
            classes_ = np.arange(2)

            def predict_proba(self, asked: np.ndarray) -> np.ndarray:
                assert not (asked[:, None] == codes).all(2).any()
                return np.full((len(asked), 2), 0.5)

        return Memory()

    assert out_of_fold(remember, x, y, np.arange(60), 2, 0).shape == (60, 2)


def test_balance_helps_the_rare(coder: Model, digits: Images) -> None:
    few = some(digits.train, 60)
    rare = few.subset(np.flatnonzero((few.labels < 5) | (np.arange(len(few)) % 60 < 6)))
    plain, even = (Classify(coder, method="linear", balance=balance) for balance in (False, True))
    plain.fit(rare)
    before = plain.evaluate(digits.test)["balanced_accuracy"]
    even.fit(rare)
    assert even.evaluate(digits.test)["balanced_accuracy"] > before


class Told:
    """Stands for `Generate` and draws real images of each class, which help, or of other classes, which do not."""

    source: ImageSet
    shift = 0

    def __init__(self, model: Model, count: int, source: str, seed: int) -> None:
        self.count = count

    def draw(self, images: ImageSet) -> dict[str, np.ndarray]:
        there = self.source.labels
        return {
            name: self.source.read(np.flatnonzero(there == (k + self.shift) % 10)[: self.count])
            for k, name in enumerate(images.classes)
        }


@pytest.mark.parametrize("shift", [0, 1])
def test_generated_images_are_kept_only_if_they_help(
    shift: int, coder: Model, digits: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Told, "source", digits.val, raising=False)
    monkeypatch.setattr(Told, "shift", shift)
    monkeypatch.setattr(_generated, "Generate", Told)
    monkeypatch.setattr(_generated, "SURE", 0.0)
    few = some(digits.train, 4)
    x = coder.features(few)
    without = fit_probe(x, few.labels, 10, "linear", 0)
    probe, found = _generated.enrich(coder, few, x, without, 10, 0)
    assert found["used"] == (found["gain"] > 2 * found["noise"]) == (shift == 0)
    test, truth = coder.features(digits.test), digits.test.labels
    gain = (probe.probe.predict(test) == truth).mean() - (without.probe.predict(test) == truth).mean()
    assert gain > 0.03 if shift == 0 else probe is without


def test_generated_images_are_drawn_filtered_and_reported(coder: Model, digits: Images) -> None:
    fitted = Classify(coder, method="linear", generated=10).fit(some(digits.train, 12))
    about = fitted["generated"]
    assert about["drawn"] == 100
    assert 0 < about["kept"] < 100
    assert isinstance(about["used"], bool)
    single = Classify(coder, generated=10).fit(some(digits.train, 1))["generated"]
    assert single["used"] is False
    assert "nothing to measure" in single["reason"]


def test_the_table_keeps_its_columns_and_adds_new_ones() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.1, 0.45, 0.45]])
    promised = promise(Evidence(np.log(p), np.array([0, 1]), np.arange(2)).calibration(), 0.5, 0.5)
    promised = replace(promised, cut=0.6)
    classes = ("set", "b", "c")
    text = table(rows(["x", "y"], classes, p, promised, np.array([0.005, 0.5]), 0.01), classes, p)
    header, first, second = csv.reader(text.splitlines())
    assert header == ["id", "label", "probability", "set", "b", "c", "set_", "novelty", "novel", "abstain"]
    assert first == ["x", "set", "0.700000", "0.700000", "0.200000", "0.100000", "set", "0.9950", "yes", first[-1]]
    assert second[6:9] == ["b|c", "0.5000", "no"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"coverage": 1.0}, "coverage is a share"),
        ({"coverage": float("nan")}, "coverage is a share"),
        ({"error": 0.0}, "error is a share"),
        ({"novel": -0.1}, "novel is a share"),
        ({"generated": -1}, "generated is a number"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float], words: str, coder: Model) -> None:
    with pytest.raises(ApercuError, match=words):
        Classify(coder, **settings)  # type: ignore[arg-type]


def test_labels_that_are_too_few_are_refused_in_one_sentence(head: Model, coder: Model, digits: Images) -> None:
    one = digits.train.subset(digits.train.labels == 3)
    hidden = digits.train.with_labels(np.full(len(digits.train), -1))
    for method in ("best", "finetune", "prototypes"):
        with pytest.raises(ApercuError, match="at least two classes"):
            Classify(coder, method=method).fit(one)
        with pytest.raises(ApercuError, match="at least two classes"):
            Classify(coder, method=method).fit(hidden)
    with pytest.raises(ApercuError, match="at least three labels"):
        Classify(coder, method="svm").fit(some(digits.train, 2))
    with pytest.raises(ApercuError, match="validation images that it did not learn from"):
        Classify(head, method="head").fit(digits.train)


@pytest.fixture(scope="module")
def photos(digits: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty images of each of three classes in folders, and the same in one folder with a CSV file of labels."""
    root = tmp_path_factory.mktemp("photos")
    lines = ["path,label"]
    for k in range(3):
        for i in np.flatnonzero(digits.train.labels == k)[:30]:
            pixels = Image.fromarray((digits.train.read([i])[0, 0] * 15).astype(np.uint8))
            for path in (root / "sorted" / "abc"[k] / f"{i}.png", root / "flat" / f"{i}.png"):
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels.save(path)
            lines.append(f"{i}.png,{'abc'[k]}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


@pytest.fixture(scope="module")
def of_photos(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("of photos") / "model"
    apercu.fit(photos / "flat", preset="ae", out=out, settings={"dim": 8}, training=FAST)
    return out


def test_a_flat_folder_is_learnt_from_and_measured_with_a_csv_file(of_photos: Path, photos: Path) -> None:
    images, truth = photos / "flat", photos / "labels.csv"
    said_ = run("evaluate", "classify", of_photos, images, "--learn", images, "--labels", truth, "--json")
    assert said_.status == 0, said_.err
    assert set(said_.answer["per_class"]) == {"a", "b", "c"}
    assert said_.answer["accuracy"] > 0.6
    later = run("evaluate", "classify", of_photos, images, "--labels", truth, "--split", "all", "--json")
    assert later.answer["n"] == 90


def test_shots(of_photos: Path, photos: Path, tmp_path: Path) -> None:
    fitted = run("classify", of_photos, photos / "flat", "--learn", photos / "sorted", "--shots", 1, "--json")
    assert fitted.status == 0, fitted.err
    about = run("info", of_photos, "--json").answer["tasks"]["classify"]
    assert (about["method"], about["labels"]) == ("prototypes", 3)
    split = apercu.open_images(photos / "sorted")
    for k, part in enumerate((split.test, split.train, split.train)):  # by its content, the first stays a test image
        name = part.ids[int(np.flatnonzero(part.labels == k)[0])]
        (tmp_path / "three" / name).parent.mkdir(parents=True)
        shutil.copy(photos / "sorted" / name, tmp_path / "three" / name)
    few = run("evaluate", "classify", of_photos, photos / "sorted", "--learn", tmp_path / "three", "--json")
    assert "all of them are learnt from" in few.err
    assert few.answer["accuracy"] > 0.5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--shots", "2"), "name the images with --learn"),
        (("--labels", "2"), "name the images with --learn"),
        (("--learn", "sorted", "--shots", "40"), "for a has no more|for b has no more|for c has no more"),
        (("--learn", "sorted", "--shots", "0"), "from 1 to"),
        (("--learn", "sorted", "--shots", "2", "--labels", "6"), "give one of them"),
        (("--learn", "sorted", "--labels", "2"), "fewer than the 3 classes"),
        (("--learn", "flat"), "at least two classes"),
        (("--learn", "sorted", "-s", "coverage=1.5"), "coverage is a share"),
    ],
)
def test_labels_that_cannot_be_learnt_from(
    options: tuple[str, ...], words: str, of_photos: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos)
    said_ = run("classify", of_photos, "flat", *options)
    assert said_.status == 2
    assert any(word in said_.err.splitlines()[-1] for word in words.split("|")), said_.err
