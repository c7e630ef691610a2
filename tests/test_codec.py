"""Entropy coding, the learnt prior and the container: exact, short, and deaf to anything that was altered."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apercu.codec import prior as module
from apercu.codec.coding import DENSEST, TOTAL, Decoder, Encoder, weigh
from apercu.codec.container import Coded, Cursor, Head, checksum, from_file, read_head, to_file, varint
from apercu.codec.exact import exponential
from apercu.codec.learn import learn
from apercu.codec.names import is_safe, names_of
from apercu.codec.prior import SIDE, Layout, Prior
from apercu.errors import FormatError

PRINT = b"8 bytes."


def random_prior(rng: np.random.Generator, alphabet: tuple[int, ...], neighbours: int, earlier: bool) -> Prior:
    """A prior with context of every kind, strong enough that any slip in it shows."""
    layout = Layout(alphabet, neighbours, earlier)
    rank, total = 3, sum(alphabet)
    return Prior(
        np.array(alphabet),
        np.array([neighbours, earlier]),
        rng.integers(-400, 400, (layout.rows, rank)).astype(np.int16),
        rng.integers(-400, 400, (rank, total)).astype(np.int16),
        rng.integers(-(2**17), 2**17, total).astype(np.int32),
    )


@given(st.integers(0, 2**32), st.integers(2, 400), st.booleans())
@settings(max_examples=50, deadline=None)
def test_frequencies_are_whole_and_leave_no_value_without_a_price(seed: int, count: int, peaked: bool) -> None:
    rng = np.random.default_rng(seed)
    masses = rng.integers(0, 2**20, (3, count)) * (rng.random((3, count)) < 0.1 if peaked else 1)
    weights = weigh(masses)
    assert (weights.sum(-1) == TOTAL - count).all()
    assert weights.min() >= 0
    frequencies = weights + 1
    share = masses / np.maximum(masses.sum(-1, keepdims=True), 1)
    assert (frequencies / TOTAL >= 0.99 * share - 1e-6).all()


def test_the_coder_takes_the_frequencies_as_they_are() -> None:
    """The first symbol moves the lower end of the coder's interval to its cumulative frequency."""
    rng = np.random.default_rng(0)
    for count in (2, 3, 17, 256, 512):
        weights = weigh(rng.integers(0, 2**20, count) * (rng.random(count) < 0.5))
        cumulative = (np.cumsum(weights + 1) - (weights + 1)).tolist()
        for value in range(count):
            for table in (weights, weights[None]):
                encoder = Encoder()
                encoder.encode(np.array([value]), table)
                low, width = encoder._coder.pos()[1]
                step = (2**64 - 1) >> 24
                assert (low, width) == (step * cumulative[value], step * (int(weights[value]) + 1))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_streams_are_read_back_and_are_as_short_as_their_information(data: st.DataObject) -> None:
    count = data.draw(st.integers(2, 300))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    parts = [rng.integers(0, count, data.draw(st.integers(0, 30))) for _ in range(3)]
    tables = [weigh((rng.random((len(part), count)) ** 8 * 2**20).astype(np.int64)) for part in parts]
    encoder = Encoder()
    bits = 0.0
    for part, table in zip(parts, tables, strict=True):
        encoder.encode(part, table)
        bits -= np.log2((np.take_along_axis(table, part[:, None], 1) + 1) / TOTAL).sum()
    stream = encoder.finish(0)
    assert len(stream) <= bits / 8 + 2
    decoder = Decoder(stream)
    for part, table in zip(parts, tables, strict=True):
        np.testing.assert_array_equal(decoder.decode(table, len(part)), part)


def test_one_table_for_all_values_is_the_same_as_one_for_each() -> None:
    rng = np.random.default_rng(1)
    values, table = rng.integers(0, 9, 50), weigh(rng.integers(0, 2**20, 9))
    streams = []
    for weights in (table, np.tile(table, (50, 1))):
        encoder = Encoder()
        encoder.encode(values, weights)
        streams.append(encoder.finish(0))
    assert streams[0] == streams[1]
    np.testing.assert_array_equal(Decoder(streams[0]).decode(table, 50), values)


def test_a_stream_is_as_long_as_its_header_may_claim() -> None:
    assert Encoder().finish(0) == b""
    assert Encoder().finish(5 * DENSEST - 1) == bytes(4)


def test_the_exponential_is_a_table_of_whole_numbers() -> None:
    table = exponential()
    np.testing.assert_array_equal(table, np.floor(2.0**20 * np.exp(-np.arange(len(table)) / 256)))
    assert table[-1] == 0
    assert table[-2] == 1


