"""What cannot be fitted is said in one sentence, before anything is trained or written; what can be is, with a note."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu.errors import ApercuError
from apercu.training import Training
from tests.commands import Said, run
from tests.conftest import shapes

FOLDERS = {
    "one": {"a": 12},
    "flat": {"": 12},
    "three": {"a": 12, "b": 12, "c": 12},
    "lonely": {"train/a": 8, "train/b": 8, "train/c": 1, "val/a": 2, "test/c": 2},
    "split": {"train/a": 6, "train/b": 6, "val/a": 3, "val/b": 3, "test/a": 3, "test/b": 3},
    "labels-in-val": {"train": 9, "val/a": 3, "val/b": 3, "test": 3},
    "labels-in-test": {"train": 9, "val": 3, "test/a": 3, "test/b": 3},
}
TABLES = {
    "empty": [],
    "no-labels": ["a/0.png,", "b/0.png,"],
    "missing": ["a/0.png,a", "b/0.png,b", "b/99.png,b"],
    "all-missing": ["x/0.png,a", "y/0.png,b"],
    "one-class": ["a/0.png,a", "a/1.png,a"],
    "twice": ["a/0.png,a", "b/0.png,b", "a/0.png,c"],
    "in-test": ["test/a/0.png,a", "test/b/0.png,b"],
    "in-val": ["val/a/0.png,a", "val/b/0.png,b"],
    "some": ["train/a/0.png,a", "train/b/0.png,b"],
    "one-in-train": ["train/a/0.png,a", "val/b/0.png,b"],
    "images-without-labels": [f"three/a/{i}.png," for i in range(9)],
    "images-that-are-not-there": ["nowhere/0.png,a", "nowhere/1.png,b"],
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small folders of noise, and CSV files that name their images."""
    root, rng = tmp_path_factory.mktemp("bad"), np.random.default_rng(0)
    for name, classes in FOLDERS.items():
        for part, count in classes.items():
            (root / name / part).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8)).astype(np.uint8)).save(root / name / part / f"{i}.png")
    for name, rows in TABLES.items():
        (root / f"{name}.csv").write_text("\n".join(["path,label", *rows]))
    (root / "no-columns.csv").write_text("x,y\n1,2\n")
    (root / "binary.csv").write_bytes(b"\x89PNG\x00\xff")
    return root


def fit(*arguments: object) -> Said:
    return run("fit", *arguments, "-o", "out")


LABELS = [
    ("one --preset vae_cnn", "these images have none; put the images of each class into a folder of its own"),
    ("one --labels 5", "no classes: put the images of each class into a folder of its own"),
    ("flat --labels 5", "no classes: put the images of each class into a folder of its own"),
    ("flat --preset vae_cnn", "--preset vae"),
    ("three --labels 2", "2 labels are fewer than the 3 classes: ask for at least 3"),
    ("three --labels 0", "0 labels are fewer than the 3 classes: ask for at least 3"),
    ("three --labels -1", "'-1' is neither a whole number of labels nor a file"),
    ("three --labels 1.5", "'1.5' is neither a whole number of labels nor a file"),
    ("three --labels nan", "'nan' is neither a whole number of labels nor a file"),
    ("three --labels ²", "'²' is neither a whole number of labels nor a file"),
    ("three --labels nowhere.csv", "'nowhere.csv' is neither a whole number of labels nor a file"),
    ("three --labels three", "'three' is neither a whole number of labels nor a file"),
    ("three --labels 1000", "1000 labels are more than"),
    ("three --labels empty.csv", "empty.csv has no rows"),
    ("three --labels no-labels.csv", "no-labels.csv has no labels: label images of at least two classes"),
    ("three --labels no-columns.csv", "needs the columns path and label"),
    ("three --labels binary.csv", "cannot be read as a CSV file"),
    ("three --labels missing.csv", "names 'b/99.png', which is none of the images: write paths relative to three"),
    ("three --labels all-missing.csv", "names 'x/0.png' and 1 more that are none of the images"),
    ("three --labels one-class.csv", "names one class, a: label images of at least two"),
    ("three --labels twice.csv", "names a/0.png twice with different labels"),
    ("split --labels in-test.csv", "no training image has a label (6 in test have one): label training images"),
    ("split --labels in-val.csv", "no training image has a label (2 in val and 6 in test have one)"),
    (
        "split --labels one-in-train.csv",
        "only one class has labelled training images (1 in val and 6 in test have one)",
    ),
    ("labels-in-val", "no training image has a label (6 in val have one): label training images of at least two"),
    ("labels-in-val --preset vae_cnn", "no training image has a label"),
    ("labels-in-test", "or learn without labels with --preset vae"),
    ("labels-in-test --labels 4", "no classes: put the images of each class"),
    ("images-without-labels.csv --preset vae_cnn", "give --labels FILE.csv"),
    ("images-that-are-not-there.csv", "no image could be read, the first being nowhere/0.png: there is no such file"),
]
NUMBERS = [
    *((f"three --minutes {value}", "minutes must be a positive number") for value in ("nan", "inf", "-inf", "0", "-1")),
    ("three --minutes soon", "--minutes"),
    *((f"three --epochs {value}", "epochs must be a whole number of at least 1") for value in ("0", "-3")),
    *((f"three --epochs {value}", "--epochs") for value in ("1.5", "nan", "many")),
    *((f"three --learning-rate {value}", "learning_rate must be a positive number") for value in ("nan", "0", "-1")),
    ("three --batch 0", "batch must be a whole number of at least 1"),
    ("three --accumulate -1", "accumulate must be a whole number of at least 1"),
    ("three --patience -1", "patience must be a whole number from 0 to"),
    ("three --seed -1", "seed must be a whole number from 0 to"),
    ("three --seed 99999999999999999999", "seed must be a whole number from 0 to"),
    ("three --size 0", "is not a size"),
    ("three --channels 0", "use 1 for grey, 3 for colour"),
    ("three --device moon", "there is no device 'moon' here"),
    ("three --precision 7", "there is no precision '7'"),
]
SETTINGS = [
    ("three --preset gan", "there is no preset 'gan'; choose one of: ae, cae"),
    ("three -s codes=5", "vae_cnn has no setting 'codes'; there are: dim"),
    ("three -s dim", "write it as -s name=value"),
    ("three -s dim=0", "dim must be a whole number of at least 1"),
    ("three -s dim=1.5", "dim must be a whole number"),
    ("three -s hidden=-1", "hidden must be a whole number of at least 0"),
    ("three -s beta=nan", "beta must be a number"),
    ("three -s beta=-1", "beta must be a number that is not negative"),
    ("three -s encoder=transformer", "encoder must be one of dense, conv"),
    ("three --from nowhere", "nowhere is not an Apercu model"),
]


