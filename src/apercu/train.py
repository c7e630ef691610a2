"""Training is a generator: one loop that yields its progress after every step.

Whoever drives it draws a bar, streams it or stops it. Everything random in step t comes from the seed and t alone, so
a run that was killed and resumed ends with the same weights, bit for bit, as one that was not.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor, nn

from apercu.average import Average
from apercu.beliefs import Beliefs
from apercu.checkpoint import NAME, load_checkpoint, save_checkpoint
from apercu.data.batches import Batches
from apercu.data.crops import centred
from apercu.data.images import ImageSet
from apercu.engine import choose_device, choose_precision, make_fabric, seed_noise
from apercu.errors import TrainingError
from apercu.model import Autoencoder
from apercu.tracking import Progress, Row, State, Tracker
from apercu.training import Training, passes, schedule
from apercu.types import Batch
from apercu.validate import sample_of, validate

SPREADING = 0.08
"""What spreading labels takes of the time of a run, about."""
PLANNED = (0.1, 0.2, 0.4)
"""Shares of the time after which the number of steps is planned anew."""
Value = TypeVar("Value")


class Pricing(nn.Module):
    """Tensors in, prices out: what is compiled, and what processes share."""

    def __init__(self, model: Autoencoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, y: Tensor, index: Tensor, taught: Tensor | None = None) -> dict[str, Tensor]:
        """(B, C, H, W), (B,), (B,), (B, K) → every term of the objective, (B,)."""
        return self.model.price(Batch(x, y, index, taught=taught))[0]


def train(
    model: Autoencoder,
    images: ImageSet,
    validation: ImageSet,
    settings: Training,
    folder: Path | None = None,
    resume: bool = False,
) -> Iterator[Progress]:
    """Train `model` in place; when the generator ends, it holds the averaged weights of the best validation.

    Raises:
        TrainingError: a price that is not finite, naming the term and the images; the last checkpoint stays.
    """
    if len(images) == 0:
        raise TrainingError("there are no images to train on; check the folder, and that not all of them are in test")
    run = _Run(model, images, validation, settings, folder)
    if resume:
        run.load()
    run.begin()
    if run.finished():  # it was stopped between its last step and its end
        yield run.progress({}, 0.0, None)
    while not run.finished():
        epoch, skipped = divmod(run.state.step, run.per_epoch)
        for batch in run.batches.epoch(epoch, skipped, run.device):
            progress = run.step(batch)
            try:
                yield progress
            except GeneratorExit:  # whoever drives it stops here: keep what is done
                run.save()
                raise
            if run.finished():
                break
    run.end()


class _Run:
    """The parts of one training run; `state` and the tensors of `modules` are all that a checkpoint needs."""

    def __init__(
        self, model: Autoencoder, images: ImageSet, validation: ImageSet, settings: Training, folder: Path | None
    ) -> None:
        self.model, self.images, self.settings, self.folder = model, images, settings, folder
        self.validation = centred(sample_of(validation if len(validation) else images), settings.crop)
        self.device = choose_device(settings.device)
        self.fabric = make_fabric(self.device, choose_precision(settings.precision, self.device, model))
        model.to(self.fabric.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = Average(model, settings.ema)
        self.best = copy.deepcopy(model)
        self.modules: dict[str, nn.Module] = {"model": model, "average": self.average.module, "best": self.best}
        teaches = model.objective.teaches
        self.beliefs = Beliefs(images, settings.labelled_share, settings.balance) if teaches else None
        if self.beliefs is not None:
            self.modules["beliefs"] = self.beliefs.to(self.fabric.device)
        self.learnt = learnt = [p for p in model.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in learnt if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in learnt if p.ndim <= 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=self.device != "mps")
        pricing = Pricing(model)
        if settings.compile:
            pricing.compile()
        self.pricing, self.wrapped_optimizer = self.fabric.setup(pricing, self.optimizer)
        size, rank, processes = min(settings.batch, len(images)), self.fabric.global_rank, self.fabric.world_size
        share = settings.labelled_share
        self.batches = Batches(images, size, settings.seed, share, settings.balance, rank, processes, settings.crop)
        self.per_epoch = len(self.batches)
        self.state = State(steps=None if settings.minutes else passes(settings, self.per_epoch) * self.per_epoch)

    def load(self) -> None:
        """Go on from the checkpoint in the folder."""
        if self.folder is None:
            raise TrainingError("a run without a folder cannot be resumed; name the model's folder")
        self.state = State(**load_checkpoint(self.folder / NAME, self.modules, self.optimizer))

    def save(self) -> None:
        """Write a checkpoint, whole or not at all."""
        if self.folder is not None and self.fabric.is_global_zero:
            save_checkpoint(self.folder / NAME, self.modules, self.optimizer, dataclasses.asdict(self.state))
        self.saved = time.monotonic()

    def begin(self) -> None:
        """Start the clocks."""
        self.tracker = Tracker(self.folder if self.fabric.is_global_zero else None, self.state.step)
        self.saved = time.monotonic()
        self.started = self.saved - self.state.seconds
        self.clocked: tuple[int, float] | None = None

    def finished(self) -> bool:
        """All steps are done, the time is up, or validation stopped improving."""
        state = self.state
        tired = 0 < self.settings.patience <= state.waited
        return state.late or tired or (state.steps is not None and state.step >= state.steps)

    def step(self, batch: Batch) -> Progress:
        """One step of the optimiser, and a validation where one is due."""
        state, settings = self.state, self.settings
        begun = time.monotonic()
        self.model.train()
        seed_noise((settings.seed * 1_000_003 + state.step) * 1009 + self.fabric.global_rank, self.device)
        progress = state.step / state.steps if state.steps else 0.0
        if self.beliefs is not None and self.beliefs.due(progress):
            self.beliefs.renew(self.average.module, self.device, self.fabric.autocast())
        for group in self.optimizer.param_groups:
            group["lr"] = settings.learning_rate * schedule(state.step, state.steps)
        prices = self._descend(batch, progress)
        self.average.update(state.step)
        state.step += 1
        state.summed += 1
        for name, price in prices.items():
            state.sums[name] = state.sums.get(name, 0.0) + price
        state.seconds = time.monotonic() - self.started
        if settings.minutes is not None:
            self._keep_to(60 * settings.minutes)
        row = self._validate() if self._due() else None
        if time.monotonic() - self.saved > settings.checkpoint_seconds:
            self.save()
        speed = len(batch.y) * self.fabric.world_size / max(time.monotonic() - begun, 1e-9)
        return self.progress(prices, speed, row)

    def progress(self, prices: dict[str, float], speed: float, row: Row | None) -> Progress:
        """What whoever drives the run is told."""
        state = self.state
        epoch = (state.step - 1) // self.per_epoch
        where = (state.step, state.steps, epoch, state.seconds)
        return Progress(*where, prices, speed, row, state.history, state.kept, state.warnings)

    def _descend(self, batch: Batch, progress: float) -> dict[str, float]:
        """Gradients of the mean price per pixel, in `accumulate` parts, clipped; then the optimiser's step."""
        parts = min(self.settings.accumulate, len(batch.y))
        means: dict[str, Tensor] = {}
        chunks = list(zip(batch.x.chunk(parts), batch.y.chunk(parts), batch.index.chunk(parts), strict=True))
        for number, (x, y, index) in enumerate(chunks, start=1):
            taught = self.beliefs.of(index) if self.beliefs is not None else None
            with self.fabric.no_backward_sync(self.pricing, enabled=number < len(chunks)):
                prices: dict[str, Tensor] = self.pricing(x, y, index, taught)
                share = len(y) / len(batch.y)
                total = self.model.objective.total(prices, progress)
                if not torch.isfinite(total).all():
                    raise self._not_finite(prices, index)
                self.fabric.backward(share * total.mean() / x[0].numel())
            for name, price in prices.items():
                means[name] = means.get(name, torch.zeros(())) + share * price.detach().mean().cpu()
        norm = nn.utils.clip_grad_norm_(self.learnt, self.settings.clip)
        if not torch.isfinite(norm):
            raise TrainingError(self._stopped("the gradient", batch.index))
        self.wrapped_optimizer.step()
        self.optimizer.zero_grad()
        return {name: float(mean) for name, mean in means.items()}

    def _not_finite(self, prices: dict[str, Tensor], index: Tensor) -> TrainingError:
        name = next((name for name, price in prices.items() if not torch.isfinite(price).all()), "total")
        bad = ~torch.isfinite(prices[name]) if name in prices else torch.ones_like(index, dtype=torch.bool)
        return TrainingError(self._stopped(f"the term {name!r}", index[bad]))

    def _stopped(self, what: str, index: Tensor) -> str:
        named = ", ".join(self.images.ids[int(i)] for i in index[:5])
        more = f" and {len(index) - 5} more" if len(index) > 5 else ""
        kept = " The last checkpoint is kept." if self.folder is not None else ""
        return (
            f"{what} stopped being finite at step {self.state.step} for {named}{more}; "
            f"look at these images, lower the learning rate, or train with precision 32.{kept}"
        )

    def _keep_to(self, budget: float) -> None:
        """Fix the number of steps that fit into `budget` seconds by the speed so far, a few times while there is much
        time left: a machine may be busy with something else for a while. Stop when the time is spent."""
        state = self.state
        spent = self._first_says(state.seconds)
        state.late = spent >= budget
        if self.clocked is None or state.step <= 3:  # the first steps allocate and compile
            self.clocked = (state.step, spent)
        first = min(20.0, 0.05 * budget)
        plans = sum(spent >= moment for moment in (first, *(share * budget for share in PLANNED)))
        steps, seconds = state.step - self.clocked[0], spent - self.clocked[1]
        if plans > state.plans and seconds >= first:  # all processes have the first one's clock
            spreading = SPREADING if self.beliefs is not None and not self.beliefs.complete else 0.0
            left = (0.92 - spreading) * budget - spent
            state.steps = state.step + max(1, int(left * steps / max(seconds, 1e-9)))
            state.plans = plans
            self.save()

    def _first_says(self, value: Value) -> Value:
        """The first process's value: clocks differ, and all must take the same steps."""
        return self.fabric.broadcast(value) if self.fabric.world_size > 1 else value

    def _due(self) -> bool:
        """After whole epochs, at most about `validations` times, and at the end."""
        state = self.state
        if self.finished():
            return True
        every = max(1, (state.steps or 0) // self.settings.validations // self.per_epoch) * self.per_epoch
        return state.step % every == 0

    def _validate(self) -> Row:
        """Validate the averaged weights, keep them if they are the best so far, and write the history."""
        state = self.state
        model = self.average.module
        result = validate(model, self.validation, self.settings.batch, self.device, self.fabric.autocast())
        row: Row = {"step": state.step, "epoch": state.step / self.per_epoch, "seconds": round(state.seconds, 2)}
        row |= {f"train_{name}": value / state.summed for name, value in state.sums.items()}
        row |= {f"val_{name}": value for name, value in result.prices.items()}
        if result.accuracy is not None:
            row["val_accuracy"] = result.accuracy
        if result.health is not None:
            row |= result.health.measures
            state.warnings = result.health.warnings
        row["learning_rate"] = self.optimizer.param_groups[0]["lr"]
        state.sums, state.summed = {}, 0
        improved = result.score <= state.best
        state.waited = 0 if improved else state.waited + 1
        if improved:
            state.best = result.score
            state.kept = row
            self.best.load_state_dict(model.state_dict())
        state.history.append(row)
        self.tracker.write(state.history)
        return row

    def end(self) -> None:
        """Keep the best weights, and the checkpoint that says that the run is over."""
        self.save()
        self.model.load_state_dict(self.best.state_dict())
        self.model.cpu().eval()
        self.tracker.close()