@pytest.mark.parametrize("neighbours", [0, 1, 6])
@pytest.mark.parametrize("earlier", [False, True])
@given(
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.integers(1, 6),
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.sampled_from([3, 40]),
)
@settings(max_examples=10, deadline=None)
def test_symbols_come_back_under_any_prior(
    neighbours: int, earlier: bool, seed: int, height: int, width: int, alphabet: list[int], count: int
) -> None:
    rng = np.random.default_rng(seed)
    prior = random_prior(rng, tuple(alphabet), neighbours, earlier)
    symbols = (rng.random((count, height, width, len(alphabet))) * alphabet).astype(np.int64)
    streams = prior.encode(symbols)
    np.testing.assert_array_equal(prior.decode(streams, (height, width)), symbols)
    assert streams[1:2] == prior.encode(symbols[1:2])  # whatever stands beside it


def test_symbols_outside_their_alphabet_are_refused() -> None:
    prior = random_prior(np.random.default_rng(0), (4,), 0, False)
    with pytest.raises(ValueError, match="alphabet"):
        prior.encode(np.full((1, 1, 1, 1), 4))


def test_many_images_are_coded_as_each_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    prior = random_prior(rng, (16,), 2, True)
    symbols = rng.integers(0, 16, (40, 3, 3, 1))
    together = prior.encode(symbols)
    assert together == [prior.encode(symbols[k : k + 1])[0] for k in range(40)]
    monkeypatch.setattr(module, "CHUNK", 1)
    assert prior.encode(symbols) == together
    np.testing.assert_array_equal(prior.decode(together, (3, 3)), symbols)


def test_a_prior_learns_what_neighbours_say() -> None:
    """A checkerboard with random phase: one bit for the first token, then none."""
    rng = np.random.default_rng(0)
    phase = rng.integers(0, 2, (200, 1, 1, 1))
    codes = (np.indices((4, 4)).sum(0)[None, ..., None] + phase) % 2 * 3
    prior = learn(list(codes), (5,), steps=60)
    streams = prior.encode(codes)
    assert np.mean([len(stream) for stream in streams]) <= 1.5
    np.testing.assert_array_equal(prior.decode(streams, (4, 4)), codes)


def test_a_prior_learns_what_earlier_symbols_say() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 8, (1000, 1, 1, 1))
    codes = np.concatenate([first, 7 - first, np.zeros_like(first)], -1)
    prior = learn(list(codes), (8, 8, 1), steps=80)
    assert np.mean([len(stream) for stream in prior.encode(codes)]) <= 1.2


def test_what_says_nothing_costs_no_more_than_its_frequencies() -> None:
    """Few codes without structure: the weights at the start are kept."""
    rng = np.random.default_rng(0)
    codes = rng.choice(16, (40, 4, 4, 1), p=np.r_[0.5, np.full(15, 0.5 / 15)])
    prior = learn(list(codes[:20]), (16,), steps=60)
    bits = 8 * sum(map(len, prior.encode(codes[20:]))) / codes[20:].size
    counts = np.bincount(codes[:20].ravel(), minlength=16) + 0.5
    assert bits < -np.log2(counts / counts.sum())[codes[20:]].mean() + 0.5


THREADS = """
import sys, numpy as np
from apercu.codec.prior import Prior
given = dict(np.load(sys.argv[1]))
symbols = given.pop("symbols")
for some in symbols, symbols[:4]:
    sys.stdout.buffer.write(b"".join(Prior(**given).encode(some)))
"""


def test_an_operating_point_takes_the_nearest_row() -> None:
    whole = Layout((4, 4), 2, True, 3)
    assert [whole.row(point) - whole.graded for point in (0, 8, 11, 12, 20, 24)] == [0, 0, 0, 1, 2, 2]
    halves = Layout((4, 4), 2, True, 5, 4)
    assert [halves.row(point) - halves.graded for point in (8, 9, 10, 12, 16, 21, 22, 24)] == [0, 0, 1, 1, 2, 3, 4, 4]


def test_points_between_are_as_cheap_as_what_they_hold() -> None:
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.integers(0, 1 + k, (40, 4, 4, 1)) for k in (1, 3, 7)])
    prior = learn(list(codes), (8,), steps=200, points=[8] * 40 + [12] * 40 + [16] * 40)
    for point, part in zip((8, 12, 16), np.split(codes, 3), strict=True):
        bits = 8 * np.mean([len(stream) for stream in prior.encode(part, point)])
        assert bits < 16 * np.log2({8: 2, 12: 4, 16: 8}[point]) * 1.1 + 8


def test_the_number_of_threads_does_not_matter(tmp_path: Path) -> None:
    """Nor whether images are coded together or one after the other, of which the first four are."""
    rng = np.random.default_rng(5)
    prior = random_prior(rng, (64, 8), 6, True)
    symbols = rng.integers(0, [64, 8], (40, 6, 6, 2))
    np.savez(tmp_path / "prior.npz", symbols=symbols, **prior.tensors())
    for threads in "1", "2":
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        command = [sys.executable, "-c", THREADS, str(tmp_path / "prior.npz")]
        written = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
        streams = prior.encode(symbols)
        assert written == b"".join(streams + streams[:4]) != b""