@pytest.mark.parametrize(("line", "advice"), LABELS + NUMBERS + SETTINGS, ids=lambda value: value.replace("/", ":"))
def test_one_sentence_before_anything_is_trained(
    line: str, advice: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setattr("apercu.fitting.train", None)
    said = fit(*line.split())
    last = said.err.splitlines()[-1]
    assert said.status == 2, said.err
    assert last.startswith("apercu: ")
    assert advice in last
    assert said.out == ""
    as_json = fit(*line.split(), "--json")
    assert (as_json.status, f"apercu: {as_json.answer['error']}") == (2, last)
    assert not (place / "out").exists()


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("one", "no classes to learn, so the preset is vae"),
        ("lonely", "classes with only one labelled training image, of which more would help: c"),
        ("lonely --preset vae", "classes with only one labelled training image, of which more would help: c"),
        ("lonely --labels 3", "1 for each class"),
        ("lonely --labels some.csv", "classes without a labelled training image, which cannot be recognised: c"),
        ("labels-in-val --preset vae", "9 images to train (0 labelled)"),
        ("images-without-labels.csv", "no classes to learn, so the preset is vae"),
    ],
)
def test_what_little_there_is_is_learnt_with_a_note(
    line: str, note: str, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    said = fit(*line.split(), "--epochs", 1, "-s", "width=4", "-s", "dim=4", "--precision", "32", "--overwrite")
    assert said.status == 0, said.err
    assert note in said.err
    shutil.rmtree("out")


def test_the_label_of_a_file_that_cannot_be_read_costs_no_other(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "three", tmp_path / "three")
    (tmp_path / "three" / "a" / "0.png").write_bytes(b"junk")
    (tmp_path / "l.csv").write_text("path,label\n" + "\n".join(f"{c}/{i}.png,{c}" for c in "abc" for i in range(6)))
    labels = ("--labels", tmp_path / "l.csv", "--preset", "ae", "--epochs", 1)
    said = run("fit", tmp_path / "three", "-o", tmp_path / "m", *labels)
    assert said.status == 0, said.err
    assert "17 labels were read" in said.err


@pytest.mark.parametrize(
    ("wish", "advice"),
    [
        ({"labels": -2}, "neither a whole number"),
        ({"labels": 2.5}, "neither a whole number"),
        ({"preset": "vae", "settings": {"dim": 2.5}}, "dim must be a whole number"),
        ({"preset": "vae", "settings": {"beta": float("nan")}}, "beta must be a number"),
        ({"preset": "vae", "settings": {"beta": "1"}}, "beta must be a number"),
        ({"preset": "vae", "settings": {"encoder": "pretrained"}}, "choose one of: dense, conv"),
        ({"preset": "features", "settings": {"frozen": "false"}}, "frozen must be true or false"),
        ({"preset": "features", "settings": {"encoder": "dinov2"}}, "write hf:owner/name"),
    ],
)
def test_python_is_answered_as_the_command_line_is(wish: dict[str, object], advice: str) -> None:
    with pytest.raises(ApercuError, match=advice):
        apercu.fit(shapes(40), training=Training(epochs=1), **wish)  # type: ignore[arg-type]
