"""Twenty SIGKILLs at random moments of `fit`, each resumed: the final weights must be those of a run left alone.

Run: python benchmarks/sigkill.py [--kills 20]
"""

from __future__ import annotations

import argparse
import hashlib
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from record import Record

CHILD = """
import sys
import apercu
from apercu.fitting import RUN
from pathlib import Path
out = Path(sys.argv[1])
training = apercu.Training(epochs=12, batch=64, checkpoint_seconds=0.3, device="cpu")
settings = {"width": 8}
job = apercu.prepare(
    "sklearn:digits", preset=sys.argv[2], labels=100, settings=settings, training=training, out=out,
    resume=(out / RUN).exists(), overwrite=True,
)
for _ in job.run():
    pass
job.finish()
"""


def start(out: Path, preset: str) -> subprocess.Popen[bytes]:
    """A process that fits, or goes on where it was killed."""
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", CHILD, str(out), preset])


def weights(out: Path) -> str:
    """The hash of the weights."""
    return hashlib.sha256((out / "model.safetensors").read_bytes()).hexdigest()


def main(kills: int) -> None:
    """Kill and resume until all kills are spent; every run that ends is compared."""
    record = Record("sigkill", "SIGKILLs at random moments of fit, each resumed, against a run left alone")
    rng = np.random.default_rng(0)
    done, equal, runs = 0, 0, 0
    presets = ("vae_cnn", "vqvae")
    with tempfile.TemporaryDirectory() as folder:
        alone, seconds = {}, {}
        for preset in presets:
            started = time.monotonic()
            start(Path(folder, preset), preset).wait()
            seconds[preset] = time.monotonic() - started
            alone[preset] = weights(Path(folder, preset))
        while done < kills:
            preset = presets[runs % len(presets)]
            out = Path(folder, f"run {runs}")
            process = start(out, preset)
            while done < kills:
                try:
                    process.wait(float(rng.uniform(0.1, seconds[preset])))
                    break
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.wait()
                    done += 1
                    process = start(out, preset)
            process.wait()
            runs += 1
            equal += weights(out) == alone[preset]
            print(f"{done} kills, {runs} runs, {equal} with the weights of a run left alone", flush=True)
    record.put("result", {"kills": done, "runs": runs, "equal": equal, "presets": list(presets)})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    main(parser.parse_args().kills)
