"""The report: one page that stands alone, for every preset and every kind of image, and that believes no name."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import Images, Model, Training, open_images
from apercu.pages import inline
from apercu.report import write_report
from apercu.report.summary import Rows

from .conftest import DRAWING, shapes

VOID = {"meta", "img", "br", "link", "input", "hr"}
SMALL: dict[str, dict[str, Any]] = {
    "ae": {"dim": 4},
    "cae": {"dim": 4},
    "vae": {"dim": 2, "width": 4},
    "vae_cnn": {"dim": 8, "width": 4},
    "vqvae": {"dim": 4, "width": 4, "codes": 8},
    "mae": {"dim": 4, "width": 8, "blocks": 1},
    "dae": {"width": 4, "blocks": 1},
    "codec": {"width": 4, "dim": 4, "depth": 2},
}


class Page(HTMLParser):
    """Reads a page and fails where its tags do not nest."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.text = path.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.alternatives: list[str | None] = []
        self.feed(self.text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        found = dict(attrs)
        self.ids += [value for name, value in attrs if name == "id" and value]
        self.sources += [value or "" for name, value in attrs if name in ("src", "srcset", "data", "poster")]
        self.links += [value or "" for name, value in attrs if name in ("href", "xlink:href", "action")]
        assert not [name for name in found if name.startswith("on")]
        if tag == "img":
            self.alternatives.append(found.get("alt"))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["script"], ["style"]):
            self.words.append(data)

    def said(self) -> str:
        """What a reader reads, blanks made one."""
        return " ".join(" ".join(self.words).split())


def untrained(images: Images, preset: str = "vae") -> Model:
    job = apercu.prepare(images, preset=preset, settings=SMALL[preset], training=Training(device="cpu"))
    return Model(job.network, job.recipe, device="cpu")


def page_of(model: Model, images: Images, path: Path, comparison: Rows | None = None) -> Page:
    page = Page(write_report(model, images, path / "deep" / "report.html", comparison))
    assert "http://" not in page.text
    assert "https://" not in page.text
    assert all(source.startswith("data:image/") for source in page.sources)
    assert all(link.startswith("#") and link[1:] in page.ids for link in page.links)
    assert len(page.ids) == len(set(page.ids))
    assert all(page.alternatives)
    assert not re.search(r"\b(nan|inf)\b", page.said())
    return page


@pytest.fixture(scope="module")
def opened() -> Images:
    return open_images(shapes(160))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, opened: Images) -> Model:
    """A model with a folder and a history."""
    return apercu.fit(
        opened,
        preset="vae_cnn",
        labels=40,
        settings=SMALL["vae_cnn"],
        training=Training(epochs=3, batch=32, device="cpu", precision="32"),
        out=tmp_path_factory.mktemp("report") / "my model",
    )


def test_everything_is_there(trained: Model, opened: Images, tmp_path: Path) -> None:
    rows = [
        {"name": "ours & <b>", "accuracy": 0.931, "spread": 0.008, "note": "40 labels", "ours": True},
        {"name": "PCA + SVM", "accuracy": 0.95},
    ]
    page = page_of(trained, opened, tmp_path, comparison=rows)
    wanted = {"comparison", "curves", "reconstructions", "samples", "map", "classes", "health", "again"}
    assert wanted <= set(page.ids)
    said = page.said()
    for words in ("93.1 % ± 0.8", "ours & <b>", "after 40 labels", "PSNR", "95 % interval"):
        assert words in said.replace("\u00a0", " ")
    assert said.index("PCA + SVM") < said.index("ours & <b>")
    assert len(page.text) < 1_000_000


def test_the_figures_are_those_of_the_model(trained: Model, opened: Images, tmp_path: Path) -> None:
    test = opened.test
    right = int((trained.probabilities(test).argmax(1) == test.labels).sum())
    said = page_of(trained, opened, tmp_path).said().replace("\u00a0", " ")
    assert f"the right class for {right} of {len(test)} unseen images" in said
    x = test.read(np.arange(len(test))) / 255
    decoded = trained.reconstruct(test) / 255
    psnr = float((-10 * np.log10(((x - decoded) ** 2).mean((1, 2, 3)))).mean())
    assert any(f"{psnr + step:.1f} dB PSNR" in said for step in (-0.05, 0, 0.05))  # decoded values were rounded


def test_the_same_model_writes_the_same_page(trained: Model, opened: Images, tmp_path: Path) -> None:
    first = write_report(trained, opened, tmp_path / "a.html").read_bytes()
    again = apercu.load(trained.folder or "", device="cpu")
    assert write_report(again, opened, tmp_path / "b.html").read_bytes() == first


def test_only_its_own_program_may_run(trained: Model, opened: Images, tmp_path: Path) -> None:
    page = page_of(trained, opened, tmp_path)
    programs = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(programs[0].encode()).digest()).decode()
    assert len(programs) == 1
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page.text


@pytest.mark.parametrize("preset", DRAWING)
def test_every_preset(preset: str, opened: Images, tmp_path: Path) -> None:
    page = page_of(untrained(opened, preset), opened, tmp_path)
    assert ("samples" in page.ids) == preset.startswith("vae")
    assert ("classes" in page.ids) == (preset == "vae_cnn")
    assert "curves" not in page.ids
    assert ("The whole code at a glance" in page.said()) == (preset == "vae")


