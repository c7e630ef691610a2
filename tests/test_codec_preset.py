"""The preset `codec`: a rate that files have, several qualities from one model, and tables chosen in whole numbers."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

import apercu
from apercu.api import Model
from apercu.bottlenecks._hyper import REACH, Hyper
from apercu.bottlenecks.rated import Rated
from apercu.codec.codec import Codec
from apercu.codec.container import Coded, Head, from_file, to_file
from apercu.codec.metadata import Metadata, metadata_of, put_back
from apercu.codec.quality import EIGHTHS, point_of
from apercu.codec.scales import Conditional, Scales
from apercu.codec.tables import learn_exact
from apercu.data.decode import decode_file
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError, FormatError
from apercu.metrics import bd_rate
from apercu.presets import build
from apercu.sheet import save_image
from apercu.tasks.compress import Compress
from apercu.training import Training
from apercu.types import Batch, ImageSpec
from tests.commands import run

PRIORS = ("factorised", "hyper")
FAST = Training(epochs=30, batch=40, device="cpu", precision="32", validations=2)
SMALL = {"width": 8, "dim": 8, "depth": 2, "qualities": 3, "lam": 100.0}


def waves(count: int, height: int = 32, width: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth pictures with an edge, (count, 1, height, width) uint8."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / 16
    a, b, c, d = rng.random((4, count, 1, 1, 1))
    smooth = np.sin(5 * a * x + 4 * b) * np.cos(5 * c * y) * 70 + 128
    return np.clip(smooth + 50 * (x + y > 4 * d), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module", params=PRIORS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of each prior that was trained a little, with its tables."""
    out = tmp_path_factory.mktemp(request.param) / "model"
    model = apercu.fit(waves(120), preset="codec", out=out, settings=SMALL | {"prior": request.param}, training=FAST)
    Compress(model, steps=30).fit(model.images(waves(120)))
    return out


@pytest.fixture
def model(folder: Path) -> Model:
    return apercu.load(folder, device="cpu")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images(waves(24, seed=1)).split("all")


def bottleneck_of(model: Model) -> Rated:
    assert isinstance(model.network.bottleneck, Rated)
    return model.network.bottleneck


def codec_of(model: Model) -> Codec:
    return Compress(model).codec(open_images(waves(1)).split("all"))


def test_files_are_as_long_as_training_says_they_are(model: Model, images: ImageSet) -> None:
    codec = codec_of(model)
    for quality in (1, 2, 3):
        written = [coded for batch in codec.encode(images, quality=quality) for _, coded in batch]
        bits = 8 * np.mean([len(coded.streams[0]) for coded in written])
        with torch.no_grad(), bottleneck_of(model).at(quality):
            x = torch.from_numpy(images.read(np.arange(24)) / np.float32(255))
            prices, _ = model.network.price(Batch(x, torch.full((24,), -1), torch.arange(24)), noise=False)
        priced = float(prices["rate"].mean()) / np.log(2)
        if bottleneck_of(model).hyper is None:  # the learnt prior also sees neighbours and earlier symbols of a token
            assert bits < priced + 8
        else:
            assert 0.9 * priced - 16 < bits < 1.03 * priced + 16


def test_more_quality_takes_more_bytes_and_comes_nearer(model: Model, images: ImageSet) -> None:
    codec = codec_of(model)
    sizes, errors = [], []
    for quality in (1, 1.5, 2, 2.5, 3):
        written = [coded for batch in codec.encode(images, quality=quality) for _, coded in batch]
        assert {coded.head.quality for coded in written} == {round(EIGHTHS * quality)}
        sizes.append(np.mean([len(coded.streams[0]) for coded in written]))
        read = np.stack(codec.decode(written)).astype(float)
        errors.append(np.square(read - images.read(np.arange(24))).mean())
    assert sizes == sorted(sizes)
    assert sizes[-1] > 1.5 * sizes[0]
    assert errors == sorted(errors, reverse=True)


