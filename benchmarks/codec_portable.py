"""A file that one way of computing wrote, read by another: are the symbols the same, image by image?

Written with one thread in float32, eagerly; read in another process with two threads, under bf16 autocast, encoder and
decoder compiled; and, where the package is there, with ONNX Runtime in place of the network in whole numbers that says
which table a symbol was written with. Models are trained for a few minutes on Fashion-MNIST: `codec` with a hyperprior
and with a context, the hard cases, and `vqvae`. 10,000 test images, an .apc file each.

Two controls say whether the ways differ at all: the largest difference of the pixels that they decode to, and how many
images would be lost if the tables were chosen in floating point.

Run: python benchmarks/codec_portable.py [--minutes 3] [--images 10000]     (onnx and onnxruntime on PYTHONPATH)
     python benchmarks/codec_portable.py --minutes 0.1 --images 50 --backend eager --name try --folder /tmp/try
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import apercu
from apercu.api import BATCH
from apercu.bottlenecks._hyper import SCALES, STRIDE, Hyper
from apercu.bottlenecks.rated import Rated
from apercu.codec.codec import Codec, kept_codec
from apercu.codec.coders import decoders
from apercu.codec.container import Coded, from_file, to_file
from apercu.codec.contexts import Contexts
from apercu.codec.ladder import LADDER
from apercu.codec.scales import Conditional
from apercu.data.images import ImageSet
from apercu.tasks.compress import Compress
from apercu.training import Training
from apercu.types import Grid

from in_onnx import ContextsInOnnx, InOnnx
from pictures import idx
from record import Record

MODELS: dict[str, tuple[str, dict[str, Any], float]] = {
    "codec": ("codec", {"prior": "hyper", "depth": 2, "dim": 16, "lam": 60.0}, 1.0),
    "codec, context": ("codec", {"prior": "context", "depth": 2, "dim": 16, "lam": 60.0}, 1.0),
    "vqvae": ("vqvae", {"encoder": "conv"}, 1 / 3),
}
"""Preset, settings, and the share of the minutes that it is trained for."""
FEW = 500
"""Images that are decoded to pixels too."""


def codec_of(folder: Path) -> Codec:
    """The codec of the model that is kept there."""
    codec = kept_codec(apercu.load(folder / "model", device="cpu"))
    if codec is None:
        raise TypeError("the tables are learnt when it writes")
    return codec


def write(folder: Path, name: str, minutes: float, images: int) -> dict[str, Any]:
    """Train where there is no model yet, write every image, and keep which symbols were written."""
    if not (folder / "model" / "apercu.json").exists():
        learnt = idx("fashion_mnist", "train", 60_000)
        training = Training(minutes=minutes, learning_rate=1e-3, precision="32", device="cpu")
        pixels = learnt.read(np.arange(len(learnt)))
        preset, settings, _ = MODELS[name]
        model = apercu.fit(pixels, preset=preset, settings=settings, training=training, out=folder / "model")
        Compress(model).fit(model.images(idx("fashion_mnist", "train", min(20_000, 20 * images))))
    codec, test = codec_of(folder), idx("fashion_mnist", "test", images)
    (folder / "files").mkdir(exist_ok=True)
    with patch("apercu.codec.codec.fast_bf16", return_value=False):  # float32, wherever this runs
        started, written = time.monotonic(), written_by(codec, test)
        decoded = np.stack(codec.decode(written[:FEW]))
    for k, coded in enumerate(written):
        (folder / "files" / f"{k:05d}.apc").write_bytes(to_file(coded, codec.fingerprint))
    seconds = time.monotonic() - started
    np.save(folder / "symbols.npy", symbols_of(codec, test))
    np.save(folder / "pixels.npy", decoded)
    return {"files": len(written), "seconds": round(seconds, 1), "threads": torch.get_num_threads()}


def written_by(codec: Codec, images: ImageSet) -> list[Coded]:
    """Every image, coded."""
    return [coded for batch in codec.encode(images) for _, coded in batch]


def symbols_of(codec: Codec, images: ImageSet) -> NDArray[np.int16]:
    """What the network makes of the images, before anything is written: (B, N, S)."""
    outputs = codec.model.outputs(images, decode=False)
    return np.concatenate([codec.symbols.of(output.code).numpy().astype(np.int16) for _, output in outputs])


def coded(folder: Path, codec: Codec) -> list[Coded]:
    """What the files hold."""
    return [from_file(path.read_bytes(), codec.fingerprint) for path in sorted((folder / "files").iterdir())]


def equal(codec: Codec, files: list[Coded], folder: Path) -> dict[str, Any]:
    """How many files have the symbols that were written."""
    started, known, same = time.monotonic(), np.load(folder / "symbols.npy"), 0
    for start in range(0, len(files), BATCH):
        symbols = codec.read_symbols(files[start : start + BATCH]).numpy()
        same += int((symbols == known[start : start + BATCH]).all((1, 2)).sum())
    seconds = round(time.monotonic() - started, 1)
    return {"files": len(files), "symbols_equal": same, "seconds": seconds, "threads": torch.get_num_threads()}


def read(folder: Path, backend: str) -> dict[str, Any]:
    """In bf16, compiled."""
    codec = codec_of(folder)
    network, files, eager = codec.model.network, coded(folder, codec), codec_of(folder)
    network.encoder.compile(backend=backend)
    network.decoder.compile(backend=backend)
    with torch.autocast("cpu", torch.bfloat16):
        result = equal(codec, files, folder)
        pixels = np.stack(codec.decode(files[:FEW])).astype(int)
    result["largest_pixel_difference"] = int(np.abs(pixels - np.load(folder / "pixels.npy")).max())
    if isinstance(codec.writer, Conditional):
        result["lost_if_floats_chose"] = sum(
            int(floats_differ(codec, eager, files[start : start + BATCH]).sum())
            for start in range(0, len(files), BATCH)
        )
    return result


def floats_differ(codec: Codec, eager: Codec, files: list[Coded]) -> NDArray[np.bool_]:
    """Whether the hyperprior's own network, in bf16, names any other table than it does in float32: (B,)."""
    writer, head = codec.writer, files[0].head
    if not isinstance(writer, Conditional):
        raise TypeError("a hyperprior chooses tables")
    grid = codec.model.network.grid(head.size)
    coarse = (-(-grid[0] // STRIDE), -(-grid[1] // STRIDE))
    coders = decoders([file.streams[0] for file in files], 1)
    h = writer.prior.read(coders, len(files), coarse, head.quality) - writer.prior.alphabet // 2
    side = torch.from_numpy(h).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        usual = tables(hyper_of(eager), side, grid)
        with torch.autocast("cpu", torch.bfloat16):
            other = tables(hyper_of(codec), side, grid)
    return (usual != other).flatten(1).any(1).numpy()


def hyper_of(codec: Codec) -> Hyper:
    """Its hyperprior."""
    bottleneck = codec.model.network.bottleneck
    if not isinstance(bottleneck, Rated) or bottleneck.hyper is None:
        raise TypeError("a hyperprior chooses tables")
    return bottleneck.hyper


def tables(hyper: Hyper, h: Tensor, grid: Grid) -> Tensor:
    """μ in eighths and the step of ln σ, as `Scales.choose` takes them, but in floating point: (B, N, 2·D)."""
    mean, log_scale = (value.float() for value in hyper.answer(h, grid))
    scale = (8 * (log_scale - SCALES[0])).floor().clamp(0, LADDER - 1)
    return torch.cat([(8 * mean + 0.5).floor(), scale], -1)


def read_onnx(folder: Path) -> dict[str, Any]:
    """With ONNX Runtime in place of the network in whole numbers."""
    codec = codec_of(folder)
    files, writer = coded(folder, codec), codec.writer
    if isinstance(writer, Contexts):
        own = {part.name: getattr(writer, part.name) for part in dataclasses.fields(writer)}
        codec.writer = ContextsInOnnx(**own, threads=torch.get_num_threads())
        return equal(codec, files, folder)
    if not isinstance(writer, Conditional):
        raise TypeError("a hyperprior or a context has a network")
    grid = codec.model.network.grid(files[0].head.size)
    coarse = (-(-grid[0] // STRIDE), -(-grid[1] // STRIDE))
    scales: Any = InOnnx(writer.scales, coarse, grid, torch.get_num_threads())
    codec.writer = dataclasses.replace(writer, scales=scales)
    return equal(codec, files, folder)


def elsewhere(threads: int, given: dict[str, Any]) -> Any:  # noqa: ANN401
    """Run a step in a process of its own, on so many threads."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    command = [sys.executable, __file__, "--step", json.dumps(given)]
    said = subprocess.run(command, stdout=subprocess.PIPE, check=True, env=environment).stdout
    return json.loads(said.splitlines()[-1])


def step(folder: str, how: str, **given: Any) -> dict[str, Any]:  # noqa: ANN401
    """What `elsewhere` asks for."""
    steps: dict[str, Callable[..., dict[str, Any]]] = {"write": write, "read": read, "onnx": read_onnx}
    return steps[how](Path(folder), **given)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=3.0, help="of training codec; vqvae a third of it")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--backend", default="inductor", help="of torch.compile, for the reader")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/apercu-portable"))
    parser.add_argument("--name", default="codec_portable", help="of the results")
    parser.add_argument("--step", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step is not None:
        print(json.dumps(step(**arguments.step)))
        sys.exit()
    record = Record(arguments.name, "files written with one thread in float32 whose symbols other ways read alike")
    for name, (_, settings, share) in MODELS.items():
        place = arguments.folder / name.replace(", ", "-")
        place.mkdir(parents=True, exist_ok=True)
        at = {"folder": str(place)}
        size = {"name": name, "minutes": share * arguments.minutes, "images": arguments.images}
        record.once(f"{name}: written, 1 thread, float32", partial(elsewhere, 1, at | {"how": "write"} | size))
        way = at | {"how": "read", "backend": arguments.backend}
        record.once(f"{name}: read, 2 threads, bf16, compiled", partial(elsewhere, 2, way))
        there = importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx")
        if "prior" in settings and there:
            record.once(f"{name}: read, 2 threads, ONNX Runtime", partial(elsewhere, 2, at | {"how": "onnx"}))
