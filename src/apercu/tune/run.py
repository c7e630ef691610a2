"""Trial after trial within a budget; Optuna chooses, stops the hopeless ones early, and keeps the log to go on from.

Akiba et al., "Optuna: a next-generation hyperparameter optimization framework" (2019); its sampler is the
tree-structured Parzen estimator of Bergstra et al. (2011), and a trial is given up when it is worse than the median of
the others at that point.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apercu.checkpoint import write_atomically
from apercu.data.images import fingerprint
from apercu.errors import ApercuError, FormatError, TrainingError
from apercu.fitting import prepare
from apercu.presets import build, defaults
from apercu.study import Budget, Drive, check_question, to_the_end
from apercu.tracking import Row
from apercu.training import Training
from apercu.tune.judge import Judge
from apercu.tune.space import Choice, Space

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.trial import FrozenTrial

    from apercu.tracking import Progress

LOG, TABLE = "trials.journal", "trials.csv"
RUNGS, FIRST = 10, 3  # a trial can be given up at so many tenths of its length, from the third on
TOGETHER = ("vae_cnn", "vae")
SHARE = 0.1  # of the budget, for one trial


@dataclass(frozen=True)
class Tried:
    """A trial that is over: "finished", "given up" or "failed"; its value is an accuracy or a price."""

    number: int
    state: str
    value: float | None
    choice: Choice
    seconds: float


class Tuning:
    """The trials of one question, kept in `folder`.

    `presets`: which to choose from; by default vae_cnn and vae, or vae where there are no labels. `pinned`: settings
    that are not searched; `learning_rate`: the same. `training` says how long a trial is; where it names neither epochs
    nor minutes, a trial takes a tenth of `minutes`, or what it took when the search began.

    Raises:
        ApercuError: Optuna is missing, settings do not fit, or the folder holds the answers to another question.
    """

    def __init__(
        self,
        judge: Judge,
        folder: Path,
        *,
        minutes: float,
        presets: Sequence[str] = (),
        pinned: dict[str, Any] | None = None,
        learning_rate: float | None = None,
        training: Training | None = None,
        overwrite: bool = False,
        drive: Drive = to_the_end,
    ) -> None:
        self.judge, self.folder, self.drive = judge, folder, drive
        image, pinned = judge.data.train.spec, pinned or {}
        usual = [
            name for name in (TOGETHER if judge.by_accuracy else ("vae",)) if pinned.keys() <= defaults(name).keys()
        ]
        self.space = Space(tuple(presets or usual), pinned, image.dimensions, judge.by_accuracy, learning_rate)
        if not judge.by_accuracy and len(self.space.presets) != 1:
            raise ApercuError("without labels only prices can be compared, and only those of one preset: name one")
        for preset in self.space.presets:  # says what does not fit, before any work
            build(preset, image, len(judge.data.train.classes), pinned)
        if overwrite:
            for name in (LOG, f"{LOG}.lock", TABLE):
                (folder / name).unlink(missing_ok=True)
        self.study = self._open((training or Training()).seed)
        self.training = self._length(training or Training(), minutes)
        self._check()

    @property
    def tried(self) -> list[Tried]:
        """All trials that are over."""
        states = {"COMPLETE": "finished", "PRUNED": "given up", "FAIL": "failed"}
        return [
            Tried(t.number, states[t.state.name], t.value, _choice(t), t.user_attrs["seconds"])
            for t in self.study.get_trials(deepcopy=False)
            if t.state.name in states and "seconds" in t.user_attrs
        ]

    @property
    def best(self) -> Tried | None:
        """The best of the finished trials."""
        finished = [tried for tried in self.tried if tried.state == "finished"]
        return max(finished, key=self._goodness, default=None)

    @property
    def usual(self) -> Tried | None:
        """The best of the trials with the defaults of a preset, which are the first ones."""
        kept = [t for t in self.tried[: len(self.space.presets)] if t.state == "finished"]
        return max(kept, key=self._goodness, default=None)

    def run(self, budget: Budget, trials: int | None = None) -> Iterator[Tried]:
        """Try until the budget is spent or there are so many trials.

        Raises:
            ApercuError: less than one trial is asked for.
            TooLong: the next training would not end in time; it is the first one of the next call.
        """
        import optuna

        if trials is not None and trials < 1:
            raise ApercuError(f"{trials} trials find nothing: ask for at least 1")
        self._take_up()
        while (trials is None or len(self.tried) < trials) and self._another_fits(budget):
            trial = self.study.ask()
            choice = self.space.choose(trial)
            trial.set_user_attr("choice", dataclasses.asdict(choice))
            started = time.monotonic()
            value, state, reason = None, optuna.trial.TrialState.COMPLETE, ""
            try:
                value = self._measure(trial, choice, budget)
            except optuna.TrialPruned:
                state = optuna.trial.TrialState.PRUNED
            except TrainingError as error:
                state, reason = optuna.trial.TrialState.FAIL, str(error)
            trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
            trial.set_user_attr("reason", reason)
            self.study.tell(trial, value, state)
            self._write_table()
            yield self.tried[-1]

    def _measure(self, trial: Trial, choice: Choice, budget: Budget) -> float:
        training = dataclasses.replace(self.training, learning_rate=choice.learning_rate)
        job = prepare(self.judge.data, preset=choice.preset, settings=choice.settings, training=training)
        last: Row = {}
        self.drive(budget.watch(self._report(trial, job.run(), last)))
        return self.judge.at_the_end(job.finish(), last, self.training.seed)

    def _report(self, trial: Trial, run: Iterator[Progress], last: Row) -> Iterator[Progress]:
        """The same training, whose validations Optuna hears of, at most once in each tenth; `last` is the last one.

        Raises:
            TrialPruned: it is worse than most were at that point.
        """
        import optuna

        told = 0
        for progress in run:
            if progress.row is not None:
                last.update(progress.row)
                rung = int(RUNGS * self._done(progress))
                value = self.judge.on_the_way(progress.row)
                if value is not None and told < rung < RUNGS:
                    told = rung
                    trial.report(value, rung)
                    if trial.should_prune():
                        raise optuna.TrialPruned
            yield progress

    def _done(self, progress: Progress) -> float:
        if self.training.minutes is not None:
            return progress.seconds / (60 * self.training.minutes)
        return progress.step / progress.steps if progress.steps else 0.0

    def _another_fits(self, budget: Budget) -> bool:
        """Whether there is time for one more; one is always tried."""
        needed = 60 * (self.training.minutes or 0.0)
        return budget.left > 0.9 * needed or (budget.left > 0 and not self.tried)

    def _goodness(self, tried: Tried) -> float:
        value = 0.0 if tried.value is None else tried.value
        return value if self.judge.by_accuracy else -value

    def _open(self, seed: int) -> Study:
        try:
            import optuna
        except ImportError:
            raise ApercuError("tune needs an extra: pip install 'apercu[tune]'") from None
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / LOG
        try:
            storage = JournalStorage(JournalFileBackend(str(path), JournalFileOpenLock(str(path))))
            study = optuna.create_study(
                storage=storage,
                study_name="tune",
                direction="maximize" if self.judge.by_accuracy else "minimize",
                pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=FIRST),
                load_if_exists=True,
            )
        except (ValueError, KeyError, TypeError) as error:
            raise FormatError(f"{path} is damaged ({error}); start again with --overwrite") from error
        # With the number of trials, so that a search that goes on does not draw the same again.
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=6, seed=seed + len(study.trials))
        return study

    def _length(self, asked: Training, minutes: float) -> Training:
        """How a trial trains: as asked, else as the search began, else for its share of the budget."""
        if asked.epochs is None and asked.minutes is None:
            known = self.study.user_attrs.get("question", {}).get("training", {"minutes": SHARE * minutes})
            asked = dataclasses.replace(asked, epochs=known.get("epochs"), minutes=known.get("minutes"))
        return dataclasses.replace(asked, validations=2 * RUNGS)

    def _check(self) -> None:
        """See that the folder answers this question, or note it there; the first trials are the defaults."""
        names = ("epochs", "minutes", "batch", "seed")
        question = {
            "images": fingerprint([self.judge.data.train, self.judge.data.val]),
            "presets": list(self.space.presets),
            "settings": self.space.pinned | {"learning_rate": self.space.learning_rate},
            "training": {name: getattr(self.training, name) for name in names},
            "version of Apercu": version("apercu"),
        }
        known = self.study.user_attrs.get("question")
        if known is not None:
            check_question(known, question, self.folder)
            return
        self.study.set_user_attr("question", question)
        for preset in self.space.presets:
            self.study.enqueue_trial(self.space.usual(preset))

    def _take_up(self) -> None:
        """A trial that was cut off is tried again from its beginning."""
        from optuna.trial import TrialState

        for cut in self.study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
            self.study.tell(cut.number, state=TrialState.FAIL)
            self.study.enqueue_trial(cut.params)

    def _write_table(self) -> None:
        names = sorted({name for tried in self.tried for name in tried.choice.settings})
        measure = "accuracy" if self.judge.by_accuracy else "price"
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["trial", "state", measure, "preset", *names, "learning_rate", "seconds"])
        for t in self.tried:
            settings = [t.choice.settings.get(name, "") for name in names]
            writer.writerow([t.number, t.state, t.value, t.choice.preset, *settings, t.choice.learning_rate, t.seconds])
        write_atomically(self.folder / TABLE, text.getvalue().encode())


def _choice(trial: FrozenTrial) -> Choice:
    return Choice(**trial.user_attrs["choice"])
