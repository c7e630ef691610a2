"""Every source gives back the pixels, labels and names that were put in."""

import gzip
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu import registry
from apercu.data import open_images
from apercu.errors import ApercuError
from apercu.training import Training

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (30, 3, 32, 32), dtype=np.uint8)
GREY = RNG.integers(0, 256, (30, 1, 9, 11), dtype=np.uint8)
LABELS = np.sort(np.arange(30) % 3)


@dataclass
class Case:
    """What to open, and the pixels, labels and classes that must come out, in the order of the source."""

    images: object
    pixels: np.ndarray
    labels: np.ndarray = field(default_factory=lambda: LABELS)
    classes: tuple[str, ...] = ("0", "1", "2")


def save(folder: Path, pixels: np.ndarray, name: str) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(path)


def folder(tmp: Path) -> Case:
    for i, image in enumerate(COLOUR):
        save(tmp, image, f"kind{LABELS[i]}/{i:02d}.png")
    return Case(tmp, COLOUR, classes=("kind0", "kind1", "kind2"))


def table(tmp: Path) -> Case:
    rows = ["Path;Label;other"]
    for i, image in enumerate(GREY):
        save(tmp, image, f"pictures/{i:02d}.png")
        rows.append(f"pictures/{i:02d}.png;{'abc'[LABELS[i]]};x")
    (tmp / "list.csv").write_text("\ufeff" + "\n".join(rows), encoding="utf-8")
    return Case(tmp / "list.csv", GREY, classes=("a", "b", "c"))


def write_idx(path: Path, array: np.ndarray) -> None:
    data = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def idx(tmp: Path) -> Case:
    for name, rows in (("t10k", slice(0, 10)), ("train", slice(10, 30))):
        write_idx(tmp / f"{name}-images-idx3-ubyte.gz", GREY[rows, 0])
        write_idx(tmp / f"{name}-labels-idx1-ubyte", LABELS[rows])
    return Case(tmp, GREY)


def npz(tmp: Path) -> Case:
    x, y = np.moveaxis(COLOUR, 1, -1), LABELS[:, None]
    parts = {"train": slice(0, 20), "val": slice(20, 25), "test": slice(25, 30)}
    arrays = {f"{s}_images": x[rows] for s, rows in parts.items()} | {f"{s}_labels": y[r] for s, r in parts.items()}
    np.savez(tmp / "set.npz", **arrays)
    return Case(tmp / "set.npz", COLOUR)


def cifar(tmp: Path) -> Case:
    records = np.concatenate([LABELS[:, None].astype(np.uint8), COLOUR.reshape(30, -1)], axis=1)
    records[:20].tofile(tmp / "data_batch_1.bin")
    records[20:].tofile(tmp / "test_batch.bin")
    (tmp / "batches.meta.txt").write_text("cat\ndog\nfrog\n\n")
    return Case(tmp, COLOUR, classes=("cat", "dog", "frog"))


def parquet(tmp: Path) -> Case:
    datasets = pytest.importorskip("datasets")
    images = [Image.fromarray(np.moveaxis(image, 0, -1)) for image in COLOUR]
    features = datasets.Features({"picture": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b", "c"])})
    datasets.Dataset.from_dict({"picture": images, "label": LABELS}, features).to_parquet(tmp / "set.parquet")
    return Case(tmp / "set.parquet", COLOUR, classes=("a", "b", "c"))


def codes(tmp: Path) -> Case:
    pytest.importorskip("lancedb")
    case = folder(tmp / "photos")
    model = apercu.fit(case.images, preset="ae", settings={"dim": 4}, training=Training(epochs=1, device="cpu"))
    apercu.encode(model, case.images, tmp / "codes")
    return Case(tmp / "codes", case.pixels, classes=case.classes)


def coco(tmp: Path) -> Case:
    for i, image in enumerate(COLOUR):
        save(tmp, image, f"images/{i:02d}.png")
    rows = [{"id": i, "file_name": f"{i:02d}.png"} for i in range(len(COLOUR))]
    content = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp / "set.json").write_text(json.dumps(content))
    return Case(tmp / "set.json", COLOUR, np.full(len(COLOUR), -1), ())


def arrays(_: Path) -> Case:
    return Case((np.moveaxis(COLOUR, 1, -1), LABELS), COLOUR)


def sklearn(_: Path) -> Case:
    from sklearn.datasets import load_digits

    digits = load_digits()
    pixels = digits.images.astype(np.uint8)[:, None]
    return Case("sklearn:digits", pixels, digits.target, tuple("0123456789"))


WRITERS: dict[str, Callable[[Path], Case]] = {
    "arrays": arrays, "cifar": cifar, "coco": coco, "codes": codes, "csv": table, "folder": folder, "idx": idx,
    "npz": npz, "parquet": parquet, "sklearn": sklearn,
}  # fmt: skip


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("datasets").config
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=registry.names("data/sources"))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    return WRITERS[request.param](tmp_path)


