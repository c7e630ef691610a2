"""What is searched: factors of the defaults, so that the first trial of each preset is its defaults themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from apercu.presets import defaults
from apercu.training import Training

if TYPE_CHECKING:
    from optuna.trial import Trial

SIZES = {"dim": (-2, 2), "width": (-2, 1)}
"""Powers of two: a quarter to four times the latent size, a quarter to twice the width."""
WEIGHTS = {"beta": (0.1, 10.0), "lam": (0.1, 10.0)}
RATE = (0.25, 4.0)


@dataclass(frozen=True)
class Choice:
    """One point of the space: what `apercu fit` is told."""

    preset: str
    settings: dict[str, Any]
    learning_rate: float


@dataclass(frozen=True)
class Space:
    """The presets to choose from, with `pinned` settings, for images of `dimensions` numbers.

    Where trials are judged by price, the weights stay: their best value for it is 1 by definition.
    """

    presets: tuple[str, ...]
    pinned: dict[str, Any]
    dimensions: int
    weights: bool
    learning_rate: float | None = None

    def choose(self, trial: Trial) -> Choice:
        """Let the trial choose; numbers have three digits, so that a command that is typed gives the same."""
        several = len(self.presets) > 1
        preset = trial.suggest_categorical("preset", self.presets) if several else self.presets[0]
        usual, settings = defaults(preset), dict(self.pinned)
        for name, (low, high) in SIZES.items():
            if name in usual and name not in settings:
                settings[name] = max(1, int(usual[name] * 2 ** trial.suggest_int(f"{preset}.{name}", low, high)))
        for name, (least, most) in WEIGHTS.items() if self.weights else ():
            base = self._base(preset, name)
            if base and name not in settings:
                settings[name] = three_digits(base * trial.suggest_float(f"{preset}.{name}", least, most, log=True))
        if self.learning_rate is not None:
            return Choice(preset, settings, self.learning_rate)
        factor = trial.suggest_float(f"{preset}.learning_rate", *RATE, log=True)
        return Choice(preset, settings, three_digits(Training.learning_rate * factor))

    def usual(self, preset: str) -> dict[str, Any]:
        """The trial that is the defaults of `preset`."""
        known = defaults(preset)
        sizes = {f"{preset}.{name}": 0 for name in SIZES if name in known}
        weights = {f"{preset}.{name}": 1.0 for name in WEIGHTS if self.weights and self._base(preset, name)}
        return {"preset": preset, **sizes, **weights, f"{preset}.learning_rate": 1.0}

    def _base(self, preset: str, name: str) -> float:
        """The default weight, 0 where there is none to search; `vae_cnn` takes λ 0 for the numbers in an image."""
        if name == "lam":
            return float(self.dimensions) if preset == "vae_cnn" else 0.0
        return float(defaults(preset).get(name, 0.0))


def three_digits(value: float) -> float:
    """0.0123, 123."""
    return float(f"{value:.3g}")
