"""The one exception for everything that a user can cause: what is wrong, and what to do about it."""

from __future__ import annotations


class ApercuError(ValueError):
    """A mistake that the user can mend; its message is one sentence with advice."""


class TrainingError(ApercuError):
    """Training cannot go on: a loss that is not finite, or a checkpoint that does not fit."""


class FormatError(ApercuError):
    """A model folder or file that is damaged, foreign, or from another version."""