def test_a_stream_of_the_first_version_is_written_as_ever() -> None:
    """What is on people's disks: this must never change."""
    layout = Layout((5, 3), 2, True)
    rows = (np.arange(layout.rows * 2).reshape(-1, 2) * 37 % 501 - 250).astype(np.int16)
    columns = (np.arange(16).reshape(2, 8) * 91 % 601 - 300).astype(np.int16)
    prior = Prior(np.array([5, 3]), np.array([2, 1]), rows, columns, np.arange(8, dtype=np.int32) * 9000)
    symbols = np.arange(24).reshape(1, 3, 4, 2) % [5, 3]
    assert layout.rows == SIDE**2 + 2 * 10 + 5
    assert prior.encode(symbols)[0].hex() == "0ff7a5058b209be16119"


HEADS = st.builds(
    Head,
    height=st.integers(1, 10_000),
    width=st.integers(1, 10_000),
    channels=st.integers(1, 300),
    maximum=st.sampled_from([255.0, 65535.0, 1.0, 16.0, 4095.0]),
    quality=st.integers(0, 300),
    lossless=st.booleans(),
    metadata=st.booleans(),
)


@given(HEADS, st.lists(st.binary(max_size=50), min_size=3, max_size=3))
@settings(max_examples=100, deadline=None)
def test_files_hold_what_was_put_in(head: Head, streams: list[bytes]) -> None:
    coded = Coded(head, tuple(streams[: head.streams]))
    assert from_file(to_file(coded, PRINT), PRINT) == coded


def test_a_small_image_has_a_small_header() -> None:
    assert len(to_file(Coded(Head(28, 28, 1), (b"",)), PRINT)) == 19


@given(HEADS, st.binary(max_size=30), st.data())
@settings(max_examples=50, deadline=None)
def test_what_was_truncated_or_altered_is_refused(head: Head, stream: bytes, data: st.DataObject) -> None:
    whole = to_file(Coded(head, (stream,) * head.streams), PRINT)
    for length in range(len(whole)):
        with pytest.raises(FormatError):
            from_file(whole[:length], PRINT)
    place, change = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(1, 255))
    altered = bytearray(whole)
    altered[place] ^= change
    with pytest.raises(FormatError):
        from_file(bytes(altered), PRINT)
    with pytest.raises(FormatError):
        from_file(whole + b"\0", PRINT)


def test_reasons_are_told_apart() -> None:
    whole = to_file(Coded(Head(8, 8, 1), (b"symbols",)), PRINT)
    for data, reason in [
        (b"", "not an .apc file"),
        (b"\x89PNG", "not an .apc file"),
        (whole[:3] + b"\x02" + whole[4:], "version 2"),
        (whole[:-1], "damaged or truncated"),
    ]:
        with pytest.raises(FormatError, match=reason):
            from_file(data, PRINT)
    with pytest.raises(FormatError, match="another model"):
        from_file(whole, b"8 others")


@pytest.mark.parametrize("claim", [(0, 5), (5, 0), (2**34, 1), (100_000, 100_000)])
def test_absurd_sizes_are_refused_even_under_a_right_checksum(claim: tuple[int, int]) -> None:
    body = b"APC\x01" + PRINT + b"\x20" + varint(claim[0]) + varint(claim[1]) + b"stream"
    with pytest.raises(FormatError, match="absurd"):
        from_file(body + checksum(body), PRINT)


@given(st.binary(max_size=40))
def test_heads_are_read_or_refused(data: bytes) -> None:
    try:
        head = read_head(Cursor(data))
    except FormatError:
        return
    assert read_head(Cursor(head.to_bytes())) == head


@given(st.integers(0, 2**35 - 1))
def test_numbers_come_back(number: int) -> None:
    assert Cursor(varint(number)).varint() == number


@given(st.lists(st.text(max_size=20), max_size=8))
@settings(deadline=None)
def test_names_are_safe_and_tell_images_apart(ids: list[str]) -> None:
    names = names_of(ids)
    assert len({name.casefold() for name in names}) == len(ids)
    assert all(map(is_safe, names))
    assert not any(part in ("", ".", "..") for name in names for part in name.split("/"))


def test_names_are_those_of_the_images_where_they_can_be() -> None:
    ids = ["cats/a.png", "cats/b.v2.jpg", "dogs/a.png", "a.png", "a.jpg", "x.gz#3", "../../etc/passwd", "/root.png"]
    assert names_of(ids) == ["cats/a", "cats/b.v2", "dogs/a", "a.png", "a.jpg", "x.gz-3", "etc/passwd", "root"]