def hostile(folder: Path) -> Images:
    """Images whose classes and names try to get out of the page."""
    x, y = shapes(160)
    for i, (image, label) in enumerate(zip(x, y, strict=True)):
        place = folder / ("<script>alert(1)<" if label else "a\"'><img src=x onerror=alert(2)> {{ 7*7 }}")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(place / f'<script>alert({i})<!-- "]]> & .png')
    (folder / "<b>broken.png").write_bytes(b"not an image")
    return open_images(folder)


def test_names_are_never_believed(tmp_path: Path) -> None:
    images = hostile(tmp_path / "photos <i>")
    model = untrained(images, "vae_cnn")
    model.folder = tmp_path / 'out"><script>'
    page = page_of(model, images, tmp_path, comparison=[{"name": "<script>", "accuracy": 0.5, "note": "<i>"}])
    assert page.tags.count("script") == 2  # the data and the program of the map
    assert not {"b-", "i-", "x"} & set(page.tags)
    assert "<script>alert(1)<" in page.said()
    assert "{{ 7*7 }}" in page.said()
    assert "<b>broken.png" in page.said()
    data = re.search(r'<script type="application/json">(.*?)</script>', page.text, re.DOTALL)
    assert data is not None
    assert "<" not in data[1]
    assert json.loads(data[1])["ids"][0] in images.test.ids


def test_without_labels(tmp_path: Path) -> None:
    images = open_images(shapes(80)[0])
    page = page_of(untrained(images), images, tmp_path)
    assert "classes" not in page.ids
    assert "labelled as" not in page.said()


def test_labels_that_only_training_has(opened: Images, tmp_path: Path) -> None:
    model = untrained(opened, "vae_cnn")
    bare = open_images(shapes(80)[0])
    page = page_of(model, bare, tmp_path)
    assert "classes" not in page.ids
    assert "the class that the model names" in page.text


def test_classes_in_another_order(trained: Model, opened: Images, tmp_path: Path) -> None:
    turned = Images(*(opened.split(s) for s in ("train", "val", "test")), [], [], "turned")
    flipped = opened.test.with_labels(1 - opened.test.labels, opened.test.classes[::-1])
    turned.test = flipped
    wanted = page_of(trained, opened, tmp_path / "a").said()
    assert page_of(trained, turned, tmp_path / "b").said()[:400] == wanted[:400]


@pytest.mark.parametrize(("missing", "words"), [(("test",), "validation image"), (("test", "val"), "training image")])
def test_without_images_held_back(opened: Images, tmp_path: Path, missing: tuple[str, ...], words: str) -> None:
    nothing = opened.test.subset([])
    images = Images(opened.train, opened.val, opened.test, [], [], "few")
    for name in missing:
        setattr(images, name, nothing)
    said = page_of(untrained(opened, "vae_cnn"), images, tmp_path).said().replace("\u00a0", " ")
    assert f"{words}s recognised" in said
    assert "unseen" not in said
    assert "no test images" in said or "No images were held back" in said


def test_nothing_at_all(opened: Images, tmp_path: Path) -> None:
    nothing = opened.test.subset([])
    with pytest.raises(apercu.ApercuError, match="no images"):
        write_report(untrained(opened), Images(nothing, nothing, nothing, [], [], "none"), tmp_path / "r.html")


KINDS = {
    "16-bit": np.uint16(13) * shapes(60)[0].astype(np.uint16),
    "float": (shapes(60)[0] / 255).astype(np.float32),
    "colour": shapes(60, channels=3)[0],
    "two channels": shapes(60, channels=2)[0],
    "five channels": shapes(60, channels=5)[0],
    "tiny": shapes(60)[0][:, :, :5, :4],
    "wide": np.repeat(shapes(40, channels=3)[0], 12, axis=3)[:, :, :9],
    "one image": shapes(1)[0],
    "three images": shapes(3)[0],
    "all alike": np.full((40, 1, 8, 8), 9, np.uint8),
}


@pytest.mark.filterwarnings("ignore:.*duplicate.*")
@pytest.mark.parametrize("kind", KINDS)
def test_any_kind_of_image(kind: str, tmp_path: Path) -> None:
    images = open_images(KINDS[kind])
    for preset in ("ae", "vqvae"):
        said = page_of(untrained(images, preset), images, tmp_path).said()
        assert ("Shown brighter" in said) == (kind == "16-bit")
        assert ("channels the first" in said) == (kind in ("two channels", "five channels"))


def test_mixed_sizes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(40):
        size = rng.integers(9, 40, 2).tolist()
        Image.fromarray(rng.integers(0, 255, (*size, 3)).astype(np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    images = open_images(tmp_path / "photos")
    page = page_of(untrained(images, "vqvae"), images, tmp_path)
    assert "the largest" in page.said()
    assert "average image" not in page.said()


def test_large_images_stay_small_in_the_page(tmp_path: Path) -> None:
    images = open_images(np.random.default_rng(0).integers(0, 255, (30, 3, 300, 200)).astype(np.uint8))
    page = page_of(untrained(images, "vqvae"), images, tmp_path)
    assert len(page.text) < 1_500_000


def test_many_classes(tmp_path: Path) -> None:
    x, _ = shapes(400, side=8)
    images = open_images((x, np.arange(400) % 70))
    page = page_of(untrained(images, "vae_cnn"), images, tmp_path)
    assert "60 hardest" in page.said()
    assert '<table class="confusion' not in page.text


def test_names_of_classes_are_not_squeezed_into_the_width_of_a_count() -> None:
    """The corner of the table of confusions is a cell as those of counts are, and would set the width of the names."""
    style = inline("report.css")
    assert "width: auto" in style[style.index(".confusion thead td {") :].partition("}")[0]
