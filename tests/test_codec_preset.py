"""The preset `codec`: a rate that files have, several qualities from one model, and files that say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import apercu
from apercu.api import Model
from apercu.bottlenecks.rated import Rated
from apercu.codec.codec import Codec
from apercu.codec.container import Coded, Head, from_file, to_file
from apercu.codec.quality import EIGHTHS, point_of
from apercu.codec.scales import Conditional
from apercu.codec.tables import learn_exact
from apercu.data.images import ImageSet
from apercu.data.open import open_images
from apercu.errors import ApercuError, FormatError
from apercu.metrics import bd_rate
from apercu.presets import build
from apercu.tasks.compress import Compress
from apercu.training import Training
from apercu.types import Batch, ImageSpec
from tests.commands import run
from tests.rated import PRIORS, SMALL, bottleneck_of, codec_of, store_tables, waves


@pytest.fixture
def model(rated: Path) -> Model:
    return apercu.load(rated, device="cpu")


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return open_images(waves(24, seed=1)).split("all")


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


def test_symbols_come_back_at_every_quality(model: Model, images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("apercu.codec.codec.fast_bf16", lambda device: False)
    codec = codec_of(model)
    for quality in (1.0, 2.25, 3.0):
        with torch.no_grad(), bottleneck_of(model).at(quality):
            [(_, output)] = model.outputs(images, decode=False)
        batch = [c for part in codec.encode(images, quality=quality) for _, c in part]
        coded = [from_file(to_file(one, codec.fingerprint), codec.fingerprint) for one in batch]
        symbols = codec.read_symbols(coded)
        assert (codec.symbols.code(symbols, quality) == output.code.z).all()


def test_half_precision_changes_hardly_a_symbol_and_no_file(
    model: Model, images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec, written, read = codec_of(model), {}, {}
    for fast in (False, True):
        monkeypatch.setattr("apercu.codec.codec.fast_bf16", lambda device, fast=fast: fast)
        written[fast] = [coded for batch in codec.encode(images, quality=3) for _, coded in batch]
        read[fast] = np.stack(codec.decode(written[False])).astype(int)
    symbols = {fast: codec.read_symbols(coded) for fast, coded in written.items()}
    assert (symbols[True] == symbols[False]).float().mean() > 0.9
    assert np.abs(read[True] - read[False]).max() <= 3
    assert (read[True] != read[False]).any()  # it is another precision


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


def test_qualities_on_the_command_line(rated: Path, tmp_path: Path) -> None:
    Image.fromarray(waves(1)[0, 0]).save(tmp_path / "a.png")
    said = run("compress", rated, tmp_path / "a.png", "-o", tmp_path / "small", "--quality", "9")
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
