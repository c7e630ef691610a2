"""The search among codes: exactly NumPy's answer, filters, the index, near duplicates, and the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import Codes
from apercu.api import Model
from apercu.codes import search, store
from apercu.errors import ApercuError
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 image files of two classes, of which three are copies, one of them by another format."""
    root = tmp_path_factory.mktemp("photos")
    x, y = shapes(300)
    for k, pixels in enumerate(x):
        path = root / "ab"[y[k]] / f"{k:03d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[0]).save(path)
    Image.fromarray(x[0, 0]).save(root / "a" / "copy.png")
    Image.fromarray(x[0, 0]).save(root / "a" / "copy.bmp")
    return root


@pytest.fixture(scope="module")
def model(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    out = tmp_path_factory.mktemp("search") / "model"
    training = Training(epochs=1, batch=64, device="cpu", precision="32")
    return apercu.fit(photos, preset="vae", settings={"width": 4, "dim": 8}, training=training, out=out)


@pytest.fixture(scope="module")
def folder(model: Model, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("search") / "codes"
    apercu.encode(model, photos, out)
    return out


@pytest.fixture
def codes(folder: Path) -> Codes:
    return Codes(folder)


def brute(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(vectors.astype(np.float64) - query).sum(1))


def test_search_is_exact(codes: Codes, model: Model, photos: Path) -> None:
    vectors = model.features(photos)
    found = codes.search(vectors[:20], 7)
    for query, hits in zip(vectors[:20], found, strict=True):
        distances = brute(vectors, query)
        assert np.allclose([hit.distance for hit in hits], np.sort(distances)[:7], atol=1e-5)
        assert np.allclose([distances[codes.places[hit.id]] for hit in hits], [hit.distance for hit in hits], atol=1e-5)
        assert hits[0].similarity == pytest.approx(1)


def test_rows_that_are_far_from_zero_are_told_apart() -> None:
    rng = np.random.default_rng(0)
    vectors = (1000 + 0.01 * rng.normal(size=(500, 16))).astype(np.float32)
    rows, squared = search.Compared(vectors).nearest(vectors[:5], 1)
    assert rows[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert (squared == 0).all()


def test_blocks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = np.random.default_rng(0).normal(size=(400, 8)).astype(np.float32)
    whole, grouped = search.Compared(vectors).nearest(vectors[:50], 5), search.groups(vectors, 2.5)
    monkeypatch.setattr(search, "BLOCK", 3000)
    blocks = search.Compared(vectors).nearest(vectors[:50], 5)
    assert (whole[0] == blocks[0]).all()
    assert np.allclose(whole[1], blocks[1])
    again = search.groups(vectors, 2.5)
    assert [group.tolist() for group in again] == [group.tolist() for group in grouped]


def test_a_label_filters(codes: Codes) -> None:
    query = codes.vectors([codes.places["a/000.png"]])
    hits = codes.search(query, 200, label="b")[0]
    assert {hit.label for hit in hits} == {"b"}
    assert len(hits) == 150
    with pytest.raises(ApercuError, match="choose one of: a, b"):
        codes.search(query, label="c")


def test_the_spread_is_the_mean_squared_distance(codes: Codes) -> None:
    vectors = codes.vectors(range(len(codes))).astype(np.float64)
    squared = np.square(vectors[:, None] - vectors[None]).sum(2)
    assert codes.spread == pytest.approx(float(squared.mean()), rel=1e-6)


def test_the_index_finds_what_comparing_finds(codes: Codes, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = codes.vectors(range(40))
    exact = codes.search(vectors, 5)
    assert codes.index() == round(len(codes) ** 0.5)
    assert codes.indexed
    monkeypatch.setattr(store, "EXACT", 10)
    probed = codes.search(vectors, 5)
    assert [hits[0].distance for hits in probed] == pytest.approx([0] * 40, abs=1e-4)
    same = [len({h.id for h in a} & {h.id for h in b}) for a, b in zip(exact, probed, strict=True)]
    assert np.mean(same) / 5 > 0.9
    assert codes.search(vectors[:1], 5)[0] == probed[0]
    assert len(codes.search(vectors[:2], 290)[1]) == 290  # more than the parts that it looks at hold


def test_near_duplicates_are_groups_that_chain() -> None:
    line = np.arange(6, dtype=np.float32)[:, None] * [[1, 0]]
    apart = np.array([[50, 0], [90, 0], [50, 0]], np.float32)
    found = search.groups(np.concatenate([apart, line]).astype(np.float32), 1.01)
    assert [group.tolist() for group in found] == [[3, 4, 5, 6, 7, 8], [0, 2]]


def test_copies_are_found(codes: Codes) -> None:
    assert {"a/000.png", "a/copy.bmp", "a/copy.png"} in [set(group) for group in codes.groups(1.0)]
    assert sum(map(len, codes.groups(0.9999))) <= sum(map(len, codes.groups(0.9)))


@pytest.mark.parametrize(
    ("vectors", "k", "words"),
    [(np.zeros((1, 3)), 1, "have shape"), (np.zeros(8), 1, "have shape"), (np.zeros((1, 8)), 0, "at least 1")],
)
def test_what_cannot_be_searched_is_said(codes: Codes, vectors: np.ndarray, k: int, words: str) -> None:
    with pytest.raises(ApercuError, match=words):
        codes.search(vectors, k)
    assert codes.search(np.zeros((0, 8))) == []


def test_the_command_finds_by_image_by_id_and_duplicates(folder: Path, photos: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    said = run("search", folder, photos / "b" / "001.png", "-k", 3, "-o", sheet, "--json")
    assert (said.status, len(said.answer["results"])) == (0, 3)
    assert said.answer["results"][0]["id"] == "b/001.png"
    with Image.open(sheet) as image:
        assert image.size[0] > 3 * image.size[1]  # the query and three beside it
    said = run("search", folder, "--id", "a/000.png", "-k", 2, "--json")
    assert {row["id"] for row in said.answer["results"]} == {"a/copy.bmp", "a/copy.png"}
    said = run("search", folder, "--id", "a/000.png", "-k", 4, "--label", "b", "--json")
    assert {row["label"] for row in said.answer["results"]} == {"b"}
    said = run("search", folder, "--duplicates", "--threshold", 1, "-o", sheet, "--json")
    assert ["a/000.png", "a/copy.bmp", "a/copy.png"] in [sorted(group) for group in said.answer["groups"]]
    assert "groups among 302 images" in run("search", folder, "--duplicates").out


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        ([], "say what to search for"),
        (["--id", "a/000.png", "--duplicates"], "say what to search for"),
        (["--id", "nothing"], "there is no image 'nothing'"),
        (["--id", "a/000.png", "--label", "dog"], "no image has the label"),
        (["--duplicates", "--threshold", "7"], "the threshold is a similarity"),
        (["nowhere.png"], "there is no file or folder"),
    ],
)
def test_mistakes_get_one_sentence(folder: Path, words: list[str], advice: str) -> None:
    said = run("search", folder, *words)
    assert said.status == 2
    assert advice in said.err
    assert said.err.count("\n") == 1


def test_a_model_that_moved_or_changed_is_noticed(folder: Path, photos: Path, model: Model, tmp_path: Path) -> None:
    query = photos / "b" / "001.png"
    other = apercu.fit(photos, preset="ae", settings={"dim": 8}, training=Training(epochs=1, device="cpu"))
    other.save(tmp_path / "other")
    assert "another model" in run("search", folder, query, "--model", tmp_path / "other").err
    home = Path(Codes(folder).about.model)
    moved = home.rename(tmp_path / "moved")
    try:
        assert "--model MODEL" in run("search", folder, query).err
        assert run("search", folder, query, "--model", moved).status == 0
    finally:
        moved.rename(home)


def test_the_index_is_a_command(folder: Path) -> None:
    said = run("index", folder, "--json")
    assert (said.status, said.answer["parts"]) == (0, 17)
