"""A store of codes: 100,000 images encoded under three SIGKILLs, and the index against comparing every row.

Run: python benchmarks/store.py [--rows 100000] [--parts kill,search]
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits

import apercu
from apercu.codes.store import Codes
from apercu.codes.table import ABOUT, About, Table

from record import Record

CHILD = """
import sys
import apercu
apercu.encode(apercu.load(sys.argv[1], device="cpu"), sys.argv[2], sys.argv[3])
"""
KILLS, DIM, NEIGHBOURS = 3, 128, 10
IN_CLUSTER = 100


def kill(rows: int) -> dict[str, Any]:
    """Encode under three SIGKILLs, each at a random moment of its third of the work, and count the rows."""
    rng = np.random.default_rng(0)
    digits = load_digits().images.astype(np.uint8) * 15
    x = digits[np.arange(rows) % len(digits)] + rng.integers(0, 16, (rows, 8, 8), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        photos, model_at, out = Path(folder, "photos.npz"), Path(folder, "model"), Path(folder, "codes")
        np.savez(photos, x=x)
        training = apercu.Training(epochs=1, batch=64, device="cpu")
        model = apercu.fit(x[:1000, None], preset="vae", settings={"width": 4, "dim": 8}, training=training)
        model.save(model_at)
        started, done = time.monotonic(), []
        for number in range(KILLS):
            process = start(model_at, photos, out)
            wanted = rows * (number + rng.uniform(0.2, 0.8)) / KILLS
            while process.poll() is None and count(out) < wanted:
                time.sleep(0.02)
            time.sleep(float(rng.uniform(0, 0.2)))
            process.send_signal(signal.SIGKILL)
            if process.wait() == -signal.SIGKILL:
                done.append(count(out))
        if start(model_at, photos, out).wait() != 0:
            raise RuntimeError("the last run failed")
        seconds = time.monotonic() - started
        names = Counter(Table(out).read(["id"])["id"].to_pylist())
        codes, some = Codes(out), np.sort(rng.permutation(rows)[:1000])
        images = model.images(str(photos))
        there = [codes.places[images.ids[row]] for row in some if images.ids[row] in codes.places]
        wrong = ~np.isclose(codes.vectors(there), model.features(images.subset(some)), atol=1e-5).all(1)
        return {
            "rows": rows,
            "kills": len(done),
            "rows_at_each_kill": done,
            "lost": len(set(images.ids) - set(names)),
            "doubled": sum(names.values()) - len(names),
            "wrong_of_1000": int(wrong.sum()),
            "seconds": seconds,
        }


def start(model: Path, photos: Path, out: Path) -> subprocess.Popen[bytes]:
    """A process that encodes, or goes on where it was killed."""
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", CHILD, str(model), str(photos), str(out)])


def count(folder: Path) -> int:
    """Rows that are in the table."""
    return len(Table(folder)) if (folder / ABOUT).is_file() else 0


def clustered(rows: int, clusters: int, rng: np.random.Generator) -> np.ndarray:
    """Normal clusters around normal centres, (rows, 128); within a cluster a dimension has half the deviation."""
    centres = np.random.default_rng(1).normal(size=(clusters, DIM))
    return (centres[rng.integers(0, clusters, rows)] + 0.5 * rng.normal(size=(rows, DIM))).astype(np.float32)


def keep(vectors: np.ndarray, folder: Path) -> Codes:
    """A folder of codes with these vectors and nothing else."""
    about = About("none", "", "none", "", {}, 1, "", DIM, DIM)
    table = Table(folder, DIM)
    for begin in range(0, len(vectors), 10_000):
        some = vectors[begin : begin + 10_000]
        values: dict[str, Any] = {field.name: pa.nulls(len(some), field.type) for field in table.schema}
        values["id"] = [str(begin + k) for k in range(len(some))]
        values["place"] = np.arange(begin, begin + len(some))
        values["vector"] = pa.FixedSizeListArray.from_arrays(pa.array(some.reshape(-1)), DIM)
        table.add(pa.table(values, table.schema))
    (folder / ABOUT).write_bytes(about.to_bytes())
    return Codes(folder)


def brute(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """The ten nearest rows to each query by one product of matrices, in blocks of 64 queries."""
    lengths, found = np.einsum("nk,nk->n", vectors, vectors), []
    for begin in range(0, len(queries), 64):
        scores = lengths - 2 * queries[begin : begin + 64] @ vectors.T
        few = np.argpartition(scores, NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        order = np.take_along_axis(scores, few, 1).argsort(1)
        found.append(np.take_along_axis(few, order, 1))
    return np.concatenate(found)


def find(rows: int) -> dict[str, Any]:
    """Recall of the ten nearest by the index, and its time beside brute force: all queries at once, and one by one."""
    rng = np.random.default_rng(0)
    vectors, queries = (clustered(count, rows // IN_CLUSTER, rng) for count in (rows, 1000))
    with tempfile.TemporaryDirectory() as folder:
        codes = keep(vectors, Path(folder))
        began = time.perf_counter()
        parts = codes.index()
        built = time.perf_counter() - began
        codes.search(queries[:10], NEIGHBOURS, exact=False)  # what is read once
        together, found = timed(lambda: codes.search(queries, NEIGHBOURS, exact=False))
        all_rows, truth = timed(lambda: brute(vectors, queries))
        singles = queries[:50]
        alone, _ = timed(lambda: [codes.search(query[None], NEIGHBOURS, exact=False) for query in singles])
        rows_alone, _ = timed(lambda: [brute(vectors, query[None]) for query in singles])
        hits = [len({int(hit.id) for hit in row} & set(true.tolist())) for row, true in zip(found, truth, strict=True)]
    return {
        "rows": rows,
        "parts": parts,
        "build_seconds": built,
        "recall_at_10": float(np.mean(hits)) / NEIGHBOURS,
        "ms": 1e3 * together / len(queries),
        "brute_ms": 1e3 * all_rows / len(queries),
        "times_faster": all_rows / together,
        "one_by_one": {
            "ms": 1e3 * alone / len(singles),
            "brute_ms": 1e3 * rows_alone / len(singles),
            "times_faster": rows_alone / alone,
        },
    }


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """The faster of two times, in seconds, and what came out."""
    best, out = float("inf"), None
    for _ in range(2):
        began = time.perf_counter()
        out = work()
        best = min(best, time.perf_counter() - began)
    return best, out


def main(rows: int, parts: list[str]) -> None:
    """Measure what is not measured yet."""
    record = Record("store", "a store of codes: rows after three SIGKILLs, and the index against comparing every row")
    measures = {"kill": kill, "search": find}
    for part in parts:
        record.once(f"{part} {rows}", lambda part=part: measures[part](rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--parts", default="kill,search")
    given = parser.parse_args()
    main(given.rows, given.parts.split(","))
