"""Codes that are kept: what a row has, what a second run does, what a kill leaves, and that they stand for images."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import Codes, encoding
from apercu.api import Model
from apercu.claims import LOCK
from apercu.codec.archived import open_archive
from apercu.codes.table import ABOUT, Table
from apercu.errors import ApercuError, FormatError
from apercu.heads import pooled_size
from apercu.model import Autoencoder
from apercu.tasks.classify import Classify
from apercu.tasks.compress import Compress
from apercu.tasks.decompress import Decompress
from apercu.tasks.doubt import Doubt
from apercu.tasks.suggest import Suggest
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

FAST = Training(epochs=1, batch=64, device="cpu", precision="32")
SMALL: dict[str, dict[str, object]] = {
    "vae_cnn": {"teach": "sure", "width": 4, "dim": 4, "hidden": 8},
    "vqvae": {"width": 4, "dim": 4, "codes": 16, "depth": 1},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model of numbers and one of symbols."""
    root = tmp_path_factory.mktemp("models")
    for preset, settings in SMALL.items():
        apercu.fit("sklearn:digits", preset=preset, settings=settings, training=FAST, out=root / preset)
    model = apercu.load(root / "vae_cnn")
    Classify(model, method="knn").fit(model.images("sklearn:digits", "train"), model.images("sklearn:digits", "val"))
    return {preset: root / preset for preset in SMALL}


