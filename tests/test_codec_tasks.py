"""`compress` and `decompress` from end to end: what comes back, what is refused, and what a kill leaves."""

from __future__ import annotations

import dataclasses
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import apercu
from apercu import registry
from apercu.api import Model
from apercu.codec.codec import TABLES, Codec
from apercu.codec.container import Coded, from_file, to_file
from apercu.data.images import ImageSet
from apercu.data.open import Images, open_images
from apercu.errors import ApercuError, FormatError
from apercu.tasks.compress import Compress
from apercu.tasks.decompress import Decompress
from apercu.training import Training
from tests.commands import run
from tests.conftest import shapes

FAST = Training(epochs=1, batch=64, device="cpu", precision="32")
SMALL = {"width": 4, "dim": 4, "codes": 16, "depth": 1}


def fitted(images: object, out: Path, preset: str = "vqvae", settings: dict[str, object] | None = None) -> Path:
    """A model with its tables, learnt quickly."""
    model = apercu.fit(images, preset=preset, out=out, settings=SMALL if settings is None else settings, training=FAST)
    Compress(model, steps=20).fit(model.images(images))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted("sklearn:digits", tmp_path_factory.mktemp("codec") / "model")


@pytest.fixture
def model(folder: Path) -> Model:
    return apercu.load(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 image files of several sizes in sub-folders; two share their name."""
    root = tmp_path_factory.mktemp("pictures")
    x, y = shapes(30, side=12)
    for k, pixels in enumerate(x):
        path = root / "ab"[y[k]] / f"{k:02d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels[0, : 12 - k % 3, : 8 + k % 4]).save(path)
    Image.fromarray(x[0, 0]).save(root / "a" / "00.bmp")
    return root


@pytest.fixture(scope="module")
def any_size(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fitted(str(pictures), tmp_path_factory.mktemp("any size") / "model")


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def tree(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_files_are_decoded_to_what_the_model_sees(model: Model, digits: Images, tmp_path: Path) -> None:
    some = digits.test.subset(np.arange(20))
    done = Compress(model)(some, tmp_path / "small")
    assert (done["n"], done["written"]) == (20, 20)
    assert done["bytes"] == sum(len(data) for name, data in tree(tmp_path / "small").items() if name.endswith(".apc"))
    Decompress(model, source=str(tmp_path / "small"))(None, tmp_path / "large")
    expected = model.reconstruct(some)
    for name, pixels in zip([row["name"] for row in done["images"]], expected, strict=True):
        read = pixels_of(tmp_path / "large" / f"{name}.png")
        np.testing.assert_array_equal(read, np.rint(pixels[0] / 16 * 255))


def test_a_damaged_image_does_not_cost_those_beside_it(model: Model, digits: Images, tmp_path: Path) -> None:
    """Not even where its checksum is right, so that only the range coder can tell."""
    out, whole, rest = (tmp_path / name for name in ("files", "whole", "rest"))
    compress, some = Compress(model), digits.test.subset(np.arange(40))
    compress(some, out)
    Decompress(model, source=str(out))(None, whole)
    path, fingerprint = sorted(out.rglob("*.apc"))[17], compress.codec(some).fingerprint
    coded = from_file(path.read_bytes(), fingerprint)
    path.write_bytes(to_file(Coded(coded.head, (b"\xff" * 12,)), fingerprint))
    said = Decompress(model, source=str(out))(None, rest)
    assert said["failed"] == [{"file": str(path), "reason": "its symbols cannot be read"}]
    expected, found = tree(whole), tree(rest)
    assert len(found) == len(expected) - 1 == 39
    assert found.items() <= expected.items()


def test_symbols_come_back_bit_for_bit(model: Model, digits: Images) -> None:
    codec = Compress(model).codec(digits.test)
    for batch, (_, output) in zip(list(codec.encode(digits.test)), list(model.outputs(digits.test)), strict=True):
        coded = [from_file(to_file(one, codec.fingerprint), codec.fingerprint) for _, one in batch]
        symbols = codec.read_symbols(coded)
        assert (symbols == output.code.symbols).all()
        assert (codec.symbols.code(symbols) == output.code.z).all()


QUANTIZERS: dict[str, dict[str, object]] = {
    "fsq": {},
    "rvq": {"codes": 8, "stages": 3},
    "uniform": {},
    "vq": {"codes": 8},
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_every_quantizer_is_written_and_read(name: str, digits: Images) -> None:
    """Untrained: all that counts is that symbols and code come back."""
    model = apercu.fit(digits, preset="vqvae", settings=SMALL, training=FAST)
    model.network.bottleneck = registry.part("bottlenecks", name)(
        model.network.encoder.features, SMALL["dim"], **QUANTIZERS[name]
    ).eval()
    compress = Compress(model, steps=3)
    compress.fit(digits.train)
    codec = compress.codec(digits.test)
    [(_, output)] = model.outputs(digits.test)
    symbols = codec.read_symbols([coded for batch in codec.encode(digits.test) for _, coded in batch])
    assert (symbols == output.code.symbols).all()
    assert (codec.symbols.code(symbols) == output.code.z).all()


PRESETS: dict[str, dict[str, object]] = {
    "ae": {"dim": 8, "width": 16},
    "vae": {"dim": 16, "width": 8},
    "vae_cnn": {"dim": 16, "width": 8},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_codes_without_symbols_are_rounded_with_little_loss(preset: str, digits: Images, tmp_path: Path) -> None:
    longer = dataclasses.replace(FAST, epochs=8)
    model = apercu.fit(digits, preset=preset, settings=PRESETS[preset], training=longer)
    compress = Compress(model, steps=20)
    compress.fit(digits.train)
    measured = compress.evaluate(digits.test)
    exact = (model.reconstruct(digits.test) - digits.test.read(np.arange(len(digits.test))).astype(float)) / 16
    assert measured["psnr"] > -10 * np.log10(np.square(exact).mean((1, 2, 3))).mean() - 0.2
    assert measured["bits_per_symbol"] < measured["bits_per_symbol_plain"]
    assert measured["bytes"] < 19 + 16


def test_the_prior_is_worth_its_place(model: Model, digits: Images) -> None:
    measured = Compress(model).evaluate(digits.test)
    assert measured["bits_per_symbol"] < 0.9 * measured["bits_per_symbol_plain"]
    assert measured["bytes"] < measured["png_bytes"]


def test_tables_are_learnt_once(folder: Path, model: Model, digits: Images, tmp_path: Path) -> None:
    with pytest.raises(ApercuError, match="learnt its tables before"):
        Compress(model).fit(digits.train)
    copy = tmp_path / "model"
    shutil.copytree(folder, copy)
    (copy / TABLES).write_bytes(b"other")
    with pytest.raises(FormatError, match="was changed"):
        Compress(apercu.load(copy)).codec(digits.test)


def test_tables_of_another_model_are_refused(folder: Path, any_size: Path) -> None:
    rounded = apercu.fit("sklearn:digits", preset="ae", settings=PRESETS["ae"], training=FAST)
    with pytest.raises(FormatError, match="tables"):
        Codec(rounded, (folder / TABLES).read_bytes())
    with pytest.raises(FormatError, match="tables"):
        Codec(rounded, b"nonsense")


def test_a_model_that_compressed_nothing_decompresses_nothing(tmp_path: Path) -> None:
    model = apercu.fit("sklearn:digits", preset="vqvae", settings=SMALL, training=FAST)
    with pytest.raises(ApercuError, match="compressed nothing yet"):
        Decompress(model, source=str(tmp_path))(None)


@pytest.mark.parametrize("archive", [False, True])
def test_images_of_any_size_on_the_command_line(any_size: Path, pictures: Path, tmp_path: Path, archive: bool) -> None:
    small, large = tmp_path / ("small.apca" if archive else "small"), tmp_path / "large"
    done = run("compress", any_size, pictures, *(("--archive",) if archive else ("-o",)), small, "--json").answer
    assert (done["n"], done["written"], done["failed"]) == (31, 31, [])
    assert done["original_bytes"] == sum(map(len, tree(pictures).values()))
    said = run("decompress", any_size, small, "-o", large, "--json")
    assert said.status == 0
    assert said.answer["n"] == 31
    names = {"a/00.png.png", "a/00.bmp.png", *(n for n in tree(pictures) if not n.startswith("a/00"))}
    assert set(tree(large)) == names
    for name in names:
        original = name.removesuffix(".png") if name.startswith("a/00") else name
        assert pixels_of(large / name).shape == pixels_of(pictures / original).shape


def test_one_image_of_an_archive(any_size: Path, pictures: Path, tmp_path: Path) -> None:
    run("compress", any_size, pictures, "--archive", tmp_path / "x.apca")
    said = run("decompress", any_size, tmp_path / "x.apca", "-o", tmp_path / "one", "--only", "b/03", "--json")
    assert list(tree(tmp_path / "one")) == ["b/03.png"]
    assert said.answer["images"] == [{"name": "b/03", "height": 12, "width": 11}]
    assert run("decompress", any_size, tmp_path / "x.apca", "-o", tmp_path, "--only", "no").status == 2


@pytest.mark.parametrize("archive", [False, True])
def test_what_is_there_is_not_written_again(any_size: Path, pictures: Path, tmp_path: Path, archive: bool) -> None:
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    small = tmp_path / ("small.apca" if archive else "small")
    command = ["compress", any_size, source, "--archive" if archive else "-o", small, "--json"]
    run(*command)
    before = {small: small.read_bytes()} if archive else tree(small)
    assert run(*command).answer["written"] == 0
    assert before == ({small: small.read_bytes()} if archive else tree(small))
    Image.fromarray(pixels_of(source / "a" / "02.png")[::-1]).save(source / "a" / "02.png")
    assert run(*command).answer["written"] == 1
    if not archive:
        (small / "b" / "01.apc").write_bytes(b"APC")
        (small / "b" / "03.apc").unlink()
        assert run(*command).answer["written"] == 2


def test_images_that_are_opened_otherwise_are_written_again(any_size: Path, pictures: Path, tmp_path: Path) -> None:
    command = ["compress", any_size, pictures, "-o", tmp_path / "small", "--size", "8", "--json"]
    assert run(*command, "--fit", "resize").answer["written"] == 31
    assert run(*command, "--fit", "resize").answer["written"] == 0
    assert run(*command, "--fit", "crop").answer["written"] > 0


def test_what_is_damaged_is_named_and_the_others_are_decoded(
    folder: Path, any_size: Path, pictures: Path, tmp_path: Path
) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    run("compress", any_size, pictures, "-o", small)
    run("compress", folder, "sklearn:digits", "--split", "test", "-o", tmp_path / "other")
    other = next((tmp_path / "other").glob("*.apc"))
    shutil.copy(other, small / "foreign.apc")
    (small / "short.apc").write_bytes((small / "b" / "01.apc").read_bytes()[:-1])
    (small / "empty.apc").write_bytes(b"")
    said = run("decompress", any_size, small, "-o", large, "--json")
    assert said.status == 2
    assert said.answer["n"] == 31
    reasons = {Path(failure["file"]).name: failure["reason"] for failure in said.answer["failed"]}
    assert "another model" in reasons["foreign.apc"]
    assert "truncated" in reasons["short.apc"]
    assert "not an .apc file" in reasons["empty.apc"]
    assert not any((large / f"{name}.png").exists() for name in ("foreign", "short", "empty"))
    assert all(name in said.err for name in reasons)


def test_a_claim_that_the_bytes_cannot_hold_takes_no_memory(model: Model, any_size: Path, digits: Images) -> None:
    codec = Compress(apercu.load(any_size)).codec(digits.test)
    [(_, coded)] = next(iter(codec.encode(open_images(shapes(1)[0]).split("all"))))
    for change, reason in [
        ({"height": 9000, "width": 9000}, "more than its bytes can hold"),
        ({"channels": 3}, "which this model does not make"),
    ]:
        head = dataclasses.replace(coded.head, **change)
        with pytest.raises(FormatError, match=reason):
            codec.decode([Coded(head, coded.streams)])


def test_images_that_cannot_be_read_are_named(any_size: Path, pictures: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(pictures, source)
    (source / "a" / "broken.png").write_bytes(b"\x89PNG no more")
    said = run("compress", any_size, source, "-o", tmp_path / "small", "--json")
    assert said.status == 2
    assert said.answer["n"] == 31
    assert [failure["file"] for failure in said.answer["failed"]] == ["a/broken.png"]
    assert "broken.png" in said.err


def test_mistakes_get_one_sentence(folder: Path, tmp_path: Path) -> None:
    for command, reason in [
        (("compress", folder, "sklearn:digits"), "-o DIR"),
        (("compress", folder, "sklearn:digits", "-o", "x", "--archive", "y"), "-o DIR"),
        (("decompress", folder, tmp_path / "nowhere", "-o", tmp_path), "there is no file or folder"),
        (("decompress", folder, tmp_path, "-o", tmp_path), "nothing in"),
    ]:
        said = run(*command)
        assert said.status == 2
        assert reason in said.err
    (tmp_path / "text.apca").write_text("hello")
    said = run("decompress", folder, tmp_path / "text.apca", "-o", tmp_path, "--json")
    assert said.status == 2
    assert "not an .apc file" in said.answer["failed"][0]["reason"]


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_and_many_channels(channels: int, tmp_path: Path) -> None:
    x = shapes(60, channels)[0].astype(np.uint16) * 257
    images = open_images(x).split("all")
    compress = Compress(apercu.fit(x, preset="vqvae", settings=SMALL, training=FAST), steps=5)
    compress.fit(images)
    codec = compress.codec(images)
    batch = next(codec.encode(images))
    pixels = codec.decode([coded for _, coded in batch])
    assert pixels[0].dtype == np.uint16
    assert pixels[0].shape == (channels, 16, 16)
    assert np.max(pixels) > 20_000


KILLED = """
import sys, apercu
from apercu.tasks import compress
compress.SECONDS = 0.0
model = apercu.load(sys.argv[1])
compress.Compress(model, archive=sys.argv[3])(model.images("sklearn:digits"), None if sys.argv[3] else sys.argv[2])
"""


@pytest.mark.parametrize("archive", [False, True])
def test_a_killed_run_goes_on_where_it_was(folder: Path, tmp_path: Path, archive: bool) -> None:
    target = tmp_path / ("digits.apca" if archive else "digits")
    program = KILLED.replace("sys.argv[2])", "__import__('pathlib').Path(sys.argv[2]))")
    command = [sys.executable, "-W", "ignore", "-c", program, str(folder), str(target), str(target) if archive else ""]
    process = subprocess.Popen(command)
    journal = target.with_name(f".{target.name}.compressed") if archive else target / ".compressed"
    while not (journal.exists() and journal.stat().st_size) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    model = apercu.load(folder)
    images = model.images("sklearn:digits")
    compress = Compress(model, archive=str(target) if archive else "")
    out = None if archive else target
    went_on = compress(images, out)
    assert went_on["written"] + went_on["there_already"] == 1797
    assert went_on["there_already"] >= 250
    assert compress(images, out)["written"] == 0
    assert Decompress(model, source=str(target))(None)["n"] == 1797


def test_nothing_is_lost_where_there_is_no_folder(digits: Images, drawn: ImageSet) -> None:
    """In memory: the tables live with the task, and the sizes are those that files would have."""
    model = apercu.fit(digits, preset="vqvae", settings=SMALL, training=FAST)
    compress = Compress(model, steps=5)
    done = compress(digits.test)
    codec = compress.codec(digits.test)
    coded = [one for batch in codec.encode(digits.test) for one in batch]
    assert done["bytes"] == sum(len(to_file(one, codec.fingerprint)) for _, one in coded)
    assert done["out"] is None
