"""Damage done to images on purpose, so that a model learns to undo it.

A file in this folder is one kind of damage, and its name is what a person writes: `noise`, `blur`, `holes`, …
`parse` reads how they are put together.
"""

from apercu.corruptions._grammar import parse
from apercu.corruptions.base import Corruption

__all__ = ["Corruption", "parse"]
