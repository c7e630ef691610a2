"""A budget of time, a question that must stay the same, and words for both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from apercu import study
from apercu.errors import ApercuError
from apercu.study import Budget, TooLong, check_question, duration, many, to_the_end
from apercu.tracking import Progress


class Clock:
    """Time that passes when it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(study.time, "monotonic", lambda: self.now)

    def training(self, steps: int, seconds: float, known: bool = True) -> Iterator[Progress]:
        """A training of so many steps that each take so long."""
        for step in range(1, steps + 1):
            self.now += seconds
            yield Progress(step, steps if known else None, 0, step * seconds, {}, 1.0, None, [], {}, [])


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.nan, math.inf])
def test_minutes_must_be_a_positive_number(minutes: float) -> None:
    with pytest.raises(ApercuError, match="positive number"):
        Budget(minutes)


def test_without_minutes_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert Budget().left == math.inf
    to_the_end(Budget().watch(clock.training(100, 1000.0)))


def test_a_training_that_cannot_end_in_time_is_given_up_early(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    budget, begun = Budget(1), clock.now
    with pytest.raises(TooLong) as reason:
        to_the_end(budget.watch(clock.training(1000, 1.0)))
    assert reason.value.seconds == pytest.approx(1000)
    assert clock.now - begun <= study.STEPS


def test_one_that_fits_or_nearly_fits_is_left_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert len(list(Budget(1).watch(clock.training(58, 1.0)))) == 58
    assert len(list(Budget(1).watch(clock.training(64, 1.0)))) == 64
    assert len(list(Budget(1).watch(clock.training(1000, 1.0, known=False)))) == 1000


def test_another_question_is_refused_with_what_differs() -> None:
    asked = {"images": "a", "settings": {"dim": 4}}
    check_question(dict(asked), asked, Path("out"))
    with pytest.raises(ApercuError, match=r"other settings.*--overwrite"):
        check_question(asked | {"settings": {"dim": 8}}, asked, Path("out"))
    with pytest.raises(ApercuError, match="other images, settings"):
        check_question({}, asked, Path("out"))


def test_numbers_in_words() -> None:
    spans = [0, 0.04, 1, 10.4, 60, 150, 3600, 1e6]
    words = ["0 seconds", "0.04 seconds", "1 second", "10 seconds", "1 minute", "2.5 minutes", "1 hour", "278 hours"]
    assert [duration(seconds) for seconds in spans] == words
    assert [many(count, "label") for count in (0, 1, 1000, 1_234_567)] == [
        "0 labels",
        "1 label",
        "1,000 labels",
        "1,234,567 labels",
    ]
