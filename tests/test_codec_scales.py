"""Tables of a hyperprior, chosen in whole numbers alike everywhere."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from apercu.bottlenecks._hyper import REACH, Hyper
from apercu.codec.scales import Scales

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
