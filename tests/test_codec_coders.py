"""Many streams at once: the bytes of each alone, whatever its tables, and deaf to what no encoder wrote."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from apercu.bottlenecks._hyper import Hyper
from apercu.codec.coders import (
    MANY,
    _EachDecoder,
    _EachEncoder,
    _StepDecoders,
    _StepEncoders,
    decoders,
    encoders,
)
from apercu.codec.coding import TOTAL, Decoder, Integers, weigh
from apercu.codec.scales import Conditional, Scales
from apercu.errors import FormatError
from tests.test_codec import random_prior

BOTH: list[tuple[type[_EachEncoder | _StepEncoders], type[_EachDecoder | _StepDecoders]]] = [
    (_EachEncoder, _EachDecoder),
    (_StepEncoders, _StepDecoders),
]


def peaked(rng: np.random.Generator, *shape: int) -> Integers:
    """Weights of which few are large."""
    return weigh((rng.random(shape) ** 12 * 2**20).astype(np.int64))


@given(
    st.integers(0, 2**32),
    st.integers(0, 20),
    st.lists(st.integers(0, 40), max_size=4),
    st.sampled_from([2, 3, 15, 300]),
    st.booleans(),
)
@example(0, 0, [3], 2, True)
@example(0, 3, [], 2, True)
@settings(max_examples=60, deadline=None)
def test_the_bytes_are_those_of_each_alone(seed: int, count: int, steps: list[int], size: int, likely: bool) -> None:
    rng = np.random.default_rng(seed)
    own = [peaked(rng, count, step, size) for step in steps]
    shared = peaked(rng, 7, size)
    values = [each.argmax(-1) if likely else rng.integers(0, size, each.shape[:2]) for each in own]
    tables = [np.sort(rng.integers(0, 7, each.shape[:2]), 1) for each in own]
    streams = []
    for encoder, decoder in BOTH:
        writer = encoder(count)
        for each, weights, rows in zip(values, own, tables, strict=True):
            writer.encode(each, weights)
            writer.encode(each, shared, rows)
        streams.append(writer.finish(600))
        reader = decoder(streams[-1])
        for each, weights, rows in zip(values, own, tables, strict=True):
            np.testing.assert_array_equal(reader.decode(weights), each)
            np.testing.assert_array_equal(reader.decode(shared, rows), each)
    assert streams[0] == streams[1]
    assert all(len(stream) >= 1 for stream in streams[0])


def test_extreme_tables() -> None:
    """Frequencies of 1 and of all but one."""
    rng = np.random.default_rng(0)
    values = (rng.random((60, 300)) < 0.98).astype(np.int64)
    weights = np.where(rng.random((60, 300, 1)) < 0.5, [TOTAL - 2, 0], [0, TOTAL - 2])
    streams = []
    for encoder, decoder in BOTH:
        writer = encoder(60)
        writer.encode(values, weights)
        streams.append(writer.finish(0))
        np.testing.assert_array_equal(decoder(streams[-1]).decode(weights), values)
    assert streams[0] == streams[1]


def test_carries_run_over_many_words() -> None:
    """What has been written stays just below ½, until a last value lies above it."""
    rng = np.random.default_rng(0)
    weights = peaked(rng, 20, 150, 5)
    values = _EachDecoder([b"\x80"] * 20).decode(weights)
    for k in range(20):
        values[k, rng.integers(100, 150) :] = 4
    each, step = _EachEncoder(20), _StepEncoders(20)
    for writer in each, step:
        writer.encode(values, weights)
    assert (step._words >> np.uint64(32)).any()  # a word of ones that carries
    streams = each.finish(0)
    assert step.finish(0) == streams
    assert b"\x80" + bytes(7) in {stream[:8] for stream in streams}
    np.testing.assert_array_equal(_StepDecoders(streams).decode(weights), values)


def test_what_is_faster_is_chosen() -> None:
    assert isinstance(encoders(4, 16), _EachEncoder)
    assert isinstance(encoders(MANY, 1), _StepEncoders)
    assert isinstance(decoders([b""] * 4, 16), _EachDecoder)
    assert isinstance(decoders([b""] * 250, 2.5), _StepDecoders)


def test_streams_that_no_encoder_wrote_are_refused_as_one_is() -> None:
    rng = np.random.default_rng(0)
    weights, refused = peaked(rng, 200, 60, 9), []
    for k in range(200):
        stream = rng.bytes(int(rng.integers(0, 30))) if k % 9 else b"\xff" * 8
        try:
            expected = Decoder(stream).decode(weights[k], 60)
        except FormatError:
            refused.append(k)
            with pytest.raises(FormatError, match="cannot be read"):
                _StepDecoders([b"", stream]).decode(weights[[0, k]])
            continue
        np.testing.assert_array_equal(_StepDecoders([b"", stream]).decode(weights[[0, k]])[1], expected)
    assert 200 // 9 < len(refused) < 150


def conditional(rng: np.random.Generator) -> Conditional:
    """Symbols of −20 … 20 under a hyperprior that nobody trained."""
    hyper = Hyper(8)
    prior = random_prior(rng, hyper.alphabet, 0, False)

    def side(steps: Integers) -> Integers:
        sums = np.abs(steps[:, ::4, ::4].sum(-1, keepdims=True)) * np.arange(len(prior.alphabet))
        found: Integers = sums % prior.alphabet
        return found

    return Conditional(Scales.of(hyper, 20), prior, side, 20)


def test_images_under_a_hyperprior_are_coded_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    writer = conditional(rng)
    symbols = np.clip(20 + np.rint(rng.normal(0, 3, (30, 7, 6, 8))), 0, 40).astype(np.int64)
    assert isinstance(encoders(30, writer.scales.run((7, 6))), _StepEncoders)
    assert isinstance(encoders(1, 1), _EachEncoder)
    streams = writer.encode(symbols)
    assert streams == [writer.encode(symbols[k : k + 1])[0] for k in range(30)]
    np.testing.assert_array_equal(writer.decode(streams, (7, 6)), symbols)
    np.testing.assert_array_equal(writer.decode(streams[3:4], (7, 6)), symbols[3:4])


def test_sums_are_exact_in_single_and_in_double_precision() -> None:
    rng = np.random.default_rng(0)
    for alphabet, kind in ((4,) * 3, np.float32), ((2,) * 120, np.float64):
        prior = random_prior(rng, alphabet, 6, True)
        prior.rows[:] = rng.integers(-32768, 32768, prior.rows.shape)
        known = rng.integers(0, len(prior.rows), (3, 5, 1 + 6 * len(alphabet)))
        assert prior._rows.dtype == kind
        np.testing.assert_array_equal(prior._sum(known), prior.rows.astype(np.int64)[known].sum(2))
