"""Labels are hidden as asked: so many, evenly drawn, or those that a CSV file names."""

from pathlib import Path

import numpy as np
import pytest

from apercu.data import Images, hide_labels, open_images
from apercu.errors import ApercuError


@pytest.fixture(scope="module")
def digits() -> Images:
    return open_images("sklearn:digits")


@pytest.mark.parametrize("count", [10, 25, 100, 777])
def test_a_draw_is_even_seeded_and_true(digits: Images, count: int) -> None:
    hidden = hide_labels(digits, count, seed=3)
    kept = hidden.train.labels >= 0
    drawn = np.bincount(hidden.train.labels[kept], minlength=10)
    assert drawn.sum() == count
    assert drawn.max() - drawn.min() <= 1
    np.testing.assert_array_equal(hidden.train.labels[kept], digits.train.labels[kept])
    assert (hidden.val.labels == -1).all()
    np.testing.assert_array_equal(hidden.test.labels, digits.test.labels)
    np.testing.assert_array_equal(hidden.train.labels, hide_labels(digits, str(count), seed=3).train.labels)
    assert (hidden.train.labels != hide_labels(digits, count, seed=4).train.labels).any()
    assert f"{count} of 1430 training labels were kept" in hidden.notes[-1]
    assert (digits.train.labels >= 0).all()


def test_more_labels_contain_fewer_and_ignore_the_order(digits: Images) -> None:
    few, many = (hide_labels(digits, n, seed=0).train.labels >= 0 for n in (20, 50))
    assert (many | ~few).all()
    order = np.random.default_rng(0).permutation(len(digits.train))
    shuffled = Images(digits.train.subset(order), digits.val, digits.test, [], [], "shuffled")
    np.testing.assert_array_equal(hide_labels(shuffled, 20, seed=0).train.labels >= 0, few[order])


def test_a_small_class_gives_what_it_has() -> None:
    x = np.random.default_rng(0).integers(0, 256, (300, 4, 4), dtype=np.uint8)
    y = np.r_[np.zeros(290, int), np.ones(10, int)]
    opened = open_images((x, y))
    rare = int((opened.train.labels == 1).sum())
    drawn = hide_labels(opened, 100, seed=0).train.labels
    assert (drawn == 1).sum() == rare
    assert (drawn == 0).sum() == 100 - rare


def test_none_changes_nothing(digits: Images) -> None:
    assert hide_labels(digits, None, seed=0) is digits


@pytest.mark.parametrize(
    ("labels", "advice"),
    [(9, "fewer than the 10 classes"), (5000, "more than the 1430"), ("no.csv", "nor a file that is there")],
)
def test_impossible_draws_are_refused(digits: Images, labels: int | str, advice: str) -> None:
    with pytest.raises(ApercuError, match=advice):
        hide_labels(digits, labels, seed=0)


def test_images_of_one_class_are_refused() -> None:
    opened = open_images((np.zeros((9, 4, 4), np.uint8), np.zeros(9, int)))
    with pytest.raises(ApercuError, match="have one class"):
        hide_labels(opened, 2, seed=0)


def write(path: Path, rows: list[str]) -> Path:
    path.write_text("path,label\n" + "\n".join(rows), encoding="utf-8")
    return path


def test_labels_from_a_file(digits: Images, tmp_path: Path) -> None:
    first, second, val = digits.train.ids[0], digits.train.ids[7], digits.val.ids[0]
    hidden = hide_labels(digits, write(tmp_path / "l.csv", [f"{first},3", f"{second},8", f"{val},1"]), seed=0)
    assert np.flatnonzero(hidden.train.labels >= 0).tolist() == [0, 7]
    assert hidden.train.labels[[0, 7]].tolist() == [3, 8]
    assert hidden.val.labels[0] == 1
    assert (hidden.val.labels[1:] == -1).all()
    np.testing.assert_array_equal(hidden.test.labels, digits.test.labels)
    assert hidden.train.classes == digits.train.classes


def test_new_classes_from_a_file_replace_the_old(digits: Images, tmp_path: Path) -> None:
    ids = digits.train.ids
    hidden = hide_labels(digits, write(tmp_path / "l.csv", [f"{ids[0]},round", f"{ids[1]},straight"]), seed=0)
    assert hidden.train.classes == hidden.test.classes == ("round", "straight")
    assert hidden.train.labels[:3].tolist() == [0, 1, -1]
    assert (hidden.test.labels == -1).all()
    assert "replace" in hidden.notes[-2]


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (["nowhere.png,1", "digits#1,2"], "none of the images"),
        (["digits#0,1", "digits#1,1"], "names one class, 1"),
        (["digits#0,1", "digits#1,other"], "none of the classes"),
        ([], "has no rows"),
    ],
)
def test_wrong_files_are_refused(digits: Images, tmp_path: Path, rows: list[str], advice: str) -> None:
    with pytest.raises(ApercuError, match=advice):
        hide_labels(digits, write(tmp_path / "l.csv", rows), seed=0)