def test_symbols_come_back_at_every_quality(model: Model, images: ImageSet) -> None:
    codec = codec_of(model)
    for quality in (1.0, 2.25, 3.0):
        with torch.no_grad(), bottleneck_of(model).at(quality):
            [(_, output)] = model.outputs(images, decode=False)
        batch = [c for part in codec.encode(images, quality=quality) for _, c in part]
        coded = [from_file(to_file(one, codec.fingerprint), codec.fingerprint) for one in batch]
        symbols = codec.read_symbols(coded)
        assert (codec.symbols.code(symbols, quality) == output.code.z).all()


def test_the_rate_of_a_factorised_prior_is_that_of_its_density() -> None:
    """At any quality the masses of all symbols add up, and the rate is their −ln."""
    torch.manual_seed(0)
    rated = Rated(4, 2, qualities=3).eval()
    for quality in (1.0, 1.7, 3.0):
        with rated.at(quality), torch.no_grad():
            code = rated(torch.randn(5, 6, 4), (2, 3), torch.zeros(1), False)
            table = torch.stack(rated.pmf()).log()
            expected = -table[torch.arange(2), code.symbols].sum((1, 2))
            torch.testing.assert_close(code.costs["rate"], expected, rtol=1e-3, atol=1e-2)
            torch.testing.assert_close(rated.from_symbols(code.symbols), code.z, rtol=0, atol=0)


def test_qualities_lie_on_a_ladder_and_steps_between_them_are_interpolated() -> None:
    rated = Rated(4, 2, qualities=5, lam=200.0, span=16.0).eval()
    with torch.no_grad():
        rated.gain.copy_(torch.randn(5, 2))
    found = []
    for quality in (1.0, 2.0, 2.5, 3.0, 5.0):
        with rated.at(quality):
            found.append((float(rated._lam(torch.tensor([quality]))), rated._step().detach()))
    lams = [lam for lam, _ in found]
    np.testing.assert_allclose(lams, [50, 100, 100 * 2**0.5, 200, 800], rtol=1e-5)
    torch.testing.assert_close(found[2][1], (found[1][1] * found[3][1]).sqrt())


@pytest.mark.parametrize("prior", PRIORS)
def test_training_reaches_every_quality_and_every_parameter(prior: str) -> None:
    torch.manual_seed(0)
    network = build("codec", ImageSpec(1, 32, 32), 0, SMALL | {"prior": prior})
    x = torch.from_numpy(waves(30) / np.float32(255))
    prices, output = network.price(Batch(x, torch.full((30,), -1), torch.arange(30)))
    assert len(output.code.costs["lam"].unique()) == 3
    network.objective.total(prices).mean().backward()
    assert not [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    gain = network.bottleneck.gain.grad
    assert gain is not None
    assert gain.any(1).all()


@pytest.mark.parametrize("settings", [{"qualities": 0}, {"lam": 0.0}, {"span": 0.5}])
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ApercuError, match="at least one quality"):
        build("codec", ImageSpec(1, 32, 32), 0, settings)


def test_similarity_is_a_distortion_too() -> None:
    torch.manual_seed(0)
    x = torch.from_numpy(waves(4, 48, 40) / np.float32(255))
    network = build("codec", ImageSpec(1, 48, 40), 0, SMALL | {"distortion": "ms-ssim"})
    same = network.likelihood(torch.logit(x.clamp(1e-4, 1 - 1e-4))).nll(x)
    other = network.likelihood(torch.logit(x.flip(3).clamp(1e-4, 1 - 1e-4))).nll(x)
    assert (same < 0.01).all()
    assert (other > 100 * same.abs()).all()


EXACT = """
import sys, hashlib, numpy as np, torch
from apercu.codec.scales import Scales
given = dict(np.load(sys.argv[1]))
torch.set_num_threads(int(sys.argv[2]))
h = given.pop("h")
table, shift = Scales.read(given).choose(h, (22, 17))
print(hashlib.sha256(table.tobytes() + shift.tobytes()).hexdigest())
"""