@pytest.fixture(scope="module")
def kept(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The codes of the digits by each of them."""
    root = tmp_path_factory.mktemp("codes")
    for preset, folder in folders.items():
        done = apercu.encode(apercu.load(folder), "sklearn:digits", root / preset)
        assert (done["n"], done["new"], done["failed"]) == (1797, 1797, [])
    return {preset: root / preset for preset in folders}


@pytest.fixture
def model(folders: dict[str, Path]) -> Model:
    return apercu.load(folders["vae_cnn"])


def draw(root: Path, count: int = 24) -> Path:
    """Image files of two classes, 8×8 as the digits."""
    x, y = shapes(count, side=8)
    for k, pixels in enumerate(x):
        path = root / "ab"[y[k]] / f"{k:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(path)
    return root


@pytest.mark.parametrize("preset", SMALL)
def test_codes_stand_for_their_images_bit_for_bit(preset: str, folders: dict[str, Path], kept: dict[str, Path]) -> None:
    model = apercu.load(folders[preset])
    images, codes = model.images("sklearn:digits"), model.images(kept[preset])
    assert (images.ids, images.classes, images.spec) == (codes.ids, codes.classes, codes.spec)
    for name in ("labels", "hashes", "sizes"):
        assert (getattr(images, name) == getattr(codes, name)).all()
    for name in ("features", "encode"):
        assert (getattr(model, name)(images) == getattr(model, name)(codes)).all()
    for split in ("train", "val", "test"):
        opened = [apercu.open_images(source).split(split).ids for source in ("sklearn:digits", kept[preset])]
        assert opened[0] == opened[1]
    some = np.array([5, 900, 17])
    assert (images.read(some) == codes.read(some)).all()
    assert (model.reconstruct(images.subset(some)) == model.reconstruct(codes.subset(some))).all()


def test_tasks_say_the_same_of_codes(model: Model, folders: dict[str, Path], kept: dict[str, Path]) -> None:
    images, codes = model.images("sklearn:digits", "test"), model.images(kept["vae_cnn"], "test")
    for task in (Classify(model), Classify(model, method="head")):
        assert task(images) == task(codes)
        assert task.evaluate(images) == task.evaluate(codes)
    few = np.where(np.arange(len(images)) % 3, images.labels, -1)
    for task in (Suggest(model, n=5), Doubt(model)):
        assert task(images.with_labels(few)) == task(codes.with_labels(few))
    symbols = apercu.load(folders["vqvae"])
    assert Doubt(symbols)(symbols.images(kept["vqvae"])) == Doubt(symbols)(symbols.images("sklearn:digits"))


def test_the_encoder_is_skipped(model: Model, kept: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the encoder was asked")

    monkeypatch.setattr(model.network, "encode", refuse)
    assert Classify(model)(model.images(kept["vae_cnn"]))["n"] == 1797
    with pytest.raises(AssertionError):
        Classify(model)(model.images("sklearn:digits"))


@pytest.mark.parametrize("preset", SMALL)
def test_codes_are_decoded_to_what_the_model_draws(
    preset: str, folders: dict[str, Path], kept: dict[str, Path], tmp_path: Path
) -> None:
    model = apercu.load(folders[preset])
    said = run("decompress", folders[preset], kept[preset], "-o", tmp_path, "--only", "digits#7", "--json")
    assert (said.status, said.answer["n"]) == (0, 1)
    drawn = model.reconstruct(model.images("sklearn:digits").subset([7]))[0, 0]
    with Image.open(tmp_path / f"{said.answer['images'][0]['name']}.png") as image:
        assert (np.asarray(image) == np.rint(drawn / 16 * 255).astype(np.uint8)).all()
    everything = Decompress(model, source=str(kept[preset]))(None)
    assert everything["n"] == 1797


def test_what_a_row_has(model: Model, kept: dict[str, Path]) -> None:
    codes, images = Codes(kept["vae_cnn"]), model.images("sklearn:digits")
    assert codes.about.fingerprint == model.fingerprint
    assert codes.about.vector == pooled_size(4, (1, 1)) == codes.vectors([0]).shape[1]
    assert (codes.vectors([3, 1]) == model.features(images)[[3, 1]]).all()
    assert np.allclose(codes.column("price"), model.price(images)["total"], rtol=1e-5)
    assert codes.labels[:3] == ["0", "1", "2"]
    assert set(codes.column("depth").tolist()) == {8}
    assert set(codes.column("white").tolist()) == {16.0}


def test_a_second_run_takes_new_and_changed_images_only(model: Model, tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos"), tmp_path / "codes"

    def again(prune: bool = False) -> dict[str, object]:
        done = apercu.encode(model, photos, out, prune=prune, size=8, fit="resize")
        return {name: done[name] for name in ("n", "new", "changed", "unchanged", "gone", "pruned")}

    def counts(*values: int) -> dict[str, int]:
        return dict(zip(("n", "new", "changed", "unchanged", "gone", "pruned"), values, strict=True))

    assert again() == counts(24, 24, 0, 0, 0, 0)
    assert again() == counts(24, 0, 0, 24, 0, 0)
    Image.fromarray(np.full((8, 8), 7, np.uint8)).save(photos / "a" / "00.png")
    Image.fromarray(np.full((8, 8), 9, np.uint8)).save(photos / "a" / "new.png")
    os.utime(photos / "b" / "01.png", ns=(1, 1))  # another date, the same pixels
    (photos / "a" / "02.png").unlink()
    assert again() == counts(25, 1, 1, 22, 1, 0)
    assert again(prune=True) == counts(24, 0, 0, 24, 0, 1)
    shutil.move(photos / "b" / "03.png", photos / "a" / "03.png")  # another class is another name
    assert again(prune=True) == counts(24, 1, 0, 23, 0, 1)
    assert sorted(Codes(out).ids) == sorted(apercu.open_images(photos).split("all").ids)
    images, codes = model.images(photos, size=8, fit="resize"), model.images(out)
    there = model.features(codes)[[codes.ids.index(name) for name in images.ids]]
    assert np.allclose(there, model.features(images), atol=1e-6)  # batches of other sizes differ in their last bit


def test_a_label_that_changed_is_noticed_without_encoding(model: Model, tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos")
    table = tmp_path / "photos.csv"
    names = sorted(path.relative_to(tmp_path).as_posix() for path in photos.rglob("*.png"))
    table.write_text("path,label\n" + "\n".join(f"{name},{name[7]}" for name in names))
    apercu.encode(model, table, tmp_path / "codes")
    table.write_text("path,label\n" + "\n".join(f"{name},{'b' if name == names[0] else name[7]}" for name in names))
    done = apercu.encode(model, table, tmp_path / "codes")
    assert (done["new"], done["changed"], done["unchanged"]) == (0, 0, 24)
    codes = Codes(tmp_path / "codes")
    assert codes.labels[codes.places[names[0]]] == "b"


def test_a_damaged_image_does_not_cost_the_others(folders: dict[str, Path], tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos")
    (photos / "a" / "00.png").write_bytes(b"no image")
    said = run("encode", folders["vae_cnn"], photos, "-o", tmp_path / "codes", "--json")
    assert said.status == 2
    assert (said.answer["n"], [row["file"] for row in said.answer["failed"]]) == (23, ["a/00.png"])


def test_an_image_of_another_size_does_not_cost_the_others(folders: dict[str, Path], tmp_path: Path) -> None:
    photos, model = draw(tmp_path / "photos"), shutil.copytree(folders["vae_cnn"], tmp_path / "model")
    Image.fromarray(np.zeros((9, 7), np.uint8)).save(photos / "a" / "00.png")
    said = run("encode", model, photos, "-o", tmp_path / "codes", "--json")
    assert (said.status, said.answer["n"]) == (2, 23)
    again = run("encode", model, photos, "-o", tmp_path / "codes", "--json")  # only what was refused is looked at
    assert (again.status, again.answer["unchanged"]) == (2, 23)
    small = run("compress", model, photos, "-o", tmp_path / "small", "--json")
    assert (small.status, len(small.answer["images"])) == (2, 23)
    for failed in (said.answer["failed"], small.answer["failed"]):
        assert [row["file"] for row in failed] == ["a/00.png"]
        assert "is 9×7, this model was trained on 8×8; take size=8x8" in failed[0]["reason"]
    named = run("classify", model, photos, "--json")
    assert len(named.answer["predictions"]) == 23
    lesson = run("classify", model, "sklearn:digits", "--learn", photos, "--json")
    for said in (small, named, lesson):
        assert "left out: a/00.png: is 9×7" in said.err
    only = run("classify", model, photos / "a" / "00.png")
    assert only.status == 2
    assert "open the images with size=8x8" in only.err


def test_other_codes_are_refused_in_one_sentence(
    folders: dict[str, Path], kept: dict[str, Path], tmp_path: Path
) -> None:
    model, other = apercu.load(folders["vae_cnn"]), apercu.load(folders["vqvae"])
    with pytest.raises(ApercuError, match="another model"):
        other.images(kept["vae_cnn"])
    with pytest.raises(ApercuError, match="another model"):
        apercu.encode(other, "sklearn:digits", kept["vae_cnn"])
    with pytest.raises(ApercuError, match="name a new folder for other images"):
        apercu.encode(model, draw(tmp_path / "photos"), kept["vae_cnn"])
    with pytest.raises(ApercuError, match="opened with"):
        apercu.encode(model, "sklearn:digits", kept["vae_cnn"], channels=3)
    with pytest.raises(ApercuError, match="holds something else"):
        apercu.encode(model, "sklearn:digits", folders["vae_cnn"])
    with pytest.raises(ApercuError, match="codes already"):
        apercu.encode(model, kept["vae_cnn"], tmp_path / "twice")
    with pytest.raises(FormatError, match="holds no codes"):
        Codes(tmp_path)
    damaged = shutil.copytree(kept["vae_cnn"], tmp_path / "damaged")
    (damaged / ABOUT).write_text("{}")
    with pytest.raises(FormatError, match="is damaged"):
        Codes(damaged)
    said = run("classify", folders["vqvae"], kept["vae_cnn"])
    assert (said.status, said.err.count("\n")) == (2, 1)


def test_codes_outlive_their_images(model: Model, tmp_path: Path) -> None:
    photos, out = draw(tmp_path / "photos"), tmp_path / "codes"
    before = apercu.encode(model, photos, out)["n"]
    shutil.rmtree(photos)
    codes = model.images(out)
    assert Classify(model)(codes)["n"] == before
    assert Suggest(model, n=2)(codes.with_labels(np.full(before, -1)), tmp_path / "next")["n"] == 2
    assert not (tmp_path / "next" / "sheet.png").exists()
    with pytest.raises(ApercuError, match="needs the images themselves"):
        codes.read([0])


CHILD = """
import os, signal, sys, threading
import apercu
from apercu import encoding
from apercu.codes.table import Table
encoding.CHUNK = 100
add, last, delay = Table.add, int(sys.argv[3]), float(sys.argv[4])
def counted(self, rows, calls=[0]):
    calls[0] += 1
    if calls[0] == last:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    add(self, rows)
Table.add = counted
apercu.encode(apercu.load(sys.argv[1]), "sklearn:digits", sys.argv[2])
"""


def test_a_kill_loses_and_doubles_nothing(
    model: Model, folders: dict[str, Path], kept: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "codes"
    for last, delay in ((3, 0.0), (2, 0.004)):
        words = [sys.executable, "-W", "ignore", "-c", CHILD, str(folders["vae_cnn"]), str(out), str(last), str(delay)]
        assert subprocess.run(words, check=False).returncode == -9
    there = len(Codes(out))
    assert 3 * 250 <= there <= 5 * 250
    assert there % 250 == 0  # a batch is there as a whole or not at all
    assert apercu.encode(model, "sklearn:digits", out)["new"] == 1797 - there
    killed, alone = Codes(out), Codes(kept["vae_cnn"])
    assert killed.ids == alone.ids
    assert (killed.vectors(range(1797)) == alone.vectors(range(1797))).all()


def test_processes_share_the_work(
    model: Model, kept: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "CHUNK", 250)
    monkeypatch.setenv("WORLD_SIZE", "3")
    counts = []
    for rank in (1, 0, 2):
        monkeypatch.setenv("RANK", str(rank))
        counts.append(apercu.encode(model, "sklearn:digits", tmp_path / "codes")["new"])
    assert sorted(counts) == [500, 547, 750]
    shared = Codes(tmp_path / "codes")
    assert shared.ids == Codes(kept["vae_cnn"]).ids
    assert (shared.vectors(range(1797)) == Codes(kept["vae_cnn"]).vectors(range(1797))).all()


def test_appends_at_the_same_moment_are_all_there(tmp_path: Path) -> None:
    import pyarrow as pa

    def append(worker: int) -> None:
        table = Table(tmp_path, 2)
        for k in range(10):
            row = {field.name: pa.nulls(1, field.type) for field in table.schema} | {"id": [f"{worker} {k}"]}
            table.add(pa.table(row, table.schema))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(4)))
    assert sorted(Table(tmp_path).read(["id"])["id"].to_pylist()) == [f"{w} {k}" for w in range(4) for k in range(10)]


def test_images_of_several_sizes(tmp_path: Path) -> None:
    photos = draw(tmp_path / "photos")
    for k, path in enumerate(sorted(photos.rglob("*.png"))):
        with Image.open(path) as image:
            image.resize((16 + 4 * (k % 2), 16)).save(path)
    model = apercu.fit(photos, preset="vqvae", settings=SMALL["vqvae"], training=FAST, out=tmp_path / "model")
    done = apercu.encode(model, photos, tmp_path / "codes")
    assert (done["n"], done["failed"]) == (24, [])
    codes = model.images(tmp_path / "codes")
    assert np.allclose(model.features(codes), model.features(photos), atol=1e-6)
    assert Decompress(model, source=str(tmp_path / "codes"))(None)["n"] == 24


@pytest.mark.parametrize("preset", SMALL)
def test_an_archive_is_recognised_without_decoding_a_pixel(
    preset: str, folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = shutil.copytree(folders[preset], tmp_path / "model")
    model, archive = apercu.load(home), tmp_path / "digits.apca"
    images = model.images("sklearn:digits", "train")
    Classify(model, method="linear").fit(images)
    Compress(model, steps=20).fit(images)
    some = images.subset(np.arange(60))
    Compress(model, archive=str(archive))(some)
    expected = Classify(model)(some)["predictions"]
    monkeypatch.setattr(Autoencoder, "encode", lambda *_: pytest.fail("the encoder was asked"))
    monkeypatch.setattr(Autoencoder, "decode", lambda *_: pytest.fail("the decoder was asked"))
    said = run("classify", home, archive, "--json").answer
    assert "an archive does not hold" in " ".join(said["notes"])
    assert len({row["id"] for row in said["predictions"]}) == said["n"] == 60
    if preset == "vqvae":  # its symbols are all of its code
        assert [row["label"] for row in said["predictions"]] == [row["label"] for row in expected]


def test_a_classifier_is_fitted_on_an_archive(folders: dict[str, Path], tmp_path: Path) -> None:
    """It does not know what is novel, for an archive holds no prices."""
    model, archive = apercu.load(shutil.copytree(folders["vqvae"], tmp_path / "model")), tmp_path / "digits.apca"
    images = model.images("sklearn:digits", "train").subset(np.arange(150))
    Compress(model, steps=20, archive=str(archive)).fit(images)
    Compress(model, archive=str(archive))(images)
    coded = dataclasses.replace(open_archive(model, archive).train, labels=images.labels, classes=images.classes)
    for learnt, held_out, novelty in (coded, None, False), (coded, images, False), (images, coded, True):
        Classify(model, method="linear").fit(learnt, held_out)
        assert ("novelty" in model.recipe.tasks["classify"]) == novelty


def test_without_the_extra_there_is_advice(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lancedb", None)
    with pytest.raises(ApercuError, match=r"^keeping codes .* pip install 'apercu\[store\]'$"):
        apercu.encode(model, "sklearn:digits", tmp_path / "codes")


HOLD = """
import sys, time
from pathlib import Path
from apercu.claims import claimed
with claimed(Path(sys.argv[1]), Path("there")):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("rank", [0, 3])
def test_a_second_run_is_refused_until_the_first_ends(model: Model, tmp_path: Path, rank: int) -> None:
    photos, out = draw(tmp_path / "photos", 4), tmp_path / "codes"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out / f"{LOCK}{rank}")], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(ApercuError, match=r"^another run is writing to .*codes; start"):
            apercu.encode(model, photos, out)
        assert not (out / ABOUT).exists()
        first.kill()
    assert apercu.encode(model, photos, out)["new"] == 4  # a lock does not outlive its process, however that ended
    assert apercu.encode(model, photos, out)["new"] == 0
