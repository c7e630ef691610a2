"""Run a command line in this process, and keep what it said."""

from __future__ import annotations

import contextlib
import io
import json
from dataclasses import dataclass
from typing import Any

from apercu.cli import main


@dataclass
class Said:
    status: int
    out: str
    err: str

    @property
    def answer(self) -> dict[str, Any]:
        """The one JSON object on standard output, in which NaN is no number."""

        def refuse(name: str) -> None:
            raise AssertionError(f"{name} is not JSON")

        assert self.out.count("\n") == 1
        answer = json.loads(self.out, parse_constant=refuse)
        assert isinstance(answer, dict)
        return answer


def run(*arguments: object) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(argument) for argument in arguments])
    return Said(status, out.getvalue(), err.getvalue())