def test_tables_are_chosen_alike_whatever_the_threads(tmp_path: Path) -> None:
    torch.manual_seed(0)
    scales = Scales.of(Hyper(24), 255)
    h = np.random.default_rng(0).integers(-REACH, REACH + 1, (3, 6, 5, 6))
    np.savez(tmp_path / "scales.npz", h=h, **scales.arrays())
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", EXACT, str(tmp_path / "scales.npz"), "2"]
    said = subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode().strip()
    table, shift = scales.choose(h, (22, 17))
    assert said == hashlib.sha256(table.tobytes() + shift.tobytes()).hexdigest()
    assert len(np.unique(table)) > 50
    assert shift.any()
    for k in range(3):  # whatever stands beside it, and in other pieces
        alone = scales.choose(h[k : k + 1], (22, 17))
        assert (alone[0][0] == table[k]).all()
        assert (alone[1][0] == shift[k]).all()


def test_whole_numbers_answer_as_the_network_does() -> None:
    torch.manual_seed(0)
    hyper = Hyper(8)
    h = torch.randint(-8, 9, (2, hyper.channels, 3, 2)).float()
    with torch.no_grad():
        mean, log_scale = hyper.answer(h, (11, 6))
    table, shift = Scales.of(hyper, 20).choose(h.permute(0, 2, 3, 1).long().numpy(), (11, 6))
    whole, phase = shift + (table % 8 - 4) / 8, -4 + (table // 8 + 0.5) / 8
    np.testing.assert_allclose(whole.reshape(mean.shape), mean, atol=0.0625 + 0.02)
    np.testing.assert_allclose(phase.reshape(mean.shape), log_scale, atol=0.0625 + 0.02)


@pytest.mark.parametrize("how", ["bfloat16", "float64", "compiled"])
def test_a_file_is_read_alike_in_every_precision(model: Model, images: ImageSet, how: str) -> None:
    """The reader's network may compute as it likes: symbols come from whole numbers alone."""
    codec = codec_of(model)
    written = [coded for batch in codec.encode(images, quality=2) for _, coded in batch]
    symbols = codec.read_symbols(written)
    other = apercu.load(str(model.folder), device="cpu")
    if how == "compiled":
        other.network.encoder.compile(backend="eager")
        other.network.decoder.compile(backend="eager")
    else:
        other.network.to(getattr(torch, how))
    assert torch.equal(codec_of(other).read_symbols(written), symbols)


def test_streams_of_another_reach_are_refused(model: Model, images: ImageSet) -> None:
    codec = codec_of(model)
    if not isinstance(codec.writer, Conditional):
        pytest.skip("only a hyperprior shifts its symbols")
    stream = np.random.default_rng(0).bytes(400)
    try:
        symbols = codec.writer.decode([stream], (8, 8))
    except FormatError:
        return
    assert symbols.min() >= 0
    assert symbols.max() <= 510


def test_tiles_leave_no_seams(model: Model) -> None:
    """Symbols and pixels are those of the whole, whatever the size of the tiles."""
    images = open_images(waves(1, 200, 300, seed=3)).split("all")
    x = torch.from_numpy(images.read([0]) / np.float32(255))
    whole = Codec(model, store_tables(model), tile=1 << 20).tiled
    assert whole is not None
    symbols, grid = whole.encode(x, 8)
    picture = whole.decode(symbols, grid, (200, 300), 8)
    for side in (64, 104):
        tiled = Codec(model, store_tables(model), tile=side).tiled
        assert tiled is not None
        assert torch.equal(tiled.encode(x, 8)[0], symbols)
        assert torch.equal(tiled.decode(symbols, grid, (200, 300), 8), picture)
    with torch.no_grad(), bottleneck_of(model).at(1.0):
        code = model.network.encode(x)
        single = model.network.decode(code.z, code.grid, (200, 300)).mean
    usual = codec_of(model).symbols.of(code)
    assert (usual != symbols).float().mean() < 1e-3  # single precision may round a few otherwise
    assert (single - picture).abs().mean() < 1e-4


def test_files_may_be_written_by_tiles_and_read_whole(model: Model) -> None:
    images = open_images(waves(1, 40, 50, seed=3)).split("all")
    codec = Codec(model, store_tables(model), tile=16)
    [[(_, coded)]] = list(codec.encode(images, quality=1.5))
    difference = np.abs(codec.decode([coded])[0].astype(int) - codec_of(model).decode([coded])[0])
    assert difference.max() <= 1
    assert difference.mean() < 1e-3


def store_tables(model: Model) -> bytes:
    assert model.folder is not None
    return (model.folder / "compress.safetensors").read_bytes()


@pytest.mark.parametrize("preset", ["vqvae", "codec"])
@pytest.mark.parametrize("encoder", ["conv", "residual"])
def test_every_convolutional_network_can_be_cut(preset: str, encoder: str) -> None:
    from apercu.codec.symbols import chosen
    from apercu.codec.tiles import Tiled

    torch.manual_seed(0)
    network = build(preset, ImageSpec(2, 61, 45), 0, {"encoder": encoder, "width": 4, "dim": 4, "depth": 2}).eval()
    symbols = chosen(network)
    assert symbols is not None
    x = torch.rand(2, 2, 61, 45)
    small, large = Tiled(network, symbols, 16), Tiled(network, symbols, 999)
    (a, grid), (b, _) = small.encode(x, 0), large.encode(x, 0)
    assert torch.equal(a, b)
    assert torch.equal(small.decode(a, grid, (61, 45), 0), large.decode(b, grid, (61, 45), 0))


def test_a_network_that_looks_at_the_whole_is_not_cut(images: ImageSet) -> None:
    model = apercu.fit(waves(20), preset="ae", settings={"dim": 4, "width": 8}, training=Training(epochs=1))
    with pytest.raises(ApercuError, match="as a whole"):
        Compress(model, tile=64, steps=2).fit(model.images(waves(20)))


def test_lossless_files_come_back_whole_at_their_quality(model: Model) -> None:
    images = open_images(waves(3, 20, 23, seed=4)).split("all")
    compress = Compress(apercu.load(str(model.folder)), lossless=True, quality=3, steps=5)
    compress.model.folder = None
    compress._codec = Codec(compress.model, store_tables(model))
    exact = compress._codec.with_lossless(learn_exact(compress._codec, images, 5))
    for quality in (1, 2.5):
        written = [coded for batch in exact.encode(images, lossless=True, quality=quality) for _, coded in batch]
        np.testing.assert_array_equal(np.stack(exact.decode(written)), images.read(np.arange(3)))


def test_a_header_cannot_claim_a_quality_that_there_is_not(model: Model, images: ImageSet) -> None:
    codec = codec_of(model)
    [[(_, coded), *_]] = list(codec.encode(images))
    for claimed in (0, 7, 25, 300):
        head = Head(coded.head.height, coded.head.width, 1, quality=claimed)
        with pytest.raises(FormatError, match="quality"):
            codec.decode([Coded(head, coded.streams)])


def test_qualities_that_there_are_not_are_refused(model: Model) -> None:
    for quality in (0.5, 3.5):
        with pytest.raises(ApercuError, match="no quality"):
            Compress(model, quality=quality)
    single = build("codec", ImageSpec(1, 8, 8), 0, {"width": 4, "dim": 4, "qualities": 1})
    assert point_of(single, None) == 0
    for network in (single, build("vqvae", ImageSpec(1, 8, 8), 0, {"width": 4, "dim": 4, "codes": 8})):
        with pytest.raises(ApercuError, match="one quality"):
            point_of(network, 1.0)


def test_one_quality_is_written_and_read(images: ImageSet) -> None:
    for prior in PRIORS:
        settings = SMALL | {"prior": prior, "qualities": 1}
        model = apercu.fit(waves(40), preset="codec", settings=settings, training=Training(epochs=2, batch=20))
        compress = Compress(model, steps=4)
        compress.fit(model.images(waves(40)))
        codec = compress.codec(images)
        written = [coded for batch in codec.encode(images) for _, coded in batch]
        assert written[0].head.quality == 0
        assert codec.decode(written)[0].shape == (1, 32, 32)


def with_metadata(path: Path, pixels: np.ndarray, colour: str) -> tuple[bytes, Image.Exif]:
    """A JPEG that was turned, with a profile and EXIF."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile if colour == "RGB" else profile[:16] + b"GRAY" + profile[20:]
    exif = Image.Exif()
    exif[0x010F], exif[0x0112], exif[0x9003] = "A maker", 6, "2026:11:20 10:00:00"
    Image.fromarray(pixels).convert(colour).save(path, icc_profile=profile, exif=exif.tobytes())
    return profile, exif


def test_metadata_are_kept_on_demand(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    profile, _ = with_metadata(source / "a.jpg", waves(1)[0, 0], "L")
    Image.fromarray(waves(1)[0, 0]).save(source / "b.png")
    for option, expected in (((), False), (("--metadata",), True)):
        small, large = tmp_path / f"small {expected}", tmp_path / f"large {expected}"
        assert run("compress", folder, source, "-o", small, "--quality", "1.5", *option, "--json").status == 0
        assert run("decompress", folder, small, "-o", large, "--tile", "16").status == 0
        with Image.open(large / "a.png") as image:
            found = image.getexif()
            assert (image.info.get("icc_profile") == profile) is expected
            assert (found.get(0x010F) == "A maker") is expected
            assert 0x0112 not in found  # the pixels stand upright
        with Image.open(large / "b.png") as image:
            assert "icc_profile" not in image.info
            assert not image.getexif()
    assert run("compress", folder, source, "-o", tmp_path / "small True", "--quality", "1.5", "--json").answer[
        "written"
    ]


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_metadata_are_put_back_into_what_is_written(channels: int, tmp_path: Path) -> None:
    profile, _ = with_metadata(tmp_path / "a.jpg", waves(1)[0, 0], "L" if channels == 1 else "RGB")
    found = Metadata.from_bytes(metadata_of(tmp_path / "a.jpg", channels).to_bytes())
    assert found.profile == (profile if channels < 5 else b"")
    pixels = np.repeat(waves(1)[0], channels, 0)
    path = save_image(pixels, tmp_path / "b.png")
    put_back(path, found)
    read = decode_file(path)
    np.testing.assert_array_equal(read.pixels, pixels)
    with Image.open(path) if channels < 5 else tifffile.TiffFile(path) as file:
        if channels < 5:
            assert file.getexif()[0x010F] == "A maker"
        else:
            assert file.pages[0].tags[0x010F].value == "A maker"


def test_metadata_that_are_damaged_are_refused() -> None:
    whole = Metadata(b"profile", b"exif").to_bytes()
    assert Metadata.from_bytes(whole) == Metadata(b"profile", b"exif")
    for data in (b"", b"nonsense", whole[:5]):
        with pytest.raises(FormatError):
            Metadata.from_bytes(data)


def test_qualities_on_the_command_line(folder: Path, tmp_path: Path) -> None:
    Image.fromarray(waves(1)[0, 0]).save(tmp_path / "a.png")
    said = run("compress", folder, tmp_path / "a.png", "-o", tmp_path / "small", "--quality", "9")
    assert said.status == 2
    assert "no quality 9" in said.err
    assert not (tmp_path / "small").exists()


def test_bd_rate_is_how_many_more_bytes_the_same_quality_takes() -> None:
    curve = [(100.0, 28.0), (210.0, 31.5), (380.0, 34.0), (900.0, 38.0)]
    assert bd_rate(curve, curve) == pytest.approx(0.0)
    assert bd_rate(curve, [(rate / 2, db) for rate, db in curve]) == pytest.approx(-50.0)
    assert bd_rate(curve, [(rate * 1.25, db) for rate, db in curve]) == pytest.approx(25.0)
    assert bd_rate(curve, [*curve, (500.0, 30.0)]) == pytest.approx(0.0)  # a point that nobody would take
    assert bd_rate(curve, [(50.0, 10.0), (60.0, 20.0)]) is None
    # ln R = a + b · dB on both sides: the mean of a straight line lies in the middle of what both reach, 32 … 36 dB.
    one, other = (
        [(np.exp(a + b * db), db) for db in reach] for a, b, reach in ((0, 0.2, (30, 36)), (-1, 0.25, (32, 40)))
    )
    assert bd_rate(one, other) == pytest.approx(100 * np.expm1(-1 + 0.05 * 34))
