"""Symbols under their context: whole numbers as the network says, in an order that can be read, alike everywhere."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from apercu.bottlenecks._context import Context, stages
from apercu.codec.contexts import Contexts, _cells, _framed
from apercu.codec.learn_context import SIDE, learn_context, part
from apercu.errors import FormatError

REACH = 40
GRIDS = ((1, 1), (1, 5), (4, 3), (7, 7), (9, 20))


def network(dim: int = 10, qualities: int = 3) -> Context:
    torch.manual_seed(0)
    context = Context(dim, qualities)
    for values in (context.usual, context.levels):
        values.data.normal_(0, 0.5)
    for layer in context.answers:
        layer.get_parameter("weight").data.mul_(5)
    return context


def drawn(count: int, grid: tuple[int, int], dim: int = 10, seed: int = 0) -> NDArray[np.int64]:
    """Symbols like those of images, with a few at the ends."""
    rng = np.random.default_rng(seed)
    steps = np.rint(3 * rng.standard_t(2, (count, *grid, dim))).clip(-REACH, REACH)
    return steps.astype(np.int64) + REACH


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("point", [8, 11, 16, 24])
def test_what_is_written_is_read(grid: tuple[int, int], point: int) -> None:
    contexts, symbols = Contexts.of(network(), REACH), drawn(3, grid)
    streams = contexts.encode(symbols, point)
    np.testing.assert_array_equal(contexts.decode(streams, grid, point), symbols)
    assert streams[1:2] == contexts.encode(symbols[1:2], point)  # whatever stands beside it


def test_many_at_once_have_the_bytes_of_each_alone() -> None:
    contexts, symbols = Contexts.of(network(), REACH), drawn(150, (2, 3))
    together = contexts.encode(symbols, 8)
    assert together == [contexts.encode(symbols[k : k + 1], 8)[0] for k in range(150)]
    np.testing.assert_array_equal(contexts.decode(together, (2, 3), 8), symbols)


@pytest.mark.parametrize("point", [8, 12, 20, 24])
def test_whole_numbers_price_as_the_network_does(point: int) -> None:
    rng, symbols = np.random.default_rng(0), drawn(4, (9, 8))
    parts = [part(code.astype(np.int16), rng) for code in drawn(30, (9, 8), seed=1) - REACH]
    context = learn_context(Context(10, 3), parts, [8, 16, 24] * 10, steps=60)
    contexts = Contexts.of(context, REACH)
    u = torch.from_numpy(symbols - REACH).float().flatten(1, 2)
    with torch.no_grad():
        nats = context(u, (9, 8), torch.full((4,), point / 8))
    bits = 8 * np.array([len(stream) for stream in contexts.encode(symbols, point)])
    np.testing.assert_allclose(bits, nats.numpy() / np.log(2), rtol=0.04)


def test_no_stage_looks_at_what_comes_later() -> None:
    contexts, symbols = Contexts.of(network(), REACH), drawn(1, (6, 5)) - REACH
    own = list(stages(10))
    for number, stage in enumerate(own):
        i, j = _cells(stage, (6, 5))
        before = contexts._choose(number, _framed(symbols), i, j, 8)
        changed = symbols.copy()
        for later in own[number:]:
            rows, columns = _cells(later, (6, 5))
            changed[:, rows, columns, later.start : later.stop] += 5
        after = contexts._choose(number, _framed(changed), i, j, 8)
        assert all((a == b).all() for a, b in zip(before, after, strict=True))


def test_stages_cover_every_symbol_once() -> None:
    for dim in (1, 2, 3, 4, 10, 64):
        seen = np.zeros((5, 4, dim), int)
        for stage in stages(dim):
            i, j = _cells(stage, (5, 4))
            seen[i, j, stage.start : stage.stop] += 1
        assert (seen == 1).all()


EXACT = """
import sys, hashlib, numpy as np, torch
from apercu.codec.contexts import Contexts
given = dict(np.load(sys.argv[1]))
torch.set_num_threads(2)
symbols = given.pop("symbols")
print(hashlib.sha256(b"".join(Contexts.read(given, 40).encode(symbols, 12))).hexdigest())
"""


def test_streams_are_alike_whatever_the_threads(tmp_path: Path) -> None:
    contexts, symbols = Contexts.of(network(), REACH), drawn(2, (30, 22))
    np.savez(tmp_path / "context.npz", symbols=symbols, **contexts.arrays())  # type: ignore[arg-type]
    environment = os.environ | {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-c", EXACT, str(tmp_path / "context.npz")]
    said = subprocess.run(command, capture_output=True, check=True, env=environment).stdout.decode().strip()
    assert said == hashlib.sha256(b"".join(contexts.encode(symbols, 12))).hexdigest()


def test_the_format_stays_as_it_is() -> None:
    """Weights that no library draws, so that the bytes are those of every version."""
    ramp = [np.arange(9 * s.known * 64).reshape(-1, 64) % 41 - 20 for s in stages(4)]
    answers = [(np.arange(64 * 2 * (s.stop - s.start)).reshape(64, -1) % 37 - 18) for s in stages(4)]
    tables = Contexts.of(Context(4, 2), 9).tables
    levels = (np.arange(len(ramp) * 2 * 64).reshape(-1, 2, 64) % 1001).astype(np.int32) << 12
    usual = (np.arange(16).reshape(2, 2, 4) << 17).astype(np.int32)
    kernels, answers = ([a.astype(np.int16) for a in arrays] for arrays in (ramp, answers))
    contexts = Contexts(tuple(kernels), tuple(answers), levels, usual, tables, 9)
    symbols = (np.arange(3 * 3 * 4).reshape(1, 3, 3, 4) * 7) % 19
    assert contexts.encode(symbols, 12)[0].hex() == "003a170427cb69ca141a8e7af68a66742c5a6dfed94d96f384977a"


def test_damaged_streams_are_refused_or_read_within_bounds() -> None:
    contexts, symbols = Contexts.of(network(), REACH), drawn(1, (4, 4))
    stream = contexts.encode(symbols, 8)[0]
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(stream)
        damaged[rng.integers(len(stream))] ^= 1 << int(rng.integers(8))
        try:
            read = contexts.decode([bytes(damaged)], (4, 4), 8)
        except FormatError:
            continue
        assert 0 <= read.min() <= read.max() <= 2 * REACH


def test_tables_that_do_not_fit_are_refused() -> None:
    contexts = Contexts.of(network(), REACH)
    for change in ({"usual": contexts.usual[:, :, :-1]}, {"levels": contexts.levels[:-1]}, {"answers": ()}):
        with pytest.raises(FormatError, match="do not fit"):
            dataclasses.replace(contexts, **change)  # type: ignore[arg-type]
    whole = Contexts.read(contexts.arrays(), REACH)
    assert whole.encode(drawn(1, (2, 2)), 8) == contexts.encode(drawn(1, (2, 2)), 8)


def test_learning_makes_symbols_cheaper() -> None:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.integers(-1, 2, (40, 20, 18, 10)), 2).clip(-REACH, REACH).astype(np.int16)
    parts = [part(code, rng) for code in smooth]
    assert parts[0].shape == (SIDE, SIDE, 10)
    context = Context(10, 2)
    learnt = learn_context(context, parts, [8] * 20 + [16] * 20, steps=40)
    held = torch.from_numpy(smooth[:8]).float().flatten(1, 2)
    with torch.no_grad():
        prices = [float(net(held, (20, 18), torch.ones(8)).mean()) for net in (context, learnt)]
    assert prices[1] < 0.9 * prices[0]