@pytest.mark.parametrize("memory", [None, 1000], ids=["in memory", "streamed"])
def test_a_source_gives_back_what_was_put_in(case: Case, memory: int | None) -> None:
    opened = open_images(case.images, memory=memory)
    everything = opened.split("all")
    assert opened.problems == []
    assert len(set(everything.ids)) == len(everything) == len(case.pixels)
    pixels = everything.read(np.arange(len(everything)))
    assert pixels.dtype == case.pixels.dtype
    np.testing.assert_array_equal(pixels, case.pixels)
    np.testing.assert_array_equal(everything.labels, case.labels)
    assert everything.classes == case.classes
    assert everything.spec.shape == case.pixels.shape[1:]
    assert everything.spec.uniform


def test_a_subset_is_the_same_images(case: Case) -> None:
    everything = open_images(case.images).split("all")
    rows = np.array([5, 2, 17])
    some = everything.subset(rows)
    np.testing.assert_array_equal(some.read(np.array([2, 0])), everything.read(rows[[2, 0]]))
    np.testing.assert_array_equal(some.labels, everything.labels[rows])
    np.testing.assert_array_equal(some.hashes, everything.hashes[rows])
    assert list(some.ids) == [everything.ids[i] for i in rows]
    assert everything.subset(everything.labels == everything.labels[0]).read([0]).shape == (1, *everything.spec.shape)
    assert len(some.subset([])) == 0
    assert some.subset([]).read([]).shape == (0, *everything.spec.shape)


def test_the_splits_share_no_image_and_lose_none(case: Case) -> None:
    opened = open_images(case.images)
    ids = [set(opened.split(name).ids) for name in ("train", "val", "test")]
    assert sum(map(len, ids)) == len(set.union(*ids)) == len(opened.split("all"))


def test_official_splits_are_kept(tmp_path: Path) -> None:
    opened = open_images(npz(tmp_path).images)
    assert [len(opened.split(s)) for s in ("train", "val", "test")] == [20, 5, 5]
    (tmp_path / "idx").mkdir()
    opened = open_images(idx(tmp_path / "idx").images)
    assert len(opened.test) == 10
    assert all(name.startswith("t10k-images-idx3-ubyte.gz#") for name in opened.test.ids)


def test_a_single_idx_file_finds_its_labels(tmp_path: Path) -> None:
    idx(tmp_path)
    opened = open_images(tmp_path / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(opened.split("all").labels, LABELS[10:])


def test_a_folder_with_splits_and_nested_classes(tmp_path: Path) -> None:
    for split, name in (("Train", "a/deep/1"), ("Train", "b/2"), ("validation", "a/3"), ("testing", "c/4")):
        save(tmp_path, COLOUR[int(name[-1])], f"data/{split}/{name}.png")
    save(tmp_path, COLOUR[5], "data/unlabelled/5.png")
    opened = open_images(tmp_path)
    assert opened.train.classes == ("a", "b", "c")
    assert dict(zip(opened.train.ids, opened.train.labels.tolist(), strict=True)) == {
        "data/Train/a/deep/1.png": 0,
        "data/Train/b/2.png": 1,
        "data/unlabelled/5.png": -1,
    }
    assert opened.val.labels.tolist() == [0]
    assert opened.test.labels.tolist() == [2]


def test_a_flat_folder_has_no_labels(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path, GREY[i], f"only/{i}.png")
    opened = open_images(str(tmp_path)).split("all")
    assert opened.classes == ()
    assert (opened.labels == -1).all()


def test_a_csv_with_splits_missing_files_and_contradictions(tmp_path: Path) -> None:
    for i in range(3):
        save(tmp_path, GREY[i], f"{i}.png")
    lines = "file,class,split\n0.png,a,train\n1.png,,test\n2.png,b,\n9.png,b,train\n"
    (tmp_path / "list.csv").write_text(lines)
    opened = open_images(tmp_path / "list.csv")
    assert [problem.id for problem in opened.problems] == ["9.png"]
    assert opened.test.labels.tolist() == [-1]
    (tmp_path / "list.csv").write_text(lines + "0.png,b,train\n")
    with pytest.raises(ApercuError, match="twice with different labels"):
        open_images(tmp_path / "list.csv")
    (tmp_path / "list.csv").write_text("name,class\n0.png,a\n")
    with pytest.raises(ApercuError, match="no column of paths"):
        open_images(tmp_path / "list.csv")


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((7, 5, 6), (1, 5, 6)), ((7, 5, 6, 3), (3, 5, 6)), ((7, 3, 5, 6), (3, 5, 6)), ((7, 5, 6, 1), (1, 5, 6)),
        ((7, 12, 5, 16), (12, 5, 16)), ((7, 16, 5, 12), (12, 16, 5)), ((5, 6), (1, 5, 6)), ((9, 8, 3), (3, 9, 8)),
    ],
)  # fmt: skip
def test_the_layout_of_an_array(shape: tuple[int, ...], expected: tuple[int, int, int]) -> None:
    assert open_images(np.zeros(shape, np.uint8)).train.spec.shape == expected


def test_tensors_and_unlabelled_images() -> None:
    x = torch.rand(12, 3, 8, 8)
    opened = open_images((x, torch.arange(12) % 3 - 1)).split("all")
    np.testing.assert_array_equal(opened.read(np.arange(12)), x.numpy())
    assert opened.labels.tolist() == (np.arange(12) % 3 - 1).tolist()
    assert opened.classes == ("0", "1")
    assert opened.spec.maximum == 1
    assert open_images(x.bfloat16()).split("all").pixels.dtype == np.float32


def test_lists_of_pillow_images_paths_and_arrays(tmp_path: Path) -> None:
    save(tmp_path, COLOUR[0], "0.png")
    mixed = [tmp_path / "0.png", Image.fromarray(np.moveaxis(COLOUR[1], 0, -1)), COLOUR[2], GREY[3, 0]]
    opened = open_images(mixed).split("all")
    np.testing.assert_array_equal(opened.read([0, 1, 2]), COLOUR[:3])
    np.testing.assert_array_equal(opened.read([3])[0], np.repeat(GREY[3], 3, axis=0))
    assert len(open_images(Image.fromarray(GREY[0, 0])).train) == 1
    assert len(open_images(tmp_path / "0.png").train) == 1
    assert len(set(open_images([tmp_path / "0.png"] * 2).split("all").ids)) == 2
    (tmp_path / "cut.png").write_bytes((tmp_path / "0.png").read_bytes()[:900])
    with Image.open(tmp_path / "cut.png") as cut:
        assert [p.id for p in open_images([GREY[0, 0], cut]).problems] == ["image#1"]


def test_integers_are_converted_exactly_and_it_is_said() -> None:
    opened = open_images(np.arange(300, dtype=np.int64).reshape(3, 10, 10))
    assert opened.split("all").read([2]).max() == 299
    assert opened.train.spec.maximum == 65535
    assert "int64 was taken as uint16" in " ".join(opened.notes)
    assert open_images(np.ones((2, 4, 4), bool)).split("all").read([0]).min() == 255


@pytest.mark.parametrize(
    ("images", "advice"),
    [
        (np.full((3, 4, 4), 2.0), "image#0: floating-point values from 2 to 2 are outside"),
        (np.array([np.zeros((4, 4)), np.full((4, 4), np.nan)]), "image#1: it holds NaN"),
        (np.full((3, 4, 4), -1), "fit neither 8 nor 16 bits"),
        (np.zeros((0, 4, 4)), "there is no image"),
        ([], "there is no image"),
        ((np.zeros((3, 4, 4)), [0, 1]), "3 images and 2 labels"),
        ((np.zeros((3, 4, 4)), [0, -2, 1]), "count from 0"),
        (np.zeros((3, 4, 4, 4, 4)), "is not images"),
        ("/no/such/place", "there is no file or folder"),
        (["/no/such.png"], "there is no such file"),
        ("sklearn:faces", "sklearn:digits"),
        (object(), "is not images"),
        ({}, "is not images"),
        ([np.zeros((3, 8, 8), np.uint8), np.zeros((5, 8, 8), np.uint8)], "channels where 5 are needed"),
    ],
)
def test_what_is_not_images_is_refused_with_advice(images: object, advice: str) -> None:
    with pytest.raises(ApercuError, match=advice):
        open_images(images)


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte.gz", "set.npz", "data_batch_1.bin", "set.parquet", "x.npy"])
@pytest.mark.parametrize("body", [b"", b"no such thing at all", b"PK\3\4 and no more"])
def test_damaged_containers_are_named(tmp_path: Path, name: str, body: bytes) -> None:
    (tmp_path / name).write_bytes(body)
    whole_folder = name.endswith((".gz", ".bin"))
    with pytest.raises(ApercuError, match=r"set|idx|data_batch|x\.npy"):
        open_images(tmp_path if whole_folder else tmp_path / name)


def test_the_hub_extra_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ApercuError, match=r"pip install 'apercu\[datasets\]'"):
        open_images("hf:someone/something")


def test_a_folder_of_the_hub(tmp_path: Path) -> None:
    case = parquet(tmp_path)
    for images in (f"hf:{tmp_path}", tmp_path):
        np.testing.assert_array_equal(open_images(images).split("all").labels, case.labels)
    with pytest.raises(ApercuError, match="cannot be loaded"):
        open_images(f"hf:{tmp_path}/nothing")
